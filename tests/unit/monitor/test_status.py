"""What `autopipe status` gathers and shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlip_autopipec.cli.tables import print_status
from mlip_autopipec.core.clock import iso_time
from mlip_autopipec.core.files import write_json
from mlip_autopipec.monitor.status import collect, problems
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.process import ProcessIdentity
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import WalkerState, write_state


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    run.create()
    return run


def killed(run: RunDirectory, name: str, state: str) -> None:
    """Leave the heartbeat of a process that was killed."""
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    write_json(
        run.heartbeats / f"{name}.json",
        {"name": name, "state": state, "pid": me.pid, "host": me.host, "process_start": me.start + "0", "counter": 1,
         "detail": {}, "updated": iso_time(0.0)},
    )  # fmt: skip


def walker(run: RunDirectory, name: str, state: str) -> None:
    run.walker(name).mkdir()
    write_state(run.walker(name), WalkerState(name, state=state, steps=1000))  # type: ignore[arg-type]


def test_killed_walkers_are_shown_as_gone(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    for name, state in (("w00", "running"), ("w01", "running"), ("w02", "halted"), ("w03", "done")):
        walker(run, name, state)
    killed(run, "w00", "running")
    Heartbeat(run.heartbeats / "w01.json", "w01").beat("running")
    facts = collect(run)
    assert {w["name"]: w["alive"] for w in facts["walkers"]} == {"w00": False, "w01": True, "w02": False, "w03": False}
    print_status(facts, problems(facts))
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("w0")}
    assert {name: "(gone)" in row for name, row in rows.items()} == {
        "w00": True, "w01": False, "w02": True, "w03": False,
    }  # fmt: skip

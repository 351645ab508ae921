"""What `autopipe status` gathers and shows."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mlip_autopipec.cli.statusview import print_status
from mlip_autopipec.core.clock import iso_time
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.monitor.problems import problems
from mlip_autopipec.monitor.status import collect
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.store.production import Production, ProductionState, write_production, write_walker
from mlip_autopipec.store.registry import FILES, Registry
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


def shown(run: RunDirectory, capsys: pytest.CaptureFixture[str], **options: bool) -> str:
    facts = collect(run)
    print_status(facts, problems(facts), **options)
    return capsys.readouterr().out


def publish(run: RunDirectory, count: int, labels: tuple[str, ...] = ()) -> Registry:
    registry = Registry(run.potentials)
    for _ in range(count):
        work = registry.new_work_folder()
        for name in FILES:
            (work / name).write_text("{}")
        registry.publish(work, {"task_ids": list(labels), "parent": None})
    return registry


def test_the_phase_of_a_stopped_run_does_not_look_like_one_at_work(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(run.state, {"generation": 1, "phase": "otf", "pending_tasks": 0})
    assert "stopped, phase otf" in shown(run, capsys)
    Heartbeat(run.heartbeats / "supervisor.json", "supervisor").beat("otf")
    assert "running, phase otf" in shown(run, capsys)
    Heartbeat(run.heartbeats / "supervisor.json", "supervisor").beat("draining")
    assert "draining, phase otf" in shown(run, capsys)


def test_a_pinned_version_is_shown_as_such(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    registry = publish(run, 2)
    assert "version v0002, labels" in shown(run, capsys)
    registry.set_current("v0001", pinned=True)
    assert "version v0001 (pinned, the newest is v0002)" in shown(run, capsys)
    assert collect(run)["pinned"] is True
    registry.set_current("v0001")
    assert "version v0001 (the newest is v0002)" in shown(run, capsys)


def test_labels_of_the_start_count(run: RunDirectory) -> None:
    publish(run, 1, ("a" * 20, "b" * 20))
    assert collect(run)["labels"] == 2
    Heartbeat(run.heartbeats / "trainer-worker.json", "trainer-worker").beat("idle", {"labels": 3})
    assert collect(run)["labels"] == 3


def test_temperatures_are_numbers_and_only_the_last_versions_are_listed(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(run, 8)
    run.walker("w00").mkdir()
    write_state(run.walker("w00"), WalkerState("w00", temperature=1200.0))
    out = shown(run, capsys)
    assert " 1200 " in out
    assert "v0003 " not in out
    assert "3 older: --all" in out
    assert all(f"v000{n}" in shown(run, capsys, all_versions=True) for n in range(1, 9))
    assert len(collect(run)["versions"]) == 8


@pytest.mark.parametrize("content", ["{", '{"version": "v0009", "sha256": "", "pinned": false}'])
def test_a_damaged_current_version_hides_nothing_else(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    registry = publish(run, 2)
    registry.current_file.write_text(content)
    walker(run, "w00", "done")
    out = shown(run, capsys)
    assert "w00" in out
    (line,) = [line for line in out.splitlines() if line.startswith("needs you: ")]
    assert str(registry.current_file) in line
    assert "the trainer repairs it" in line


def test_damaged_files_of_a_run_are_named(run: RunDirectory) -> None:
    registry = publish(run, 2)
    (registry.path("v0001") / "metrics.json").write_text("{")
    walker(run, "w00", "running")
    (run.walker("w00") / "state.json").write_text("{")
    run.state.write_text("[1]")
    lines = problems(collect(run))
    for word in ("v0001 is damaged", "walker w00", "state.json is damaged"):
        assert any(word in line for line in lines), lines


def test_a_stuck_walker_that_is_wanted_no_more_needs_nobody(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    walker(run, "w00", "done")
    walker(run, "w01", "stuck")
    assert any("w01 is stuck" in line for line in problems(collect(run)))
    facts = collect(run, {"w00"})
    assert problems(facts) == []
    print_status(facts, [])
    assert "otf.walkers asks for it no more" in capsys.readouterr().out


def test_productions_are_shown_with_what_makes_them_doubtful(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run.production / "v0003"
    plan = {"steps": 500}
    write_production(folder, Production("v0003", "", "ace", 5.0, 10, 100, {"w00": plan, "w01": plan}))
    for name in ("w00", "w01"):
        (folder / name).mkdir()
    state = ProductionState("w00", "v0003", step=200, steps=500, frames=3, looks=21, gamma=7.25, gamma_step=130)
    write_walker(folder / "w00", replace(state, above=2, first_above=120, last_above=130))
    text = shown(run, capsys)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("w0")}
    assert rows["w00"] == ["w00", "stopped", "200/500", "3", "7.25", "130", "2/21"]
    assert rows["w01"][:4] == ["w01", "stopped", "0/500", "0"]
    assert "warning: w00: gamma above 5 at 2 of 21 looks, steps 120 to 130 (largest 7.25 at step 130)" in text
    (folder / "w01" / "state.json").write_text("{}")
    assert any("production v0003" in line for line in collect(run)["damaged"])

"""Another chance for what gave up: asked for at the command line, given by the process that owns the files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.core.events import read_events
from mlip_autopipec.daemons.otf_runner import OtfRunner
from mlip_autopipec.daemons.reviving import asleep, revivable
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.stages.end import EndSettings
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import RetentionSettings
from mlip_autopipec.store.walkerstate import WalkerState, read_state, write_state


class Leaves:
    """A walker's process that is gone at once."""

    pid = 0

    def poll(self) -> Any:
        return SimpleNamespace(error=None, value=0)

    def close(self) -> None: ...


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    run.create()
    for name, state in (("w00", "stuck"), ("w01", "done"), ("w02", "failed")):
        run.walker(name).mkdir()
        write_state(run.walker(name), WalkerState(name, state=state, step=70, reason="no luck", reseeds=2))  # type: ignore[arg-type]
    return run


def runner(run: RunDirectory, started: list[str]) -> OtfRunner:
    config = SimpleNamespace(otf=OtfSettings(walkers=3), end=EndSettings(), retention=RetentionSettings())
    made = OtfRunner(run, config)  # type: ignore[arg-type]

    def start_walker(seat: Any) -> None:
        started.append(seat.plan.name)
        seat.child = Leaves()

    made._start_walker = start_walker  # type: ignore[method-assign]
    made.start()
    return made


def test_who_gave_up_is_named_with_the_reason(run: RunDirectory) -> None:
    assert set(revivable(run)) == {"w00", "w02"}
    assert "stuck at step 70: no luck" in revivable(run, ["w00"])["w00"]
    for wrong, word in (("w01", "it is done"), ("w09", "no such walker"), ("trainer", "not given up")):
        with pytest.raises(NotFoundError, match=word):
            revivable(run, [wrong])
    Heartbeat(run.heartbeats / "trainer-worker.json", "trainer-worker").beat("failing", {"error": "no memory"})
    assert "no memory" in revivable(run, ["trainer"])["trainer-worker"]
    assert not asleep(run)


@pytest.mark.parametrize("running", [True, False])
def test_a_walker_that_gave_up_starts_again(run: RunDirectory, running: bool) -> None:
    started: list[str] = []
    made = runner(run, started)
    control = Control(run.control)
    if running:
        for now in range(3):
            made.step(now)
        assert made.status()[0] == "finished"
        assert sorted(started) == ["w00", "w01", "w02"]
        started.clear()
    control.ask("revive-w00")
    control.ask("revive-w01")  # by hand; it has nothing to do any more
    made.step(10.0)
    state = read_state(run.walker("w00"))
    assert state is not None
    assert (state.state, state.reason, state.reseeds, state.step) == ("starting", "", 0, 70)
    assert "w00" in started
    assert not control.wants("revive-w00")
    assert not control.wants("revive-w01")
    (event,) = read_events(run.events / "otf-runner.jsonl")
    assert (event["event"], event["walker"], event["was"]) == ("walker_revived", "w00", "stuck")
    untouched = read_state(run.walker("w01"))
    assert untouched is not None
    assert untouched.state == "done"

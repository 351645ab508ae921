"""What a walker says of itself: at once what it resumes from, once a second what is only to be seen."""

from __future__ import annotations

from pathlib import Path

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.walkerrecord import WalkerRecord
from mlip_autopipec.stages.watch import OtfSettings, walker_plans
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.walkerstate import WalkerState, read_state


def test_news_are_written_once_a_second_and_safe_states_at_once(tmp_path: Path) -> None:
    clock = ManualClock()
    (plan,) = walker_plans(OtfSettings())
    record = WalkerRecord(tmp_path, plan, Registry(tmp_path / "potentials"), EventLog(tmp_path, "w00"), clock)

    def on_disk() -> WalkerState:
        state = read_state(tmp_path)
        assert state is not None
        return state

    record.note(step=10)
    record.tell()
    assert on_disk().step == 10
    clock.advance(0.9)
    record.note(step=20)
    record.tell()
    assert on_disk().step == 10
    clock.advance(0.2)
    record.tell()
    assert (on_disk().step, on_disk().updated) == (20, clock.wall())
    record.save(step=30, snapshot="snapshots/0000000030-1.restart", snapshot_step=30)
    assert on_disk() == record.state
    clock.advance(0.9)
    record.note(step=40)
    record.tell()  # somebody has just been told
    assert on_disk().step == 30

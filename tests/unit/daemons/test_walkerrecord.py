"""What a walker says of itself: at once what it resumes from, once a second what is only to be seen."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.walkerrecord import WalkerRecord
from mlip_autopipec.stages.watch import OtfSettings, walker_plans
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.walkerstate import WalkerState, read_state


def test_what_is_written_behind_md_is_named_once_it_is_there(tmp_path: Path) -> None:
    (plan,) = walker_plans(OtfSettings())
    registry, events = Registry(tmp_path / "potentials"), EventLog(tmp_path, "w00")
    record = WalkerRecord(tmp_path, plan, registry, events, ManualClock())
    record.save(step=10)
    written, order = threading.Event(), []

    def first() -> None:
        assert written.wait(30)
        order.append(read_state(tmp_path))

    record.save_behind(first, lambda: order.append(read_state(tmp_path)), step=20)
    record.tell()  # waits for nothing
    assert (record.state.step, order) == (20, [])
    written.set()
    record.settle()
    before, after = order
    assert before is not None
    assert after is not None
    assert (before.step, after.step) == (10, 20)

    def full() -> None:
        raise OSError(28, "No space left on device")

    record.save_behind(full, lambda: None, step=30)
    with pytest.raises(OSError, match="No space"):
        record.save(step=40)
    on_disk = read_state(tmp_path)
    assert on_disk is not None
    assert on_disk.step == 20


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

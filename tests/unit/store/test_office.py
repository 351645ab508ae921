"""The office that only one process of all hosts holds."""

import json
import os

import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.store.office import Office

LEASE_S = 120.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".trainer.lease"


def pretend(path, **changes):
    """Let the holder be a process of another host, or another one of this host."""
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(record))


def test_one_holder_at_a_time(path, clock):
    first, second = Office(path, LEASE_S, clock), Office(path, LEASE_S, clock)
    assert first.holder() == "nobody"
    assert first.take()
    assert first.take()
    assert not second.take()
    assert f"process {os.getpid()} on " in second.holder()
    for _ in range(40):
        clock.advance(LEASE_S / 10)
        first.beat()
        assert not second.take()
    first.drop()
    first.drop()
    assert not first.held
    assert second.take()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_dead_process_of_this_host_is_replaced_at_once(path, clock):
    Office(path, LEASE_S, clock).take()
    pretend(path, pid=2**22 + 1)
    assert Office(path, LEASE_S, clock).take()


def test_a_silent_holder_of_another_host_is_replaced_after_its_lease(path, clock):
    zombie, heir = Office(path, LEASE_S, clock), Office(path, LEASE_S, clock)
    assert zombie.take()
    pretend(path, host="elsewhere")
    assert not heir.take()
    clock.advance(LEASE_S - 1)
    assert not heir.take()
    clock.advance(1)
    assert heir.take()
    content = path.read_bytes()
    with pytest.raises(QueueError, match=r"taken over by process \d+ on") as error:
        zombie.beat()
    assert error.value.transient
    assert path.read_bytes() == content
    zombie.drop()
    assert path.exists()
    clock.advance(LEASE_S)
    heir.beat()


def test_a_late_heir_gives_back_what_he_took_from_the_earlier_one(path, clock, monkeypatch):
    """He judged the dead holder's file, and then moved the new holder's away."""
    zombie, early, late = (Office(path, LEASE_S, clock) for _ in range(3))
    zombie.take()
    pretend(path, host="elsewhere")
    assert not early.take()
    assert not late.take()
    clock.advance(LEASE_S)
    look = late._look
    monkeypatch.setattr(late, "_look", lambda: (look(), early.take())[0])
    assert not late.take()
    clock.advance(LEASE_S / 2)
    early.beat()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("after", [True, False])
def test_a_link_that_reports_an_error(path, clock, monkeypatch, after):
    link = os.link

    def broken(source, target):
        if after:
            link(source, target)
        raise FileNotFoundError("lost reply")

    monkeypatch.setattr(os, "link", broken)
    office = Office(path, LEASE_S, clock)
    assert office.take() is after
    assert path.exists() is after


def test_a_damaged_file_is_replaced_after_a_lease(path, clock):
    path.write_text("rubbish")
    office = Office(path, LEASE_S, clock)
    assert not office.take()
    clock.advance(LEASE_S)
    assert office.take()


def test_a_holder_whose_file_was_removed_learns_of_it(path, clock):
    office = Office(path, LEASE_S, clock)
    with pytest.raises(QueueError, match="not held"):
        office.beat()
    office.take()
    path.unlink()
    office.beat()  # just now
    clock.advance(LEASE_S)
    with pytest.raises(QueueError, match="taken over by nobody"):
        office.beat()

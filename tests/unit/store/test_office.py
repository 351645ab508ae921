"""The office that only one process of all hosts holds."""

import errno
import json
import os

import psutil
import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.core.process import ProcessIdentity
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


def test_a_clock_that_was_set_makes_nobody_dead(path, clock, monkeypatch):
    """psutil tells the start of a process by the wall clock."""
    holder, other = Office(path, LEASE_S, clock), Office(path, LEASE_S, clock)
    assert holder.take()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 3600.0)
    assert not other.take()
    assert other.holder_lives


@pytest.mark.parametrize("changes", [{"start": "0badb007-1-17"}, {"start": None, "process_start": 1.5}])
def test_a_holder_of_another_boot_or_of_an_older_version_is_waited_for(path, clock, changes):
    Office(path, LEASE_S, clock).take()
    pretend(path, pid=2**22 + 1, **changes)
    heir = Office(path, LEASE_S, clock)
    assert not heir.take()
    assert not heir.holder_lives
    clock.advance(LEASE_S)
    assert heir.take()


def test_a_holder_that_moves_lives(path, clock):
    holder, other = Office(path, LEASE_S, clock), Office(path, LEASE_S, clock)
    holder.take()
    pretend(path, host="elsewhere")
    assert not other.take()
    assert not other.holder_lives
    pretend(path, counter=2)
    assert not other.take()
    assert other.holder_lives


def test_who_works_for_the_holder_learns_that_it_is_another(path, clock):
    holder, helper = Office(path, LEASE_S, clock), Office(path, LEASE_S, clock)
    me = ProcessIdentity.own()
    assert not helper.names(me)
    holder.take()
    assert helper.names(me)
    pretend(path, host="elsewhere")
    assert not helper.names(me)
    path.write_text("rubbish")
    assert helper.names(me)  # nothing is known
    path.unlink()
    assert not helper.names(me)


@pytest.mark.parametrize(("number", "gone"), [(errno.ENOENT, True), (errno.EIO, False), (errno.EACCES, False)])
def test_an_office_that_cannot_be_looked_at_is_not_lost(path, clock, monkeypatch, number, gone):
    office = Office(path, LEASE_S, clock)
    office.take()
    clock.advance(LEASE_S)
    opened = os.open

    def broken(file, *rest):
        if file == path:
            raise OSError(number, os.strerror(number))
        return opened(file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", broken)
        if gone:
            with pytest.raises(QueueError, match="taken over"):
                office.beat()
        else:
            office.beat()
    assert office.held is not gone


def test_why_it_is_not_taken_is_told(path, clock, monkeypatch, caplog):
    def refused(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert not Office(path, LEASE_S, clock).take()
    assert "not taken: [Errno 1] Operation not permitted" in caplog.text


def test_temporary_files_of_killed_processes_go_after_a_lease(path, clock):
    left = path.with_name(f"{path.name}.0123456789ab.tmp")
    left.write_text("")
    office = Office(path, LEASE_S, clock)
    office.take()
    fresh = path.with_name(f"{path.name}.ba9876543210.tmp")
    fresh.write_text("")
    clock.advance(LEASE_S / 2)
    office.beat()
    assert left.exists()
    clock.advance(LEASE_S / 2)
    office.beat()
    assert not left.exists()
    assert fresh.exists()


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

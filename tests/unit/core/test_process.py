"""Identity of processes: a reused process id is never mistaken."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace

from mlip_autopipec.core.process import ProcessIdentity, signal_name


def test_identity_of_this_process_round_trips() -> None:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    assert ProcessIdentity.from_dict(me.to_dict()) == me
    assert me == ProcessIdentity.of(os.getpid())
    assert me.is_local()
    assert me.alive()


def test_half_an_identity_is_none() -> None:
    assert ProcessIdentity.from_dict({"host": "a", "pid": "1", "start": "x"}) is None
    assert ProcessIdentity.from_dict({}) is None


def test_a_reused_id_is_somebody_else_and_is_never_signalled() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    boot, namespace, ticks = identity.start.split("-")
    for other in (
        replace(identity, start=f"{boot}-{namespace}-{int(ticks) - 1}"),  # an earlier process of this id
        replace(identity, start=f"00000000-{namespace}-{ticks}"),  # before the last boot
        replace(identity, host="elsewhere"),
    ):
        assert not other.alive()
        assert not other.send(signal.SIGKILL)
    assert process.poll() is None
    assert identity.send(signal.SIGKILL, group=True)  # leads no group: only itself, not the group of the test
    assert process.wait() == -signal.SIGKILL
    assert not identity.send(signal.SIGKILL)


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.alive()
    process.wait()
    assert ProcessIdentity.of(process.pid) is None


def test_a_group_is_signalled_through_its_leader() -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, process_group=0)
    assert leader.stdout is not None
    member = ProcessIdentity.of(int(leader.stdout.readline()))
    identity = ProcessIdentity.of(leader.pid)
    assert identity is not None
    assert member is not None
    assert identity.send(signal.SIGKILL, group=True)
    leader.wait()
    leader.stdout.read()  # ends when the last holder of the pipe is dead
    leader.stdout.close()


def test_every_signal_has_a_name():
    assert signal_name(signal.SIGKILL) == "SIGKILL"
    assert signal_name(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"

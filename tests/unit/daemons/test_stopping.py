"""Ending a run of which some processes are on other hosts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.daemons import stopping
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    run.create()
    return run


def beat(run: RunDirectory, name: str, state: str, identity: ProcessIdentity) -> None:
    record = {"host": identity.host, "pid": identity.pid, "process_start": identity.start, "state": state, "counter": 1}
    write_json(run.heartbeats / f"{name}.json", {"name": name, "detail": {}, "updated": "", **record})


def test_a_silent_process_of_another_host_is_told_not_killed(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_SILENT_S", 0.3)
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    elsewhere = ProcessIdentity("elsewhere", me.pid, me.start)
    beat(run, "remote", "idle", elsewhere)
    beat(run, "remote-stopped", "stopped", elsewhere)
    beat(run, "long-dead", "idle", ProcessIdentity(me.host, me.pid, me.start + "0"))
    assert [process.name for process in stopping.living(run)] == ["remote"]
    report = stopping.end(run, timeout_s=20)
    assert report == stopping.Report(stopped=[], killed=[], unknown=["remote"])
    assert Control(run.control).wants("stop")
    # It is not waited for, and not told of, again and again; unless it beats again.
    assert stopping.end(run, timeout_s=20) == stopping.Report()
    beat(run, "remote", "idle", elsewhere)
    assert [process.name for process in stopping.living(run)] == ["remote"]


def test_a_start_forgets_the_dead_of_other_names(run: RunDirectory) -> None:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    dead = ProcessIdentity(me.host, me.pid, me.start + "0")
    beat(run, "dft-host-17", "labelling", dead)
    beat(run, "dft-far-18", "labelling", ProcessIdentity("far", 18, me.start))
    beat(run, "trainer-worker", "training", dead)
    beat(run, "by-hand", "idle", me)
    assert stopping.forget_strangers(run, {"trainer-worker"}) == ["dft-far-18", "dft-host-17"]
    assert sorted(path.stem for path in run.heartbeats.glob("*.json")) == ["by-hand", "trainer-worker"]


def test_damaged_heartbeats_are_nobody(run: RunDirectory) -> None:
    (run.heartbeats / "x.json").write_text("{}")
    assert stopping.living(run) == []


def test_a_process_that_even_sigkill_does_not_end_is_told(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a dead file server; here the signals just do not arrive."""
    monkeypatch.setattr(stopping, "_DYING_S", 0.3)
    monkeypatch.setattr(ProcessIdentity, "send", lambda self, number, group=False: True)
    beat(run, "stuck", "labelling", ProcessIdentity.own())
    assert stopping.end(run, timeout_s=0.1) == stopping.Report(stopped=[], killed=[], unknown=["stuck"])

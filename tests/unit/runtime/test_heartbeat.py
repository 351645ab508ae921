"""Signs of life."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.runtime.heartbeat import Heartbeat, heartbeat_identity, read_heartbeat


def test_beats_once_a_second_or_when_the_state_changes(tmp_path: Path) -> None:
    clock = ManualClock(0.0)
    path = tmp_path / "w.json"
    heartbeat = Heartbeat(path, "w", clock=clock)
    assert heartbeat.beat("idle", {"n": 1})
    assert not heartbeat.beat("idle", {"n": 2})
    assert heartbeat.beat("working", {"n": 3})
    clock.advance(1.0)
    assert heartbeat.beat("working", {"n": 4})
    record = read_heartbeat(path)
    assert record is not None
    assert (record["name"], record["counter"], record["state"], record["detail"]) == ("w", 3, "working", {"n": 4})
    assert record["updated"] == "1970-01-01T00:00:01.000Z"


def test_it_says_which_process_wrote_it(tmp_path: Path) -> None:
    Heartbeat(tmp_path / "w.json", "w").beat("idle")
    record = read_heartbeat(tmp_path / "w.json")
    assert record is not None
    identity = heartbeat_identity(record)
    assert identity is not None
    assert identity.pid == os.getpid()
    assert identity.alive()


def test_missing_and_damaged_files_are_none(tmp_path: Path) -> None:
    assert read_heartbeat(tmp_path / "none.json") is None
    for text in ("{", "[]"):
        (tmp_path / "bad.json").write_text(text)
        assert read_heartbeat(tmp_path / "bad.json") is None


def test_a_place_that_cannot_be_written_is_a_warning_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heartbeat = Heartbeat(tmp_path / "gone" / "w.json", "w")
    assert heartbeat.beat("idle")
    assert "not written" in caplog.text


@pytest.mark.parametrize("key", ["pid", "host", "process_start", "counter", "state", "detail", "name", "updated"])
def test_half_a_heartbeat_is_none(tmp_path: Path, key: str) -> None:
    heartbeat = Heartbeat(tmp_path / "x.json", "x")
    heartbeat.beat("idle")
    record = read_heartbeat(heartbeat.path)
    assert record is not None
    del record[key]
    heartbeat.path.write_text(json.dumps(record))
    assert read_heartbeat(heartbeat.path) is None


def test_a_heartbeat_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    assert read_heartbeat(tmp_path / "x.json") is None

"""A short `scripts/chaos nfs`: two hosts lose nothing while replies, connections, server and workers are lost."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.store.results import make_result

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.parametrize("version", ["3", "4.2"])
def test_two_hosts_on_nfs(version: str) -> None:
    plan = f"--versions {version} --tasks 150 --seconds 20 --workers 2 --seed 7 --json"
    words = [sys.executable, "-P", "-m", "chaos_runs.nfs", *plan.split()]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, env=environment)
    if done.returncode == 78:
        pytest.skip(done.stderr.strip())
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["bad"] == []
    assert done.returncode == 0
    (report,) = found["runs"]
    assert report["states"] == {"done": 150}
    assert report["lost"] == report["duplicated"] == 0
    assert min(report["replies_lost"], report["connections_cut"], report["server_kills"], report["worker_kills"]) > 0


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import from the folder `nfs_lab`, as the script does."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def test_ledger_finds_what_was_lost_and_doubled(tmp_path: Path, lab: Callable[[str], Any]) -> None:
    host, ledger = lab("chaos_runs.nfs_lab.host"), lab("chaos_runs.nfs_lab.ledger")
    tasks, run, logs = host.tasks_of(6), tmp_path / "run", tmp_path / "logs"
    good, gone, twice, copied, torn, unlabelled = tasks
    queue = host.open_queue(run, "w1", 15.0)
    logs.mkdir()
    (logs / "host1").write_text("serves host1\nkilled w2-7\n")
    (logs / "host1-w2-7").write_text(f"start {good.id}\n")
    lines = []
    for number, task in enumerate(tasks):
        queue.publish(task)
        label = Label(-1.0 - number, np.zeros((2, 3)), None, {})
        if task is not unlabelled:
            queue.complete(queue.claim(), make_result(task, label, "w1", host.CREATED))
        lines += [f"start {task.id}", f"first {task.id} {label.energy!r}"]
    lines += [f"start {twice.id}", f"first {twice.id} -9.0"]
    (logs / "host1-w1-8").write_text("\n".join(lines) + "\n")
    queue.find(gone.id).unlink()
    shutil.copy(queue.find(copied.id), queue.layout.held)
    queue.find(torn.id).write_text("{")
    found = ledger.count(run, logs, {"host1"}, tasks)
    assert (found["lost"], found["duplicated"], found["torn"], found["worker_kills"]) == (2, 3, 1, 1)
    assert (found["re_executions"], found["re_executions_without_cause"]) == (2, 1)


def test_proxy_loses_replies_and_counts_them(lab: Callable[[str], Any]) -> None:
    proxy = lab("chaos_runs.nfs_lab.proxy")
    counter = proxy.ReplyCounter()
    records = b"".join(struct.pack(">I", (1 << 31) | size) + bytes(size) for size in (8, 300, 0, 5))
    assert sum(counter.feed(records[at : at + 7]) for at in range(0, len(records), 7)) == 4
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as spare:
        listen = spare.getsockname()
        spare.close()
        thief = proxy.Proxy(listen, server.getsockname())
        client = socket.create_connection(listen)
        peer, _ = server.accept()
        client.sendall(b"call")
        assert peer.recv(4) == b"call"
        peer.sendall(records)
        assert client.recv(len(records), socket.MSG_WAITALL) == records
        thief.swallow(True)
        peer.sendall(records)
        while thief.replies_lost < 4:
            time.sleep(0.01)
        thief.cut()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert (thief.replies_lost, thief.connections_cut) == (4, 1)
        thief.close()
        client.close()
        peer.close()

"""Runs of the real command line, as a user types it, for the flow tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

AUTOPIPE = Path(sys.executable).with_name("autopipe")


def autopipe(*arguments: str | Path, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run `autopipe ARGUMENTS`."""
    done = subprocess.run(
        [str(AUTOPIPE), *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"autopipe {arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def status(run: Path) -> dict[str, Any]:
    return dict(json.loads(autopipe("status", "-C", run, "--json", check=False).stdout))


def edit_config(run: Path, **sections: dict[str, Any]) -> None:
    """Overlay sections of a run's `autopipe.yaml`."""
    file = run / "autopipe.yaml"
    config = yaml.safe_load(file.read_text())
    for section, values in sections.items():
        config.setdefault(section, {}).update(values)
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def merged_events(run: Path) -> list[dict[str, Any]]:
    file = run / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 120) -> Any:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError(what)


def processes_of(run: Path) -> list[psutil.Process]:
    """Return every process of this user that works for the run: it names it, or it stems from one that does."""
    named = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and any(str(run) in word for word in words):
            named.append(process)
    return named + [child for p in named for child in _children(p) if child not in named]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []

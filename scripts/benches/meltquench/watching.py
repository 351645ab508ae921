"""What `autopipe status` says of a run, again and again, and what of it makes no sense to a person who looks."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

# s; a walker that says `running` moves within this time, and one that starts says what it waits for.
_STILL_S: Final = 20.0
# s; so long a run may take to begin.
_START_S: Final = 30.0
_ENDED: Final = ("done", "stuck", "failed")


@dataclass(frozen=True)
class Look:
    """One answer of `autopipe status --json`.

    Attributes
    ----------
    at : s since the start of the run
    took : s until the answer was there
    code : exit code
    facts : the answer; None if it was no JSON
    """

    at: float
    took: float
    code: int
    facts: dict[str, Any] | None


def look(autopipe: Path, run: Path, begin: float) -> Look:
    """Ask once."""
    asked = time.monotonic()
    done = subprocess.run([autopipe, "status", "-C", run, "--json"], capture_output=True, text=True, check=False)
    try:
        facts = json.loads(done.stdout)
    except json.JSONDecodeError:
        facts = None
    return Look(asked - begin, time.monotonic() - asked, done.returncode, facts)


@dataclass
class Judge:
    """Compares each answer with the ones before."""

    walkers: tuple[str, ...]
    _moved: dict[str, tuple[int, float]] = field(default_factory=dict)

    def complaints(self, seen: Look) -> list[str]:
        """Return what a person would not understand, or would be misled by."""
        if seen.facts is None or seen.code not in (0, 3):
            return [f"no answer (exit code {seen.code})"]
        facts, found = seen.facts, []
        states = {walker["name"]: walker for walker in facts["walkers"]}
        over = all(states.get(name, {}).get("state") in _ENDED for name in self.walkers)
        if seen.at > _START_S and facts["activity"] != "running" and not over:
            found.append(f"the run is {facts['activity']}, and not over")
        found += [f"{d['name']} is {d['state']}, and gone" for d in facts["daemons"] if not d["alive"]]
        found += facts["damaged"]
        if bool(seen.code == 3) != bool(facts["problems"]):
            found.append(f"exit code {seen.code} with {len(facts['problems'])} problems")
        for name in self.walkers:
            found += self._of_walker(name, states.get(name), seen.at)
        return found

    def _of_walker(self, name: str, walker: dict[str, Any] | None, at: float) -> list[str]:
        if walker is None:
            return [f"{name} is not there"] if at > _START_S else []
        if walker["state"] in _ENDED:
            return [] if walker["reason"] else [f"{name} is {walker['state']} for no reason"]
        if not walker["alive"] and at > _START_S:
            return [f"{name} is {walker['state']}, and its process is gone"]
        step, since = self._moved.get(name, (-1, at))
        if walker["step"] != step or walker["state"] != "running":
            self._moved[name] = (walker["step"], at)
            since = at
        if walker["state"] == "running" and at - since > _STILL_S:
            return [f"{name} says running, and stands at step {step} for {at - since:.0f} s"]
        if walker["state"] != "running" and not walker["waiting_for"] and at > _START_S:
            return [f"{name} is {walker['state']} and does not say what it waits for"]
        return []


@dataclass
class Load:
    """Seconds of CPU: of the machine, of what others took from it, and of the run's processes."""

    supervisor: int
    _first: Any = field(default_factory=lambda: psutil.cpu_times())
    _begin: float = field(default_factory=time.monotonic)
    _spent: dict[tuple[int, float], tuple[str, float]] = field(default_factory=dict)

    def look(self) -> None:
        """Note what every process of the run has used: those that end take their numbers with them."""
        try:
            root = psutil.Process(self.supervisor)
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                times = process.cpu_times()
                self._spent[process.pid, process.create_time()] = (_role(process), times.user + times.system)
            except psutil.NoSuchProcess:
                continue

    def shares(self) -> dict[str, float]:
        """Return CPUs in use on average, by whom."""
        seconds, now = time.monotonic() - self._begin, psutil.cpu_times()
        idle = (now.idle - self._first.idle) + (now.iowait - self._first.iowait)
        found = {"this machine has": float(psutil.cpu_count() or 1), "idle": idle / seconds}
        found["taken by other guests"] = (now.steal - self._first.steal) / seconds
        for role, used in self._spent.values():
            found[role] = found.get(role, 0.0) + used / seconds
        return found


def _role(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    for name in ("supervisor", "dft_worker", "trainer_worker", "otf_runner"):
        if f"autopipe_services.{name}" in words:
            return f"run: {name}"
    parent = process.parent()
    return "run: children" if parent is None else f"run: children of {_role(parent).removeprefix('run: ')}"

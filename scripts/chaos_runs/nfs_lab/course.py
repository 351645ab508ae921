"""The course of one run: two guests work on one exported queue, while replies, connections and the server are lost."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from chaos_runs.nfs_lab.host import open_queue, tasks_of
from chaos_runs.nfs_lab.ledger import count
from chaos_runs.nfs_lab.machine import PROXY_PORT, Guest
from chaos_runs.nfs_lab.proxy import Proxy
from chaos_runs.nfs_lab.server import ADDRESS, NFS_PORT, Server

HOSTS: Final = 2
_CLOCK_AHEAD_S: Final = 3600
_BOOT_S: Final = 60.0
_HALT_S: Final = 60.0
_SWALLOW_S: Final = 0.15
# One fault in so many kills the server, too.
_KILL_EVERY: Final = 5


class Course:
    """One run.

    Parameters
    ----------
    lab
        An empty folder of its own.
    version
        Of NFS: "3" or "4.2".
    plan
        `tasks`, `seconds` (of faults), `workers` (for each host), `lease` (s), `pause` (between faults, s), `seed`.
    preload
        A library that the guests need on this CPU.
    """

    def __init__(self, lab: Path, version: str, plan: dict[str, Any], preload: Path | None) -> None:
        self.lab = lab
        self.plan = plan
        self.version = version
        self.rng = random.Random(plan["seed"])
        self.faults = 0
        self.tasks: int = plan["tasks"]
        self.server = Server(lab)
        self.server.start()
        self.proxy = Proxy((ADDRESS, PROXY_PORT), (ADDRESS, NFS_PORT))
        self.queue = open_queue(self.server.export / "run", "driver", plan["lease"])
        (lab / "logs").mkdir()
        (lab / "plan.json").write_text(json.dumps({**plan, "hosts": HOSTS, "publish_s": 0.8 * plan["seconds"]}))
        host = Path(__file__).with_name("host.py")
        self.guests = [
            Guest(
                lab,
                number,
                version=version,
                export=self.server.export,
                clock_s=_CLOCK_AHEAD_S * (number - 1),
                command=[
                    "env", "NUMBA_THREADING_LAYER=workqueue", "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1",
                    f"PYTHONPATH={host.parents[2]}", sys.executable, "-P", str(host), str(lab), str(number),
                ],
                preload=preload,
            )
            for number in range(1, HOSTS + 1)
        ]  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Return the counts of the whole run."""
        plan = self.plan
        for guest in self.guests:
            guest.boot(_BOOT_S + 2 * plan["seconds"] + 14 * plan["lease"] + _HALT_S)
        self._wait(_BOOT_S, lambda: all((self.lab / "logs" / guest.name).exists() for guest in self.guests))
        begin = time.monotonic()
        self._rage(begin + plan["seconds"])
        (self.lab / "calm").touch()
        self._wait(plan["seconds"] + 4 * plan["lease"], self._is_labelled)
        wall_s = time.monotonic() - begin
        # What was moved by hand is put back when it was seen unchanged for a lease, and other hosts see it late.
        self._wait(8 * plan["lease"], self._is_tidy)
        tidy_s = time.monotonic() - begin - wall_s
        trouble = [f"{guest.name} ended: {guest.said()}" for guest in self.guests if not guest.runs]
        (self.lab / "stop").touch()
        trouble += [f"{guest.name} does not halt: {guest.said()}" for guest in self.guests if not guest.wait(_HALT_S)]
        names = {guest.name for guest in self.guests}
        found = count(self.server.export / "run", self.lab / "logs", names, tasks_of(plan["tasks"]))
        found["errors"] += trouble
        return {
            "nfs": self.version,
            "tasks": plan["tasks"],
            "hosts": HOSTS,
            "processes": plan["workers"],
            "wall_s": round(wall_s, 1),
            "tasks_per_s": round(plan["tasks"] / wall_s, 1),
            "tidy_s": round(tidy_s, 1),
            "faults": self.faults,
            "replies_lost": self.proxy.replies_lost,
            "connections_cut": self.proxy.connections_cut,
            "server_kills": self.server.kills,
            **found,
        }

    def close(self) -> None:
        """End all that was started."""
        for guest in self.guests:
            guest.stop()
        self.server.stop()
        self.proxy.close()

    def _wait(self, limit_s: float, condition: Any) -> None:
        """Wait until the condition holds, or the guests have gone, or time is over: the counts will tell."""
        give_up = time.monotonic() + limit_s
        while not condition() and time.monotonic() < give_up and all(guest.runs for guest in self.guests):
            time.sleep(0.2)

    def _is_labelled(self) -> bool:
        return len(list(self.queue.results.ids())) == self.tasks

    def _is_tidy(self) -> bool:
        counts = self.queue.counts()
        return counts["done"] == self.tasks == sum(counts.values())

    def _rage(self, end: float) -> None:
        while time.monotonic() < end and all(guest.runs for guest in self.guests):
            time.sleep(self.rng.uniform(0.5, 1.5) * self.plan["pause"])
            self.faults += 1
            self._lose_replies(kill=self.faults % _KILL_EVERY == 0)

    def _lose_replies(self, kill: bool) -> None:
        """Let the server do what it is asked for, but tell nobody; then everybody has to connect and ask again."""
        self.proxy.swallow(True)
        time.sleep(_SWALLOW_S)
        if kill:
            # Now it does not know any more, either, whom it owes which reply.
            self.server.kill()
        self.proxy.cut()
        self.proxy.swallow(False)
        if kill:
            self.server.start()


def run_version(version: str, plan: dict[str, Any], preload: Path | None) -> dict[str, Any]:
    """Do one run in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="nfs-") as folder,
        contextlib.closing(Course(Path(folder), version, plan, preload)) as course,
    ):
        return course.run()

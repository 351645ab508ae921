"""An MD step of a walker, as its process makes it, beside one of bare MD with the same evaluator: in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from parts import SOLID, Potentials, crystal, make_run, publish, say

from mlip_autopipec.core.files import append_line
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.otf_runner import build_walker, dimension_of, md_settings
from mlip_autopipec.daemons.walker import Walker
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.serve import Outcome, serve
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.extxyz import text_of
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import WalkerState, write_state

_NEVER = 10**9
# By the clock of the wall, and by that of the process, which does not see the machine's other guests and the disk.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PARTS = ("evaluation", "gamma", "list", "python", "lammps")


class Turn:
    """A walker's own loop until it has made so many steps more."""

    def __init__(self, walker: Walker, steps: int) -> None:
        self._walker = walker
        self._until = walker.state.snapshot_step + steps

    def start(self) -> None:
        """The walker has been started."""

    def step(self, now: float) -> Outcome:
        if self._walker.state.snapshot_step >= self._until:
            return Outcome.DONE
        return self._walker.step(now)

    def drain(self) -> None:
        self._walker.drain()

    def close(self) -> None:
        """The walker goes on in the next turn."""


class Walking:
    """A walker with everything on: gamma, snapshots, trajectory, state, heartbeat, the look for wishes."""

    def __init__(self, run: RunDirectory, walker: Walker) -> None:
        self.walker = walker
        self._heartbeat = Heartbeat(run.heartbeats / "w00.json", "w00")
        self._control = Control(run.control)
        walker.start()

    def go(self, steps: int) -> int:
        before = self.walker.state.snapshot_step
        code = serve(Turn(self.walker, steps), heartbeat=self._heartbeat, stop=lambda: self._control.wants("stop"))
        if code or self.walker.state.state != "running":
            raise SystemExit(f"the walker ended in the middle of it: {self.walker.state}")
        return self.walker.state.snapshot_step - before


class Bare:
    """LAMMPS and the bridge, without gamma, snapshots or anything else."""

    def __init__(self, md: LammpsMD) -> None:
        self.md = md

    def go(self, steps: int) -> int:
        self.md.run(steps)
        return steps


def measure(folder: Path, potentials: Potentials, atoms: int, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Return microseconds per atom and step of both, and the walker's overhead, for one size.

    Parameters
    ----------
    steps
        Of one turn: whole intervals between snapshots.
    """
    say(f"{atoms} atoms, {threads} threads ...")
    structure = crystal(atoms)
    run, config = make_run(folder, structure, steps=_NEVER, threads=threads)
    publish(run, potentials.folders[SOLID])
    plan = walker_plans(config.otf)[0]
    walking = Walking(run, build_walker(run, config, plan))
    settings = md_settings(plan, config.otf, dimension_of(structure))
    with LammpsMD(make_evaluator(potentials.folders[SOLID], threads=threads), settings) as md:
        md.gamma_every = _NEVER
        md.start(structure, velocity_seed=1)
        bare = Bare(md)
        # Until both are warm crystals: the first picoseconds have other lists.
        for kind in (bare, walking):
            kind.go(max(steps, 1000 * 500 // atoms))
        walks = walking.walker.md
        assert isinstance(walks, LammpsMD)
        walks.timings(reset=True)
        md.timings(reset=True)
        times: dict[str, dict[str, list[float]]] = {c: {"bare": [], "otf": []} for c in CLOCKS}
        for number in range(rounds):
            turn = [("bare", bare), ("otf", walking)]
            for name, kind in turn if number % 2 else reversed(turn):
                begin = {c: read() for c, read in CLOCKS.items()}
                made = kind.go(steps)
                for clock, read in CLOCKS.items():
                    times[clock][name].append(1e6 * (read() - begin[clock]) / (atoms * made))
        parts = {"bare": _parts(md, atoms), "otf": _parts(walks, atoms)}
        gamma = walking.walker.state.gamma
    walking.walker.close()
    return {"atoms": atoms, "threads": threads, "rounds": rounds, "steps": steps, "gamma": gamma,
            "interval": config.otf.snapshot_interval, "parts": parts, **_verdict(times),
            "pieces": pieces(folder / "pieces", potentials, atoms, config.otf.snapshot_interval)}  # fmt: skip


def pieces(folder: Path, potentials: Potentials, atoms: int, interval: int) -> dict[str, float]:
    """Return ms of what a walker does beside MD, the best of some tries of each, and shares of a bare step by it.

    Shorter than turns, so that a machine with other guests disturbs less; what the disk makes wait is left out.
    """
    folder.mkdir()
    evaluator = make_evaluator(potentials.folders[SOLID], threads=1)
    with LammpsMD(evaluator, MDSettings(timestep_fs=2.0)) as md:
        md.gamma_every = _NEVER
        md.start(crystal(atoms), velocity_seed=1)
        md.run(50)
        md.gamma_every = 1
        md.run(1)
        frame = md.frame()
        lines = text_of(frame).decode()
        graded = _best(lambda: md.run(1))
        md.gamma_every = _NEVER
        found = {
            "step": _best(lambda: md.run(1)),
            "frame": _best(md.frame),
            "its text": _best(lambda: text_of(frame)),
            "append": _best(lambda: append_line(folder / "frames", lines)),
            "snapshot": _best(lambda: (folder / "state").write_bytes(md.snapshot())),
            "state.json": _best(lambda: write_state(folder, WalkerState("w00"))),
        }
    step = found["step"]
    found["gamma"] = graded - step
    files = sum(found[name] for name in ("frame", "its text", "append", "snapshot", "state.json"))
    shares = {"gamma, share": found["gamma"] / (10 * step), "files, share": files / (interval * step)}
    return {**found, **shares, "both, share": sum(shares.values())}


def _best(work: Callable[[], object]) -> float:
    """Return ms of CPU."""
    times = []
    for _ in range(20):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return 1e3 * min(times)


def _parts(md: LammpsMD, atoms: int) -> dict[str, float]:
    split = md.timings()
    scale = 1e6 / (atoms * split["steps"])
    return {name: scale * split[name] for name in PARTS}


def _verdict(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Return best and median times, and the overhead by both; neighbours in time are compared by the median."""
    found: dict[str, Any] = {}
    for clock, kinds in times.items():
        bare, otf = np.array(kinds["bare"]), np.array(kinds["otf"])
        found[clock] = {
            "bare": {"best": bare.min(), "median": float(np.median(bare))},
            "otf": {"best": otf.min(), "median": float(np.median(otf))},
            "overhead": {"best": otf.min() / bare.min() - 1, "median": float(np.median(otf / bare)) - 1},
        }
    return found

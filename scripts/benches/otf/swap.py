"""From `version_published` to the first step on the new version; and what that time is made of."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from parts import LIQUID, SOLID, Potentials, crystal, make_run, publish, say

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, Neighbourhood
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.otf_runner import build_walker, md_settings, write_script
from mlip_autopipec.daemons.walker import Walker
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.serve import Outcome, serve
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

_NEVER = 10**9
# s; that one measurement may take before something is wrong.
_PATIENCE_S = 30.0


class Stamped:
    """An evaluator that notes when it has answered: the second answer in MD is the first step's, after the set-up."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self.elements = evaluator.elements
        self.cutoff = evaluator.cutoff
        self.has_gamma = evaluator.has_gamma
        self.answers: list[tuple[int, float]] = []

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        evaluation = self._evaluator.evaluate(frame, gamma=gamma)
        if len(self.answers) < 10:
            self.answers.append((id(frame), time.time()))
        return evaluation


class Until:
    """A walker's own loop until something is so."""

    def __init__(self, walker: Walker, over: Callable[[], bool]) -> None:
        self._walker = walker
        self._over = over
        self._give_up_at = time.monotonic() + _PATIENCE_S

    def start(self) -> None:
        """The walker has been started."""

    def step(self, now: float) -> Outcome:
        if now > self._give_up_at:
            raise TimeoutError(f"waited {_PATIENCE_S:g} s; the walker: {self._walker.state}")
        if self._over():
            return Outcome.DONE
        return self._walker.step(now)

    def drain(self) -> None:
        self._walker.drain()

    def close(self) -> None:
        """The walker goes on."""

    def wake_folder(self) -> Path:
        return self._walker.wake_folder()


class Stage:
    """One walker in this process, and a trainer's hand in another one that publishes for it."""

    def __init__(self, folder: Path, structure: Atoms, first: Path) -> None:
        self.run, config = make_run(folder, structure, steps=_NEVER, threads=1)
        publish(self.run, first)
        plan = walker_plans(config.otf)[0]
        self._evaluators: dict[str, Stamped] = {}
        self.walker = build_walker(self.run, config, plan, self._stamped)
        self.walker.start()
        self._heartbeat = Heartbeat(self.run.heartbeats / "w00.json", "w00")
        self._control = Control(self.run.control)

    def _stamped(self, version: Path) -> Stamped:
        self._evaluators[version.name] = Stamped(make_evaluator(version, threads=1))
        return self._evaluators[version.name]

    def serve(self, over: Callable[[], bool]) -> None:
        code = serve(Until(self.walker, over), heartbeat=self._heartbeat, stop=lambda: self._control.wants("stop"))
        if code:
            raise SystemExit(f"the walker ended in the middle of it: {self.walker.state}")

    def swapped(self, version: str, answers: int) -> float:
        """Serve until the `answers`-th answer of the version; return s from the event until then."""
        self.serve(lambda: version in self._evaluators and len(self._evaluators[version].answers) >= answers)
        return self._evaluators[version].answers[answers - 1][1] - published(self.run, version)


def published(run: RunDirectory, version: str) -> float:
    """Return when the trainer told of a version, s since the epoch."""
    for line in (run.events / "trainer-worker.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "version_published" and event["version"] == version:
            return datetime.fromisoformat(event["time"]).timestamp()
    raise ValueError(f"nobody told of {version}")


def _publish_later(root: Path, folder: Path, seconds: float) -> None:
    """What the trainer's process does, at a moment that the walker does not know."""
    time.sleep(seconds)
    publish(RunDirectory(root), folder)


def publish_later(stage: Stage, folder: Path, rng: np.random.Generator) -> str:
    """Publish from another process within the next seconds; return what the version will be called."""
    context = multiprocessing.get_context("fork")
    delay = float(rng.uniform(0.5, 2.0))
    context.Process(target=_publish_later, args=(stage.run.root, folder, delay), daemon=True).start()
    return Registry(stage.run.potentials).next_version()


def of_moving(folder: Path, potentials: Potentials, atoms: int, count: int) -> list[float]:
    """A walker that moves while the version comes."""
    say(f"swaps of a moving walker, {atoms} atoms ...")
    rng = np.random.default_rng(1)
    stage = Stage(folder, crystal(atoms), potentials.folders[SOLID])
    stage.serve(lambda: stage.walker.state.step > 0)
    seconds = []
    for number in range(count):
        version = publish_later(stage, potentials.folders[(LIQUID, SOLID)[number % 2]], rng)
        seconds.append(stage.swapped(version, 2))
    stage.walker.close()
    return seconds


def of_halted(folder: Path, potentials: Potentials, repeat: tuple[int, int, int], count: int) -> list[float]:
    """A walker that halted in a liquid, which the version that comes knows: a third answer, for the halted frame."""
    frame = potentials.liquid[0]
    structure = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True).repeat(repeat)
    say(f"swaps of a halted walker, {len(structure)} atoms ...")
    rng = np.random.default_rng(2)
    seconds = []
    for number in range(count):
        stage = Stage(folder / f"{number}", structure, potentials.folders[SOLID])
        stage.serve(lambda stage=stage: stage.walker.state.state == "halted")
        version = publish_later(stage, potentials.folders[LIQUID], rng)
        seconds.append(stage.swapped(version, 3))
        stage.walker.close()
    return seconds


def pieces(folder: Path, potentials: Potentials, atoms: int) -> dict[str, float]:
    """Seconds of each piece of a swap, best of three."""
    structure = crystal(atoms)
    _, config = make_run(folder, structure, steps=_NEVER, threads=1)
    version = potentials.folders[LIQUID]
    plan = walker_plans(config.otf)[0]
    settings = md_settings(plan, config.otf, 3)
    with LammpsMD(make_evaluator(version, threads=1), settings) as md:
        md.start(structure, velocity_seed=1)
        md.run(10)
        (folder / "state").write_bytes(md.snapshot())
        configuration = read_yaml(version / "potential.yaml")
        potential, inverses = from_basis(make_basis(configuration)), read_asi(version / "potential.asi")
        evaluator = AceEvaluator(potential, inverses, threads=1)
        work: dict[str, Callable[[], object]] = {
            "read potential.yaml": lambda: read_yaml(version / "potential.yaml"),
            "couple its functions": lambda: from_basis(make_basis(configuration)),
            "read potential.asi": lambda: read_asi(version / "potential.asi"),
            "make the evaluator": lambda: AceEvaluator(potential, inverses, threads=1),
            "swap, set-up, 1 step": lambda: (md.swap(evaluator), md.run(1)),
            "restore (halted), set-up, 1 step": lambda: (md.restore(folder / "state"), md.run(1)),
            "write in.lammps": lambda: write_script(folder, structure, evaluator, version, settings, plan, config.otf),
        }
        return {name: min(_seconds(run_it) for _ in range(3)) for name, run_it in work.items()}


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(folder: Path, potentials: Potentials, count: int) -> dict[str, Any]:
    """Return seconds of `count` swaps of each kind and size, and of the pieces."""
    rows = []
    for atoms, repeat in ((500, (2, 2, 1)), (4000, (3, 3, 4))):
        rows.append(("moving", atoms, of_moving(folder / f"moving{atoms}", potentials, atoms, count)))
        halted = of_halted(folder / f"halted{atoms}", potentials, repeat, count)
        rows.append(("halted", 108 * int(np.prod(repeat)), halted))
        say(json.dumps(rows[-2:]))
    return {
        "swaps": [
            {"walker": kind, "atoms": n, "seconds": s, "median": float(np.median(s)), "longest": max(s)}
            for kind, n, s in rows
        ],
        "pieces": {n: pieces(folder / f"pieces{n}", potentials, n) for n in (500, 4000)},
    }

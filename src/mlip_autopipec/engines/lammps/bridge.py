"""An `Evaluator` as LAMMPS' forces: the callback of `fix external`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlip_autopipec.core.conventions import virial_to_lammps
from mlip_autopipec.core.errors import Crashed, ModelError
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, IntArray
from mlip_autopipec.engines.lammps.neighbours import NeighbourReader

FIX = "potential"
# The fix's vector is 1 on a step whose gamma is above the threshold; `fix halt` looks at it after every step.
HALT_COMMANDS = (
    f"variable uncertain equal f_{FIX}[1]",
    "fix watch all halt 1 v_uncertain > 0.5 error continue message no",
)
# A in one step: nothing physical comes near, and LAMMPS' neighbour bins do not survive much more.
_LARGEST_MOVE = 5.0
_ADVICE = "use a smaller time step, or a potential that knows these configurations"


@dataclass
class Clock:
    """Seconds and counts since the last reset, from inside the run."""

    reading: float = 0.0
    plain: float = 0.0
    graded: float = 0.0
    callback: float = 0.0
    run: float = 0.0
    rebuild_gaps: float = 0.0
    other_gaps: float = 0.0
    steps: int = 0
    graded_steps: int = 0
    rebuilds: int = 0

    def split(self) -> dict[str, float]:
        """Return seconds by kind of work: list, evaluation, gamma, python, lammps; and the number of steps.

        A step that rebuilt the list spends longer inside LAMMPS than the others: the excess is the list's.
        A step with gamma spends longer in the evaluator than the others: the excess is gamma's.
        """
        plain_steps, quiet_steps = self.steps - self.graded_steps, self.steps - self.rebuilds
        gamma = 0.0
        if plain_steps and self.graded_steps:
            gamma = max(0.0, self.graded - self.graded_steps * self.plain / plain_steps)
        building = 0.0
        if quiet_steps and self.rebuilds:
            building = max(0.0, self.rebuild_gaps - self.rebuilds * self.other_gaps / quiet_steps)
        return {
            "list": self.reading + building,
            "evaluation": self.plain + self.graded - gamma,
            "gamma": gamma,
            "python": self.callback - self.reading - self.plain - self.graded,
            "lammps": max(0.0, self.run - self.callback - building),
            "steps": float(self.steps),
        }


class Bridge:
    """Feeds one LAMMPS instance from one evaluator and watches gamma.

    Attributes
    ----------
    gamma_every : gamma is computed on steps divisible by this
    halt_above : a larger gamma (or one that is not a number) ends the run at that step
    force_gamma : compute gamma on the next evaluation whatever the step
    evaluation, tags, step : what the last evaluation said, for atoms in the order `tags` (N,)
    checks : (step, largest gamma, its atom id) of every check since the list was cleared
    error : what was raised in the callback; LAMMPS cannot pass it on
    """

    def __init__(self, lmp: Any, evaluator: Evaluator, type_elements: tuple[str, ...], atoms: int) -> None:
        self._lmp = lmp
        self._reader = NeighbourReader(lmp)
        self._type_elements = type_elements
        self._atoms = atoms
        self.gamma_every = 1
        self.halt_above = np.inf
        self.force_gamma = False
        self.halted = False
        self.error: BaseException | None = None
        self.tags: IntArray = np.zeros(0, dtype=np.int32)
        self.step = -1
        self.checks: list[tuple[int, float, int]] = []
        self.clock = Clock()
        self._left_at: float | None = None
        self.use(evaluator)
        lmp.set_fix_external_callback(FIX, self._callback, None)
        lmp.fix_external_set_vector_length(FIX, 1)

    def use(self, evaluator: Evaluator) -> None:
        """Take another potential from the next evaluation on."""
        self.evaluator = evaluator
        self.evaluation: Evaluation | None = None
        self._species = np.zeros(len(self._type_elements) + 1, dtype=np.int32)
        for i, element in enumerate(self._type_elements):
            # Elements that the new potential lacks are noticed when the atoms are checked.
            self._species[i + 1] = evaluator.elements.index(element) if element in evaluator.elements else -1
        self._has_gamma = evaluator.has_gamma
        self._reader.forget()

    def leave_run(self) -> None:
        """Forget when the callback was left: the time until the next run is not LAMMPS'."""
        self._left_at = None

    def _callback(self, _caller: Any, step: int, owned: int, tags: IntArray, x: Any, forces: Any) -> None:
        entered = time.perf_counter()
        try:
            self._evaluate(int(step), owned, tags, x, forces, entered)
        except BaseException as error:
            # ctypes would print and swallow it, so it waits until LAMMPS has returned.
            self.error = error
            forces[:] = 0.0
            self._lmp.force_timeout()
        self._left_at = time.perf_counter()
        self.clock.callback += self._left_at - entered

    def _evaluate(self, step: int, owned: int, tags: IntArray, x: Any, forces: Any, entered: float) -> None:
        if owned != self._atoms:
            raise Crashed(f"MD lost {self._atoms - owned} of {self._atoms} atoms at step {step}", _ADVICE)
        if self.step >= 0 and step - self.step not in (0, 1):
            raise Crashed(f"the forces of step {step - 1} were not computed", "was MD interrupted?")
        before = self._reader.rebuilds
        frame = self._reader.read(tags, x, self._species)
        read = time.perf_counter()
        gamma = self._has_gamma and (self.force_gamma or step % self.gamma_every == 0)
        evaluation = self.evaluator.evaluate(frame, gamma=gamma)
        evaluated = time.perf_counter()
        self.force_gamma = False
        if not (np.isfinite(evaluation.energy) and np.isfinite(evaluation.forces).all()):
            raise Crashed(f"MD exploded: the forces of step {step} are not finite", _ADVICE)
        move = self._reader.largest_move(evaluation.forces)
        if not move <= _LARGEST_MOVE:
            raise Crashed(f"MD exploded: an atom would move {move:.3g} A in the step after {step}", _ADVICE)
        forces[:] = evaluation.forces
        self._lmp.fix_external_set_energy_global(FIX, evaluation.energy)
        self._lmp.fix_external_set_virial_global(FIX, list(virial_to_lammps(evaluation.virial)))
        self.evaluation, self.tags, self.step = evaluation, tags.copy(), step
        self.halted = self._watch(evaluation, step)
        self._lmp.fix_external_set_vector(FIX, 1, 1.0 if self.halted else 0.0)
        self._tick(entered, read, evaluated, gamma, self._reader.rebuilds > before)

    def _watch(self, evaluation: Evaluation, step: int) -> bool:
        if evaluation.gamma is None:
            return False
        worst = int(np.argmax(evaluation.gamma))
        largest = float(evaluation.gamma[worst])
        self.checks.append((step, largest, int(self.tags[worst])))
        return not largest <= self.halt_above

    def _tick(self, entered: float, read: float, evaluated: float, gamma: bool, rebuilt: bool) -> None:
        clock = self.clock
        clock.reading += read - entered
        if gamma:
            clock.graded += evaluated - read
        else:
            clock.plain += evaluated - read
        gap = 0.0 if self._left_at is None else entered - self._left_at
        if rebuilt:
            clock.rebuild_gaps += gap
        else:
            clock.other_gaps += gap
        clock.steps += 1
        clock.graded_steps += gamma
        clock.rebuilds += rebuilt


def check_elements(evaluator: Evaluator, present: set[str]) -> None:
    """Refuse a potential that lacks an element of the structure.

    Raises
    ------
    ModelError
    """
    missing = sorted(present - set(evaluator.elements))
    if missing:
        raise ModelError(
            f"the potential knows {' '.join(evaluator.elements)}, but the structure contains {' '.join(missing)}",
            "train a potential with this element, or choose another start structure",
        )

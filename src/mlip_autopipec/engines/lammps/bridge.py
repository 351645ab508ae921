"""An `Evaluator` as LAMMPS' forces: the callback of `fix external`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from mlip_autopipec.core.conventions import virial_to_lammps
from mlip_autopipec.core.errors import Crashed
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, IntArray
from mlip_autopipec.engines.lammps.forces import EXPLOSION_ADVICE, Forces
from mlip_autopipec.engines.lammps.neighbours import NeighbourReader

FIX = "potential"
# A in one step: nothing physical comes near, and LAMMPS' neighbour bins do not survive much more.
_LARGEST_MOVE = 5.0


class Bridge(Forces):
    """Feeds one LAMMPS instance from one evaluator and watches gamma."""

    def __init__(self, lmp: Any, evaluator: Evaluator, type_elements: tuple[str, ...]) -> None:
        super().__init__(lmp, type_elements)
        self._force_gamma = self._blind = False
        self._left_at: float | None = None
        self.use(evaluator)

    def pair_commands(self) -> list[str]:
        """Make LAMMPS build a full list up to the cutoff, and add no forces of its own."""
        return [f"pair_style zero {self.evaluator.cutoff!r} full", "pair_coeff * *"]

    def fix_commands(self) -> tuple[list[str], list[str]]:
        first = [f"fix {FIX} all external pf/callback 1 1", f"fix_modify {FIX} energy yes virial yes"]
        # The fix's vector is 1 on a step whose gamma is above the threshold; `fix halt` looks at it after every step.
        last = [
            f"variable uncertain equal f_{FIX}[1]",
            "fix watch all halt 1 v_uncertain > 0.5 error continue message no",
            # Energies belong to the step on which they were tallied; printing them after a halt would be an error.
            "thermo_style custom step temp",
        ]
        return first, last

    def connect(self) -> None:
        self._atoms: int = self._lmp.get_natoms()
        self._reader = NeighbourReader(self._lmp)
        self._lmp.set_fix_external_callback(FIX, self._callback, None)
        self._lmp.fix_external_set_vector_length(FIX, 1)

    def use(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.evaluation = None
        self._species = np.zeros(len(self._type_elements) + 1, dtype=np.int32)
        for i, element in enumerate(self._type_elements):
            # Elements that the new potential lacks are noticed when the atoms are checked.
            self._species[i + 1] = evaluator.elements.index(element) if element in evaluator.elements else -1
        self._has_gamma = evaluator.has_gamma

    def before_set_up(self, *, look: bool = True) -> None:
        self._force_gamma, self._blind = look, not look
        self._left_at = None
        # The pair style or the order of the atoms may have changed.
        self._reader.forget()

    def run_command(self, steps: int, window: str = "") -> str:
        # The time until now was not LAMMPS'.
        self._left_at = None
        return f"run {steps} pre no post no{window}"

    def after_run(self) -> None:
        """Everything was said in the callback."""

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
            raise Crashed(f"MD lost {self._atoms - owned} of {self._atoms} atoms at step {step}", EXPLOSION_ADVICE)
        if self.step >= 0 and step - self.step not in (0, 1):
            raise Crashed(f"the forces of step {step - 1} were not computed", "was MD interrupted?")
        before = self._reader.rebuilds
        frame = self._reader.read(tags, x, self._species)
        read = time.perf_counter()
        wanted = self._force_gamma or (step % self.gamma_every == 0 and not self._blind)
        gamma = self._has_gamma and wanted
        evaluation = self.evaluator.evaluate(frame, gamma=gamma)
        evaluated = time.perf_counter()
        self._force_gamma = self._blind = False
        if not (np.isfinite(evaluation.energy) and np.isfinite(evaluation.forces).all()):
            raise Crashed(f"MD exploded: the forces of step {step} are not finite", EXPLOSION_ADVICE)
        move = self._reader.largest_move(evaluation.forces)
        if not move <= _LARGEST_MOVE:
            raise Crashed(f"MD exploded: an atom would move {move:.3g} A in the step after {step}", EXPLOSION_ADVICE)
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

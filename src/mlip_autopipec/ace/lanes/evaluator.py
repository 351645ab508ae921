"""Drives the vectorised kernels: arrays in, one frame out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlip_autopipec.ace.grade_tables import make_grade_tables
from mlip_autopipec.ace.lanes.frame import arrange, fold, place_atoms
from mlip_autopipec.ace.lanes.kernel import FORCES, GRADE, PROJECTIONS, Outcome, evaluate_slabs
from mlip_autopipec.ace.lanes.program import make_program
from mlip_autopipec.ace.lanes.scratch import Scratch, make_scratch
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.terms import Potential
from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.compiled.team import Team
from mlip_autopipec.core.compiled.views import Packed
from mlip_autopipec.core.conventions import voigt_from_tensor
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood


class LaneEvaluator:
    """The vectorised path of `AceEvaluator`; see there."""

    def __init__(self, potential: Potential, active_set: Mapping[str, FloatArray] | None, team: Team) -> None:
        program, graphs = make_program(potential)
        self._n_species = len(potential.elements)
        self._program = Packed(program)
        self._grade = Packed(make_grade_tables(potential, program, graphs, active_set))
        self._team = team
        self._longest = -1
        self._scratch: list[Packed[Scratch]] = []
        self._forces = aligned_zeros(4)

    def evaluate(self, frame: Neighbourhood, *, gamma: bool) -> Evaluation:
        outcome, forces, sums = self._run(frame, FORCES | (GRADE if gamma else 0))
        return Evaluation(
            energy=float(outcome.energies.sum()),
            energies=outcome.energies,
            forces=forces,
            virial=voigt_from_tensor(0.5 * (sums + sums.T)),
            gamma=outcome.grade if gamma else None,
        )

    def projections(self, frame: Neighbourhood) -> FloatArray:
        outcome, _, _ = self._run(frame, PROJECTIONS)
        return outcome.projections.reshape(frame.n_owned, -1)

    def _run(self, frame: Neighbourhood, wanted: int) -> tuple[Outcome, FloatArray, FloatArray]:
        n, n_rows = frame.n_owned, len(frame.positions)
        forces, sums = np.zeros((n, 3)), np.zeros((4, 4))
        arranged = arrange(frame, self._n_species, self._team.size, wanted)
        slabs = arranged.n_slabs
        outcome = Outcome(
            energies=np.zeros(n),
            forces=self._slab_forces(slabs * (n_rows + 1) * 4 if wanted & FORCES else 4),
            grade=np.zeros(n if wanted & GRADE else 0),
            projections=np.zeros(n * self._grade.record.top_functions if wanted & PROJECTIONS else 0),
            trouble=np.zeros(slabs, dtype=np.int64),
        )
        positions = np.ascontiguousarray(frame.positions, dtype=np.float64)
        species = np.ascontiguousarray(frame.species, dtype=np.int32)
        if not place_atoms(positions, species, arranged.places):
            raise ModelError("a position is not finite", "the simulation has exploded or the structure is broken")
        if n:
            self._make_scratch(int(np.diff(arranged.first).max()))
            tables = Packed(arranged).table, Packed(outcome).table
            counter = np.zeros(1, dtype=np.int64)

            def work(member: int) -> None:
                scratch = self._scratch[member].table
                evaluate_slabs(self._program.table, self._grade.table, tables[0], scratch, tables[1], counter)

            self._team.run(work, min(slabs, self._team.size))
        refuse_overlaps(int(outcome.trouble.sum()))
        if wanted & FORCES:
            owners = np.ascontiguousarray(frame.owners, dtype=np.int32)
            fold(outcome.forces, slabs, arranged.places, owners, forces, sums)
        return outcome, forces, sums[:3, :3]

    def _slab_forces(self, numbers: int) -> FloatArray:
        """Return room for forces, with what the last frame left: fresh pages would cost more than clearing these."""
        if numbers > len(self._forces):
            self._forces = aligned_zeros(numbers + numbers // 8)
        return self._forces

    def _make_scratch(self, longest: int) -> None:
        if longest > self._longest:
            # A little more than needed: the longest list of an MD frame goes up and down.
            self._longest = longest + 16
            program, grade = self._program.record, self._grade.record
            self._scratch = [Packed(make_scratch(program, grade, self._longest)) for _ in range(self._team.size)]


def refuse_overlaps(pairs: int) -> None:
    """Raise `ModelError` if any pair is closer than the tables reach."""
    if pairs:
        raise ModelError(f"{pairs} pairs of atoms are closer than 0.001 A", "two atoms stand on one place")

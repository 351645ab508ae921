"""Drives the reference kernel: plain loops, the same numbers as the vectorised path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlip_autopipec.ace.grade_tables import check_active_set
from mlip_autopipec.ace.lanes.evaluator import refuse_overlaps
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.reference.kernel import evaluate_atoms
from mlip_autopipec.ace.reference.records import AtomResults, make_centre, make_surroundings
from mlip_autopipec.ace.reference.tables import reference_tables
from mlip_autopipec.ace.terms import Potential
from mlip_autopipec.core.compiled.team import Team
from mlip_autopipec.core.conventions import voigt_from_tensor
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood


class ReferenceEvaluator:
    """The plain path of `AceEvaluator`; see there."""

    def __init__(self, potential: Potential, active_set: Mapping[str, FloatArray] | None, team: Team) -> None:
        self._potential = potential
        self._active_set = active_set
        self._linear = check_active_set(potential, active_set) if active_set is not None else True
        self._tables = reference_tables(potential)
        self._team = team

    def evaluate(self, frame: Neighbourhood, *, gamma: bool) -> Evaluation:
        out = self.atom_results(frame, projections=gamma)
        n = frame.n_owned
        forces = out.forces[:n].copy()
        np.add.at(forces, frame.owners[n:], out.forces[n:])
        tensor = -out.virial.reshape(3, 3)
        return Evaluation(
            energy=float(out.energies.sum()),
            energies=out.energies,
            forces=forces,
            virial=voigt_from_tensor(0.5 * (tensor + tensor.T)),
            gamma=self._grade(frame, out) if gamma else None,
        )

    def projections(self, frame: Neighbourhood) -> FloatArray:
        return self.atom_results(frame, projections=True).projections

    def atom_results(self, frame: Neighbourhood, *, projections: bool) -> AtomResults:
        """Return per-atom energies, densities, raw forces (ghosts apart) and projections."""
        if not np.isfinite(frame.positions).all():
            raise ModelError("a position is not finite", "the simulation has exploded or the structure is broken")
        n, slabs = frame.n_owned, self._team.size
        edges = np.arange(slabs + 1) * n // slabs
        parts = [self._empty_results(frame, projections) for _ in range(slabs)]
        longest = int(np.diff(frame.first).max(initial=0))
        positions = np.ascontiguousarray(frame.positions, dtype=np.float64)
        species, first, neighbours = (
            np.ascontiguousarray(x, dtype=np.int32) for x in (frame.species, frame.first, frame.neighbours)
        )

        def work(member: int) -> None:
            s, c = make_surroundings(self._tables, longest), make_centre(self._tables)
            start, stop = int(edges[member]), int(edges[member + 1])
            evaluate_atoms(self._tables, positions, species, first, neighbours, start, stop, s, c, parts[member])

        self._team.run(work)
        total = AtomResults(*(sum(fields[1:], fields[0]) for fields in zip(*parts, strict=True)))
        refuse_overlaps(int(total.trouble[0]))
        return total

    def _empty_results(self, frame: Neighbourhood, projections: bool) -> AtomResults:
        n, ndensity = frame.n_owned, int(self._tables.sizes[4])
        return AtomResults(
            energies=np.zeros(n),
            forces=np.zeros((len(frame.positions), 3)),
            virial=np.zeros(9),
            rho=np.zeros((n, ndensity)),
            drho=np.zeros((n, ndensity)),
            scale=np.zeros(n),
            projections=np.zeros((n if projections else 0, max(self._potential.n_functions))),
            trouble=np.zeros(1, dtype=np.int32),
        )

    def _grade(self, frame: Neighbourhood, out: AtomResults) -> FloatArray:
        """gamma_i = max_j |sum_k v_k inverse[k, j]|, v the projections or (non-linear) w F'(rho_p) B_k."""
        gamma = np.zeros(frame.n_owned)
        species = frame.species[: frame.n_owned]
        for mu, element in enumerate(self._potential.elements):
            atoms = np.flatnonzero(species == mu)
            vectors = out.projections[atoms, : self._potential.n_functions[mu]]
            if not self._linear:
                ndensity = self._potential.embeddings[mu].ndensity
                vectors = np.concatenate([out.drho[atoms, p : p + 1] * vectors for p in range(ndensity)], axis=1)
            if len(atoms) and self._active_set is not None:
                gamma[atoms] = np.abs(vectors @ self._active_set[element]).max(axis=1)
        return gamma

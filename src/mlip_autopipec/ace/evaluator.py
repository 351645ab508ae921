"""ACE as an `Evaluator`: energies, forces, virial and extrapolation grade of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from mlip_autopipec.ace.grade_tables import check_active_set
from mlip_autopipec.ace.lanes.evaluator import LaneEvaluator
from mlip_autopipec.ace.overlay import Overlay
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.reference.evaluator import ReferenceEvaluator
from mlip_autopipec.ace.terms import Potential
from mlip_autopipec.core.compiled.team import Team, default_threads
from mlip_autopipec.core.errors import Crashed, ModelError
from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood

PATHS = ("lanes", "reference")


class Path(Protocol):
    """One way to compute the same numbers."""

    def evaluate(self, frame: Neighbourhood, *, gamma: bool) -> Evaluation: ...

    def projections(self, frame: Neighbourhood) -> FloatArray: ...


class AceEvaluator:
    """Evaluates an ACE potential, with its overlay if it has one; implements `core.interfaces.Evaluator`.

    Parameters
    ----------
    potential
        From `load_potential`.
    active_set
        Inverse active-set matrix per element, from `read_asi`; needed for gamma.
    threads
        Number of threads; default OMP_NUM_THREADS or all CPUs. Results are bit-identical for the same number.
    path
        "lanes" (vectorised) or "reference" (plain loops, the truth in tests).

    Raises
    ------
    ModelError
        The active set does not belong to the potential.
    """

    def __init__(
        self,
        potential: Potential,
        active_set: Mapping[str, FloatArray] | None = None,
        *,
        threads: int | None = None,
        path: str = "lanes",
    ) -> None:
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, found {path!r}")
        if active_set is not None:
            check_active_set(potential, active_set)
        self.potential = potential
        self._has_gamma = active_set is not None
        team = Team(threads or default_threads())
        kind = LaneEvaluator if path == "lanes" else ReferenceEvaluator
        self._path: Path = kind(potential, active_set, team)

    @property
    def elements(self) -> tuple[str, ...]:
        return self.potential.elements

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return self.potential.cutoff

    @property
    def has_gamma(self) -> bool:
        return self._has_gamma

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        """Evaluate one frame.

        Raises
        ------
        ModelError
            gamma without an active set, or an unknown species.
        Crashed
            Positions that are not finite, or two atoms on one place.
        """
        if gamma and not self._has_gamma:
            raise ModelError("gamma needs an active set", "give the .asi file of the potential")
        self._check(frame)
        try:
            evaluation = self._path.evaluate(frame, gamma=gamma)
        except ModelError as error:
            # Potential and species are in order, so it is the frame: MD goes back to a snapshot then.
            raise Crashed(error.message, error.hint) from error
        overlay = self.potential.overlay
        return evaluation if overlay is None else overlay.added(evaluation, frame, self.elements)

    @property
    def overlay(self) -> Overlay | None:
        """What is added to ACE."""
        return self.potential.overlay

    def projections(self, frame: Neighbourhood) -> FloatArray:
        """Return B-projections (N, largest number of functions); row i is valid up to its species' number.

        Raises
        ------
        ModelError
            The potential has no B-basis (a `.yace` file), or the frame cannot be evaluated.
        """
        if not self.potential.has_projections:
            raise ModelError(
                "projections need the B-basis", "load the .yaml file of the potential instead of the .yace"
            )
        self._check(frame)
        return self._path.projections(frame)

    def _check(self, frame: Neighbourhood) -> None:
        species = np.asarray(frame.species)
        if len(species) and not (species.min() >= 0 and species.max() < len(self.elements)):
            raise ModelError(f"species must be 0 to {len(self.elements) - 1}, found {species.min()} to {species.max()}")

"""The course of a self-consistency: what pw.x printed in each iteration, and whether it is going anywhere."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+) Ry")
_STATES = re.compile(r"number of Kohn-Sham states=\s*(\d+)")
# The first iterations say nothing: the density is still that of free atoms.
_WARM_UP = 3
# An SCF that gains less than this factor over the patience will not gain the six orders of magnitude that it needs.
_LEAST_GAIN = 0.5
_GROWN = 10.0
# Ry; below this, dips and plateaus of tens of iterations are followed by convergence (a free iron atom).
_NEAR = 1e-4


@dataclass(frozen=True)
class Trace:
    """Estimated errors of the energy, Ry, one for each iteration; infinite where pw.x printed stars."""

    accuracies: tuple[float, ...]

    @classmethod
    def of(cls, output: str) -> Trace:
        return cls(tuple(_number(text) for text in _ACCURACY.findall(output)))

    def is_hopeless(self, patience: int) -> bool:
        """True if the residual grew, or did not fall, for `patience` iterations, and is still far from converged.

        Grown means that each of the last half of them is ten times worse than the best before; not fallen, that none
        of them reached half of the best before.
        """
        seen = self.accuracies[_WARM_UP:]
        half = max(2, patience // 2)
        if len(seen) <= half or min(seen[-half:]) < _NEAR:
            return False
        if min(seen[-half:]) > _GROWN * min(seen[:-half]):
            return True
        return len(seen) > patience and min(seen[-patience:]) > max(_NEAR, _LEAST_GAIN * min(seen[:-patience]))

    def falls(self) -> bool:
        """True if the later half of the iterations was better than the earlier one by far, so that more would help."""
        half = len(self.accuracies) // 2
        if half == 0:
            return True
        return min(self.accuracies[half:]) < 0.3 * min(self.accuracies[:half])

    def __str__(self) -> str:
        last = f"{self.accuracies[-1]:.2g}" if self.accuracies else "?"
        return f"{len(self.accuracies)} iterations, last estimated error {last} Ry"


def _number(text: str) -> float:
    try:
        value = float(text.replace("D", "E"))
    except ValueError:
        return math.inf
    return value if math.isfinite(value) else math.inf


def states(output: str) -> int | None:
    """Return the number of Kohn-Sham states that pw.x chose, if it came so far."""
    found = _STATES.search(output)
    return int(found[1]) if found else None

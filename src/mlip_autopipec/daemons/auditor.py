"""When and where a walker audits: random environments below the halt level, at random times of its way.

The draws depend on the walker's seed, the number of the audit and the step only, so a walker that is killed and comes
back to a frame decides about it as before.
"""

from __future__ import annotations

import math

import numpy as np

from mlip_autopipec.stages.calibrate import FEWEST_AUDITS
from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan

# One look in ten: labels come in bursts, and audits must not all be of the moments after a halt.
_CHANCE = 0.1
# The halt level waits for the first ones.
_FIRST_CHANCE = 0.5
# Audits with which 95 % of the environments can be said to be better than a target, with 95 % confidence: 59.
_ENOUGH = 60


class Auditor:
    """Decides about audits of one walker.

    Parameters
    ----------
    plan
        Its seed and steps.
    walkers
        Their number: each makes its share of `otf.min_audits`.
    """

    def __init__(self, plan: WalkerPlan, otf: OtfSettings, walkers: int) -> None:
        self._seed = plan.seed
        self._steps = plan.steps
        self._fraction = otf.audit_fraction
        wanted = otf.min_audits
        if wanted is None:
            wanted = _ENOUGH if otf.target_force_error is not None else 0
        self._odd = float(np.random.default_rng(plan.seed).random())
        self._share = math.ceil(wanted / max(1, walkers))
        # With a target the halt level is a guess until there are so many, and most labels come early on the way.
        first = FEWEST_AUDITS if otf.target_force_error is not None else 0
        self._first = min(self._share, math.ceil(first / max(1, walkers)))

    def wants(self, step: int, audits: int, labels: int) -> bool:
        """True if the frame of this step is to be audited.

        Parameters
        ----------
        audits, labels
            That this walker has asked for so far; `labels` without the audits.
        """
        if audits < self._share and step >= self._moment(audits):
            return True
        if audits < min(self._first, labels):
            return float(self._draw(audits, step).random()) < _FIRST_CHANCE
        # Rounded at random, since many walkers with few labels each would otherwise never audit.
        owed = self._fraction / (1.0 - self._fraction) * labels + self._odd
        behind = self._fraction > 0 and audits < math.floor(owed)
        return behind and float(self._draw(audits, step).random()) < _CHANCE

    def atom(self, step: int, audits: int, gamma: np.ndarray, level: float) -> int | None:
        """Draw one of the atoms with gamma at most `level`; None if there are none."""
        safe = np.flatnonzero(np.asarray(gamma) <= level)
        if not len(safe):
            return None
        rng = self._draw(audits, step)
        rng.random()  # that of `wants`
        return int(safe[rng.integers(len(safe))])

    def _moment(self, number: int) -> float:
        """Return the step of an audit of the share: a random one of its part of the way."""
        return (number + float(self._draw(number, 0).random())) * self._steps / self._share

    def _draw(self, number: int, step: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, number, step])

"""labels -> calibrate: how wrong is the potential where gamma says that it knows?

Reads: pairs of gamma and true force error. Writes: nothing; the trainer keeps what this says in `calibration.json`,
and walkers with `otf.target_force_error` halt at its level. Next: `watch`.

Labels exist only where gamma was high. What they say of safe regions is biased, so a share of all labels are *audits*:
random environments below the halt level, which no fit ever sees. Audits are a sample of what MD visits, so statements
about the share of visited environments follow from the binomial distribution alone, whatever gamma is worth:

* of n environments k have an error above the target: the true share is at most the bound of Clopper & Pearson
  (doi:10.1093/biomet/26.4.404);
* a quantile of the error is at most a certain order statistic (Wilks, doi:10.1214/aoms/1177731788);
* the halt level is found by testing rising levels until the first that fails, which keeps the confidence of a single
  test however many there are (fixed-sequence testing: Angelopoulos, Bates, Candes, Jordan, Lei,
  doi:10.1214/24-AOAS1998).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betaincinv

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.store.sides import AUDIT as AUDIT

QUANTILE = 0.95
# With which 28 audits without a failure are enough to halt at a level; to call a run converged it takes more.
LEVEL_CONFIDENCE = 0.75
BOUND_CONFIDENCE = 0.95
FEWEST_AUDITS = 30
# MaxVol leaves what was trained on at 1.001, and the gate lets 1.05 pass: a level nearer to 1 would never be healed.
LOWEST_LEVEL = 1.2


@dataclass(frozen=True)
class Pair:
    """What one label says about a version that had not seen it.

    Attributes
    ----------
    task_id : of the label
    version : whose gamma and force it is
    basis : the functions that gamma is a matter of
    audit : True for a random environment below the halt level
    gamma : of the learned atom with the largest one
    error : length of the difference between that atom's forces, eV/A
    level : halt level when the environment was picked; what lies above it was not visited
    """

    task_id: str
    version: str
    basis: str
    audit: bool
    gamma: float
    error: float
    level: float = math.inf


@dataclass(frozen=True)
class Level:
    """A gamma at which to halt.

    Attributes
    ----------
    value : None if the pairs are too few to say
    reason : for people
    """

    value: float | None
    reason: str


def failure_bound(failures: int, n: int, confidence: float) -> float:
    """Return the upper bound of Clopper & Pearson for the share of failures, of which `n` draws showed some."""
    if n <= 0 or failures >= n:
        return 1.0
    return float(betaincinv(failures + 1, n - failures, confidence))


def upper_quantile(
    errors: Iterable[float], quantile: float = QUANTILE, confidence: float = BOUND_CONFIDENCE
) -> float | None:
    """Return an upper confidence bound for a quantile of which `errors` are independent draws, in their unit.

    The smallest order statistic x_(r) with P(Binomial(n, quantile) <= r - 1) >= confidence. None if there is none: it
    takes 59 draws to bound the 95 % quantile with 95 % confidence.
    """
    values = np.sort(np.asarray(list(errors), dtype=float))
    n = len(values)
    if n == 0:
        return None
    ranks = np.arange(1, n + 1)
    enough = np.flatnonzero(bdtr(ranks - 1, n, quantile) >= confidence)
    return float(values[enough[0]]) if len(enough) else None


def halt_level(
    pairs: Sequence[Pair],
    target: float,
    quantile: float = QUANTILE,
    confidence: float = LEVEL_CONFIDENCE,
    *,
    ceiling: float = math.inf,
    fewest: int = FEWEST_AUDITS,
) -> Level:
    """Return the gamma up to which, with `confidence`, a share `quantile` of visited environments is good enough.

    An audit that was picked while the halt level was l is a fair draw of environments below any g <= l. So for a level
    g the sample is the audits with l >= g and gamma <= g. Levels are tested upwards until the first that fails. If all
    audits pass, labels with a larger gamma join in their order: they over-represent the uncertain, which is on the safe
    side if errors grow with gamma. They do so no more once the audits prove the target (`is_converged`).

    Parameters
    ----------
    pairs
        Under the version in question; labels that are no audits may be of the versions that asked for them.
    target
        eV/A.
    ceiling
        gamma up to which audits are taken that do not say up to where they were picked.
    fewest
        With fewer audits there is no level.
    """
    audits = sorted((p for p in pairs if p.audit), key=lambda p: p.gamma)
    if len(audits) < fewest:
        return Level(None, f"{len(audits)} of {fewest} audits")
    limits = np.array([min(p.level, ceiling) for p in audits])
    gammas, bad = np.array([p.gamma for p in audits]), np.array([p.error > target for p in audits])
    highest = _reach(limits, fewest)
    levels = np.append(gammas[gammas < highest], highest)
    fair = limits >= levels[:, None]
    inside = fair & (gammas <= levels[:, None])
    drawn, failures = inside.sum(axis=1), (inside & bad).sum(axis=1)
    # Beginning with half of them leaves room for a failure; where to begin must not depend on the errors.
    fewest_draws = _fewest_draws(quantile, confidence)
    begin = np.flatnonzero((drawn >= fewest_draws) & (drawn >= fair.sum(axis=1) // 2))
    passed, sample = None, (0, 0)
    for i in range(begin[0] if len(begin) else len(levels), len(levels)):
        if drawn[i] < fewest_draws:
            continue
        if failure_bound(int(failures[i]), int(drawn[i]), confidence) > 1.0 - quantile:
            break
        passed, sample = float(levels[i]), (int(failures[i]), int(drawn[i]))
    if passed is None:
        return Level(LOWEST_LEVEL, f"audits exceed {target:g} eV/A even where gamma is low: more labels, or functions")
    if passed >= highest:
        # Where enough audits prove the target the level stays, for beyond it they would prove nothing any more.
        telling = _telling(gammas, limits, _fewest_draws(quantile, BOUND_CONFIDENCE))
        if telling is not None and is_converged(pairs, telling, target):
            passed = telling
        else:
            passed = _extended(pairs, passed, sample, target, quantile, confidence)
    told = f"{sample[0]} of {sample[1]} audits below it exceed {target:g} eV/A"
    return Level(max(passed, LOWEST_LEVEL), told)


def _reach(limits: FloatArray, fewest: int) -> float:
    """Return the highest level below which enough audits were picked."""
    return float(np.sort(limits)[-min(fewest, len(limits))])


def _telling(gammas: FloatArray, limits: FloatArray, fewest: int) -> float | None:
    """Return the highest level of those with `fewest` fair draws of what lies below; the errors have no say in it."""
    levels = np.unique(limits)
    drawn = ((limits >= levels[:, None]) & (gammas <= levels[:, None])).sum(axis=1)
    enough = np.flatnonzero(drawn >= fewest)
    return float(levels[enough[-1]]) if len(enough) else None


def _fewest_draws(quantile: float, confidence: float) -> int:
    """Return how many draws without a failure it takes."""
    return math.ceil(math.log(1.0 - confidence) / math.log(quantile) - 1e-9)


def _extended(
    pairs: Sequence[Pair], start: float, sample: tuple[int, int], target: float, quantile: float, confidence: float
) -> float:
    """Return how far beyond `start` labels of uncertain regions let the level rise."""
    level, (k, n) = start, sample
    beyond = sorted((p for p in pairs if not p.audit and p.gamma > start), key=lambda p: p.gamma)
    for pair in beyond:
        k, n = k + (pair.error > target), n + 1
        if failure_bound(k, n, confidence) > 1.0 - quantile:
            break
        level = pair.gamma
    return level


def audit_bound(pairs: Iterable[Pair], level: float) -> float | None:
    """Return the upper bound of the 95 % quantile of the error below `level`, eV/A; None with too few audits.

    Audits that were drawn while the halt level was lower say nothing of what lies between the two (see `halt_level`).
    """
    return upper_quantile(p.error for p in pairs if p.audit and p.gamma <= level <= p.level)


def is_converged(pairs: Iterable[Pair], level: float, target: float) -> bool:
    """True if the audits prove, with 95 % confidence, that 95 % of what is visited is better than `target` (eV/A)."""
    bound = audit_bound(pairs, level)
    return bound is not None and bound < target

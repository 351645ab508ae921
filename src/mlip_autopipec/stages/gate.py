"""potential -> gate: is a new version at least as good as the one that walkers use?

Reads: what versions say of labels that no fit has seen. Writes: nothing; `daemons.gatejudge` keeps what this says in
`gate.json`. Next: `publish`.

A version that is worse on held-out labels, or fails what the current one passes, stays a candidate. What both fail
holds nothing back: the new one has more labels, and is no worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from scipy.stats import spearmanr

from mlip_autopipec.core.interfaces import FloatArray

HELD_OUT: Final = "held_out"
FEWEST_ENVIRONMENTS: Final = 20
_RANK_CORRELATION: Final = 0.5
_ONE_SIDED_95: Final = 1.645
_ALMOST_ONE: Final = 1 - 1e-12
# A group of fewer structures than this says little about the next ones like them.
_FEWEST_STRUCTURES: Final = 4
# Differences that nobody would call worse: eV/A and meV per atom.
_SMALL_FORCE: Final = 0.005
_SIGMAS: Final = 2.0
_SMALL_ENERGY: Final = 1.0


@dataclass(frozen=True)
class Check:
    """One question that a version was asked.

    Attributes
    ----------
    name : `held_out`, `gamma_rank`, `squeezed_pairs`, `repulsive_core`, `equation_of_state`, …
    passed : None if there is not enough to say
    told : for people
    numbers : JSON-ready
    """

    name: str
    passed: bool | None
    told: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Miss:
    """By how much a version misses one held-out label.

    Attributes
    ----------
    group : `config_type`
    forces : differences of the components of learned atoms, eV/A
    energy : difference, meV per atom; None for cells whose energy does not count
    """

    group: str
    forces: FloatArray
    energy: float | None


def compare_held_out(new: Mapping[str, Miss], old: Mapping[str, Miss], tolerance: float) -> Check:
    """Compare two versions on the same held-out labels, group by group.

    Parameters
    ----------
    new, old
        Task id -> miss; only labels that both could predict count.
    tolerance
        Relative: by so much the RMSE of a group may grow.
    """
    shared = sorted(set(new) & set(old))
    numbers: dict[str, Any] = {}
    worse = []
    for group in sorted({new[task].group for task in shared}):
        pairs = [(new[task], old[task]) for task in shared if new[task].group == group]
        forces = [(_mean_square(a.forces), _mean_square(b.forces)) for a, b in pairs]
        energies = [(a.energy**2, b.energy**2) for a, b in pairs if a.energy is not None and b.energy is not None]
        numbers[group] = {
            "structures": len(pairs),
            **_rmse("force_rmse", np.repeat(forces, [len(a.forces) for a, _ in pairs], axis=0)),
            **_rmse("energy_rmse_mev", np.asarray(energies)),
        }
        worse += [f"{group}: force {told} eV/A" for told in _worse(np.asarray(forces), tolerance, _SMALL_FORCE)]
        worse += [f"{group}: energy {told} meV/atom" for told in _worse(np.asarray(energies), tolerance, _SMALL_ENERGY)]
    if not any(group["structures"] >= _FEWEST_STRUCTURES for group in numbers.values()):
        return Check(HELD_OUT, None, f"{len(shared)} held-out labels are too few to compare versions by", numbers)
    told = "; ".join(worse) if worse else f"no group of the {len(shared)} held-out labels got worse"
    return Check(HELD_OUT, not worse, told, numbers)


def _mean_square(values: FloatArray) -> float:
    return float(np.mean(values**2))


def _rmse(name: str, squares: FloatArray) -> dict[str, float | None]:
    """Return the RMSE of the new and of the current version, of squares (n, 2)."""
    new, old = np.sqrt(squares.mean(axis=0)).tolist() if len(squares) else (None, None)
    return {name: new, f"{name}_current": old}


def _worse(squares: FloatArray, tolerance: float, small: float) -> list[str]:
    """Return how much worse the new version is, if it is so by more than the tolerance, and beyond doubt.

    Parameters
    ----------
    squares
        (n, 2) mean squared errors of each structure under the new and the current version.
    """
    if len(squares) < _FEWEST_STRUCTURES:
        return []
    new, old = np.sqrt(squares.mean(axis=0))
    if new <= old * (1 + tolerance) + small:
        return []
    # A refit moves every error a little, and of a few structures one decides the mean: that is no trend.
    growth = squares[:, 0] - squares[:, 1]
    doubt = _SIGMAS * float(growth.std(ddof=1)) / math.sqrt(len(growth))
    return [] if growth.mean() <= doubt else [f"RMSE {new:.3g}, of the current version {old:.3g}"]


def rank_correlation(gammas: Sequence[float], errors: Sequence[float]) -> Check:
    """Does gamma rank the errors (eV/A) of held-out environments?

    Fails if the rank correlation is below 0.5 beyond doubt: its upper bound of 95 % confidence (Fisher's
    transformation; Fieller, Hartley, Pearson 1957, doi:10.1093/biomet/44.3-4.470).
    """
    n = len(gammas)
    if n < FEWEST_ENVIRONMENTS or len(set(gammas)) < 2 or len(set(errors)) < 2:
        return Check("gamma_rank", None, f"{n} of {FEWEST_ENVIRONMENTS} held-out environments", {"environments": n})
    found = float(spearmanr(gammas, errors).statistic)
    bound = math.tanh(
        math.atanh(float(np.clip(found, -_ALMOST_ONE, _ALMOST_ONE))) + _ONE_SIDED_95 * math.sqrt(1.06 / (n - 3))
    )
    told = f"rank correlation {found:.2f} of gamma and force error over {n} held-out environments"
    return Check("gamma_rank", bound > _RANK_CORRELATION, told, {"environments": n, "spearman": found, "upper": bound})


def squeezed_pairs(squeezed: Sequence[Mapping[str, Any]], level: float) -> Check:
    """Is gamma above `level` wherever a pair is nearer than 0.85 of the shortest trained distance?

    Parameters
    ----------
    squeezed
        One per pair, frame and distance: `pair`, `distance` (A), `gamma`.
    """
    blind = [s for s in squeezed if not s["gamma"] > level]
    if not squeezed:
        return Check("squeezed_pairs", None, "no pair was trained")
    lowest = min(s["gamma"] for s in squeezed)
    numbers = {"evaluated": len(squeezed), "lowest_gamma": min(lowest, 1e9), "level": level}
    if not blind:
        return Check("squeezed_pairs", True, f"gamma {lowest:.3g} at least, the halt level is {level:g}", numbers)
    worst = min(blind, key=lambda s: s["gamma"])
    told = f"{worst['pair']} at {worst['distance']:.2f} A has gamma {worst['gamma']:.3g}, the halt level is {level:g}"
    return Check("squeezed_pairs", False, told, numbers | {"worst": dict(worst)})


def repulsive_core(pushed: Sequence[Mapping[str, Any]]) -> Check:
    """Does every pair repel from 0.85 of its shortest trained distance inwards? Asked where there is a baseline.

    A push that is not finite fails.

    Parameters
    ----------
    pushed
        One per pair, frame and distance: `pair`, `distance` (A), `push` (eV/A, positive drives the atoms apart).
    """
    if not pushed:
        return Check("repulsive_core", None, "no pair was trained")
    broken = [p for p in pushed if not math.isfinite(p["push"])]
    weakest = broken[0] if broken else min(pushed, key=lambda p: p["push"])
    # JSON has no such numbers.
    numbers = {"evaluated": len(pushed), "weakest": {**weakest, "push": None} if broken else dict(weakest)}
    told = f"{weakest['pair']} at {weakest['distance']:.2f} A is driven apart by {weakest['push']:.3g} eV/A, the least"
    return Check("repulsive_core", not broken and weakest["push"] > 0, told, numbers)


def equation_of_state(scales: Sequence[float], energies: Sequence[float]) -> Check:
    """Has the energy of the reference crystal one minimum over the volumes that MD can reach?

    Parameters
    ----------
    scales
        Of lengths, rising; where gamma is below the halt level.
    energies
        eV per atom.
    """
    if len(scales) < 5:
        return Check("equation_of_state", None, "too few volumes are known to the active set")
    values = np.asarray(energies, dtype=float)
    signs = np.sign(np.diff(values))
    bends = np.diff(signs[signs != 0])  # two equal energies in the middle of a valley are one minimum
    minima, maxima = int((bends > 0).sum()), int((bends < 0).sum())
    numbers = {"scales": [float(s) for s in scales], "energies": [float(e) for e in values]}
    # A range that ends before the minimum is no fault; a hill between two valleys is.
    told = f"{minima} minima and {maxima} maxima between scales {scales[0]:.3f} and {scales[-1]:.3f}"
    return Check("equation_of_state", maxima == 0 and minima <= 1, told, numbers)


def held_back_by(checks: Sequence[Check], current: Mapping[str, bool | None] | None) -> list[str]:
    """Return why a version must not become current; empty if it may.

    Parameters
    ----------
    current
        Name of check -> what the current version answers to the same question; None if there is no current version.
    """
    if current is None:
        return []
    compared = {HELD_OUT: True, **current}
    return [f"{c.name}: {c.told}" for c in checks if c.passed is False and compared.get(c.name)]

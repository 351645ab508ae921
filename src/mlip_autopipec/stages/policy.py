"""material, labels -> policy: what share of seeds and of exploration each kind of configuration gets, and why.

Reads: what a material is; later, labels and gamma by `config_type`. Writes: nothing; `init` and the explorer follow it.
Next: `explore`.

Pure: the same material and evidence give the same plan. Every weight that is not 1 has a line in `reasons`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mlip_autopipec.structures.seeds.material import Material

# Softer than this, strains and anharmonic motion reach far (alkali metals, ionic halides, noble gases).
SOFT_GPA: Final = 40.0
# Above, bonds break late: what is broken must be shown, MD will not get there.
REFRACTORY_K: Final = 2500.0
# Labels of a config_type that count as much as what is believed beforehand.
_PRIOR_LABELS: Final = 10.0
# However uninformative a type was, a little of it stays: what is never looked at is never known.
_FLOOR: Final = 0.25
_CEILING: Final = 4.0

# Relative weights of a metal; crystals and their strains teach energies and elasticity, rattles and liquids the rest.
_WEIGHTS: Final[Mapping[str, float]] = {
    "bulk": 5, "eos": 12, "shear": 10, "rattle": 26, "vacancy": 8, "interstitial": 6, "surface": 8,
    "stacking_fault": 4, "dimer": 4, "trimer": 3, "liquid": 14,
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What the labels of one `config_type` told.

    Attributes
    ----------
    labels : how many there are
    gamma : their mean extrapolation grade when they were asked for, dimensionless; above 1 is news
    """

    labels: int
    gamma: float


@dataclass(frozen=True)
class Plan:
    """What to explore.

    Attributes
    ----------
    shares : `config_type` -> share, 1 together
    moves : `md`, `mc` (swaps of elements), `defects` (MD of cells with defects) -> share, 1 together
    reasons : one line for each choice
    """

    shares: Mapping[str, float]
    moves: Mapping[str, float]
    reasons: tuple[str, ...]

    def counts(self, total: int) -> dict[str, int]:
        """Return how many of `total` each type gets: at least one, by largest remainders."""
        exact = {name: share * total for name, share in self.shares.items()}
        whole = {name: max(1, math.floor(value)) for name, value in exact.items()}
        by_rest = sorted(exact, key=lambda name: (math.floor(exact[name]) - exact[name], name))
        for name in by_rest[: max(0, total - sum(whole.values()))]:
            whole[name] += 1
        return whole


def plan(
    material: Material,
    evidence: Mapping[str, Evidence] | None = None,
    overrides: Mapping[str, float] | None = None,
) -> Plan:
    """Return the shares for a material.

    Parameters
    ----------
    evidence
        By `config_type`; None or empty before there are labels.
    overrides
        Weights that the user gives by `config_type`, relative to the others' sum of 1; 0 leaves a type out.
    """
    weights, reasons = _of_material(material)
    for name, told in sorted((evidence or {}).items()):
        if name in weights:
            factor = _informative(told, evidence or {})
            weights[name] *= factor
            reasons.append(
                f"{name}: times {factor:.2f}: {told.labels} labels with mean gamma {told.gamma:.2g}, of all types "
                f"{_mean_gamma(evidence or {}):.2g}"
            )
    shares = _normalised(weights)
    if overrides:
        shares = _normalised({**shares, **{name: float(w) for name, w in overrides.items()}})
        reasons += [f"{name}: {weight:g}: given" for name, weight in overrides.items()]
    moves, told_moves = _moves(material, shares)
    return Plan(shares, moves, tuple(reasons + told_moves))


def _of_material(material: Material) -> tuple[dict[str, float], list[str]]:
    weights = dict(_WEIGHTS)
    reasons = [f"{material.formula}: {material.kind}: {material.kind_reason}"]

    def scale(factor: float, names: tuple[str, ...], why: str) -> None:
        for name in names:
            weights[name] = weights.get(name, 0.0) * factor
        reasons.append(f"{', '.join(names)}: times {factor:g}: {why}")

    if len(material.elements) > 1:
        weights["antisite"] = 6.0
        reasons.append("antisite: weight 6: several elements")
    if material.kind == "alloy":
        weights["sqs"] = 14.0
        reasons.append("sqs: weight 14: elements of an alloy mix")
        if not material.prototypes:
            scale(2.0, ("sqs",), "a solid solution: no ordered crystal is known")
    if material.kind == "ionic":
        scale(0.5, ("antisite", "stacking_fault"), "like charges would meet: rare in ionic crystals")
        scale(0.5, ("dimer", "trimer"), "ions alone are not the ions of the crystal")
    if material.kind == "covalent":
        scale(1.5, ("liquid", "dimer", "trimer", "surface"), "directed bonds: broken and bent ones differ most")
    if material.kind == "noble":
        scale(0.5, ("shear", "stacking_fault"), "weak pair forces without directions")
    if material.bulk_modulus_gpa.value < SOFT_GPA:
        why = f"soft: bulk modulus {material.bulk_modulus_gpa.value:.3g} GPa ({material.bulk_modulus_gpa.reason})"
        scale(1.3, ("rattle", "eos"), why)
    if material.melting_k.value > REFRACTORY_K:
        why = (
            f"melts at {material.melting_k.value:.0f} K ({material.melting_k.reason}): MD seldom makes these by itself"
        )
        scale(1.3, ("vacancy", "interstitial", "surface"), why)
    if material.magnetic_elements:
        scale(1.25, ("eos",), f"moments of {', '.join(material.magnetic_elements)} depend on the volume")
    return weights, reasons


def _informative(told: Evidence, evidence: Mapping[str, Evidence]) -> float:
    """Return the factor of a type: its gamma beside that of all, believed the more the more labels there are."""
    mean = _mean_gamma(evidence)
    if told.labels <= 0 or mean <= 0:
        return 1.0
    seen = min(_CEILING, max(_FLOOR, told.gamma / mean))
    trust = told.labels / (told.labels + _PRIOR_LABELS)
    return float(seen**trust)


def _mean_gamma(evidence: Mapping[str, Evidence]) -> float:
    total = sum(told.labels for told in evidence.values())
    return sum(told.labels * told.gamma for told in evidence.values()) / total if total else 0.0


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if weight > 0}


_DEFECTS: Final = ("vacancy", "interstitial", "antisite", "surface", "stacking_fault")


def _moves(material: Material, shares: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Return how exploration moves: by MD, by Monte Carlo swaps, and how much of it in cells with defects."""
    swaps = 0.25 if material.kind == "alloy" else 0.0
    defects = sum(shares.get(name, 0.0) for name in _DEFECTS)
    why = "elements change places too slowly in MD" if swaps else "no elements that would change places"
    return (
        {"md": (1.0 - swaps) * (1.0 - defects), "mc": swaps, "defects": (1.0 - swaps) * defects},
        [f"moves: {swaps:.0%} Monte Carlo: {why}", f"moves: {defects:.0%} of MD in cells with defects, as their seeds"],
    )

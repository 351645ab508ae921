"""composition -> infer: the values that nobody gave, each with what it follows from.

Reads: the section `material`, and what tables know of it. Writes: nothing; `autopipe init` and every reader of
`autopipe.yaml` fill in what is left open there. Next: `explore`.

Explicit values always win: nothing here replaces a key that the user wrote.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlip_autopipec.ace.basis_size import NEIGHBOURS
from mlip_autopipec.core.dftsettings import METAL_KSPACING
from mlip_autopipec.core.magnetism import MAGNETIC
from mlip_autopipec.structures.seeds.generator import nearest_distance
from mlip_autopipec.structures.seeds.material import Material

# fs; aluminium does well with 2, and frequencies go with the root of the mass.
_ALUMINIUM: Final = (26.98, 2.0)
# Of the melting point: a crystal, a hot one, far beyond melting: superheated crystals stand 1.2 to 1.3 for long.
_TEMPERATURES: Final = (0.3, 0.75, 1.6)
_ROOM_K: Final = 300.0
# Elements whose compounds order antiferromagnetically (most oxides and halides of 3d metals), chromium and manganese.
_ANTIFERRO: Final = frozenset({"Cr", "Mn"})


@dataclass(frozen=True)
class Inferred:
    """A value that follows from the material.

    Attributes
    ----------
    key : dotted path in the configuration
    reason : from what, and why
    beside : further keys of the same section; one of them given, the user has decided this himself
    """

    key: str
    value: Any
    reason: str
    beside: tuple[str, ...] = ()


def infer(
    material: Material, engine: str, n_seeds: int, *, learned: int | None = None, picks: int | None = None
) -> list[Inferred]:
    """Return all values that follow from a material.

    Parameters
    ----------
    engine
        The labeller's: some keys exist only for some of them.
    n_seeds
        Structures that are made for the first fit.
    learned
        Of the structures that are there, those that will be learned from; None before there are any.
    picks
        Structures that are labelled in their place, of a run that explores.
    """
    return [
        *_dynamics(material, engine), *_cells(material), *_fit(material, engine), _first(n_seeds, learned, picks),
        *_dft(material, engine),
    ]  # fmt: skip


def infer_exploration(material: Material, shares: Mapping[str, float]) -> list[Inferred]:
    """Return what follows for the section `explore`, of a run that has one.

    Parameters
    ----------
    shares
        The policy's, by `config_type`.
    """
    melting, modulus = material.melting_k, material.bulk_modulus_gpa
    return [
        Inferred(
            "explore.temperatures", list(temperatures(material)), f"as otf.walkers: melts at {melting.value:.0f} K"
        ),
        Inferred(
            "explore.pressures_bar",
            list(pressures_bar(material)),
            f"none, and 0.04 of the bulk modulus {modulus.value:.3g} GPa ({modulus.reason})",
        ),
        Inferred("explore.timestep_fs", timestep_fs(material), f"lightest mass {material.lightest_mass:.3g} u"),
        Inferred("explore.shares", {name: round(share, 4) for name, share in shares.items()}, "the policy's"),
    ]


def fill_in(data: Mapping[str, Any], values: Iterable[Inferred]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the configuration with what it leaves open, and the reason by dotted key of what was filled in."""
    filled = copy.deepcopy(dict(data))
    reasons = {}
    for inferred in values:
        section_name, _, key = inferred.key.rpartition(".")
        section = filled.setdefault(section_name, {})
        if not isinstance(section, dict) or any(k in section for k in (key, *inferred.beside)):
            continue
        reasons[inferred.key] = inferred.reason
    # In a second pass: what is filled in must not look like what was given.
    for inferred in values:
        if inferred.key in reasons:
            section_name, _, key = inferred.key.rpartition(".")
            filled[section_name][key] = inferred.value
    return {name: section for name, section in filled.items() if section != {} or name in data}, reasons


def temperatures(material: Material) -> tuple[float, ...]:
    """Return K: a crystal, a hot crystal, beyond melting; in steps of 10 K."""
    melting = material.melting_k.value
    coldest = min(_ROOM_K, 0.5 * melting)
    return tuple(max(coldest, 10.0 * round(part * melting / 10.0)) for part in _TEMPERATURES)


def timestep_fs(material: Material) -> float:
    """Return fs: 2 for aluminium, with the root of the lightest mass, in quarters, 0.25 to 3."""
    scaled = _ALUMINIUM[1] * math.sqrt(material.lightest_mass / _ALUMINIUM[0])
    return min(3.0, max(0.25, math.floor(4.0 * scaled + 1e-6) / 4.0))


def pressures_bar(material: Material) -> tuple[float, ...]:
    """Return bar: none, and compression by about 4 % of the volume."""
    return (0.0, float(round(0.04 * material.bulk_modulus_gpa.value * 1e4, -3)))


def _dynamics(material: Material, engine: str) -> list[Inferred]:
    melting = material.melting_k
    lightest = f"lightest mass {material.lightest_mass:.3g} u; 2 fs suit aluminium, and steps go with its root"
    parts = ", ".join(f"{part:g}" for part in _TEMPERATURES)
    found = [
        Inferred("otf.timestep", timestep_fs(material), lightest),
        Inferred(
            "otf.walkers", [_walker(material, k, t) for k, t in enumerate(temperatures(material))],
            f"{parts} of the melting point {melting.value:.0f} K ({melting.reason}), room temperature at least"
            + ("; Monte Carlo: elements of an alloy change places" if material.kind == "alloy" else ""),
            beside=("temperature", "schedule", "structure"),
        ),
    ]  # fmt: skip
    if engine == "teacher":
        found.append(Inferred("otf.steps", 2000, "a teacher is for demonstrations: some ps"))
    return found


def _walker(material: Material, number: int, temperature: float) -> dict[str, Any]:
    walker: dict[str, Any] = {"temperature": temperature}
    if material.kind == "alloy" and number == 1:
        walker["monte_carlo"] = {"every": 50, "swaps": 5}
    return walker


def _cells(material: Material) -> list[Inferred]:
    nearest = nearest_distance(material)
    shell = f"nearest neighbours of {_first_name(material)} at {nearest:.2f} A"
    found = [
        Inferred("embedding.cutoff", round(min(4.5, max(2.0, 1.12 * nearest)), 1), f"1.12 times: {shell}"),
        Inferred(
            "embedding.buffer_size", round(min(4.0, max(2.0, 0.85 * nearest)), 1), f"0.85 times: {shell}; 2 A at least"
        ),
    ]
    if material.oxidation:
        found.append(Inferred("embedding.oxidation_states", dict(material.oxidation), "charges that make the formula "
                              "neutral (Shannon 1976)"))  # fmt: skip
    return found


def _fit(material: Material, engine: str) -> list[Inferred]:
    numbers, momenta = _functions(len(material.elements))
    told = f"{len(material.elements)} element(s): functions grow with powers of it"
    radius = (3.0 * NEIGHBOURS * material.volume_per_atom / (4.0 * math.pi)) ** (1.0 / 3.0)
    sphere = (
        f"by the density of the first fit's labels: {NEIGHBOURS} neighbours of half of their atoms (so many atoms of "
        f"{material.volume_per_atom:.3g} A^3 fill a sphere of {radius:.1f} A)"
    )
    new = 3 if engine == "teacher" else 5
    cheap = "a teacher's come at once" if engine == "teacher" else "a fit is cheap beside them"
    return [
        Inferred("training.cutoff", None, sphere),
        Inferred("training.nradmax_by_orders", list(numbers), told, beside=("lmax_by_orders",)),
        Inferred("training.lmax_by_orders", list(momenta), told, beside=("nradmax_by_orders",)),
        Inferred("training.min_new_labels", new, f"labels that may wait for a refit: {cheap}"),
    ]


def _first(n_seeds: int, learned: int | None, picks: int | None) -> Inferred:
    """Return how many labels the first fit waits for: never more than can come."""
    key = "training.min_initial_labels"
    if picks is not None:
        # A tenth of the trajectories is held out to judge versions by.
        return Inferred(key, max(1, math.floor(0.8 * picks)), f"eight of ten of the {picks} picks")
    most = math.floor(0.9 * n_seeds)
    if learned is not None and learned < most:
        return Inferred(key, max(1, learned), f"all structures of start.dataset that are learned from: {learned}")
    return Inferred(key, max(1, most), f"nine of ten of the {n_seeds} seeds")


def _functions(n_elements: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if n_elements == 1:
        return (10, 4, 2), (0, 3, 2)
    if n_elements == 2:
        return (8, 3, 1), (0, 3, 1)
    return (6, 2), (0, 2)


def _dft(material: Material, engine: str) -> list[Inferred]:
    if engine not in ("espresso", "gpaw", "vasp"):
        return []
    if material.is_metallic:
        spacing, why = METAL_KSPACING, "a metal: its Fermi surface needs dense k-points"
    elif material.is_insulating:
        spacing, why = 0.30, f"{material.kind}, without d or f electrons: a gap, so that few k-points do"
    else:
        spacing, why = METAL_KSPACING, f"{material.kind}: some phase of it may be a metal, which needs dense k-points"
    found = [Inferred("labeller.kspacing", spacing, why)]
    magnetic = material.magnetic_elements
    if magnetic:
        names = ", ".join(magnetic)
        found.append(Inferred("labeller.nspin", 2, f"{names}: moments survive in solids"))
        order = "antiferro" if material.kind == "ionic" or set(material.elements) <= _ANTIFERRO else "ferro"
        told = "salts of 3d metals, chromium and manganese order so" if order == "antiferro" else "most metals order so"
        found.append(Inferred("labeller.magnetic_order", order, f"{names}: {told}"))
    else:
        found.append(Inferred("labeller.nspin", 1, f"no {', '.join(MAGNETIC)}",
                              beside=("starting_magnetization", "magnetic_moments")))  # fmt: skip
    if engine == "vasp" and not material.is_metallic:
        found += [
            Inferred("labeller.smearing", "gaussian", f"{material.kind}: there may be a gap"),
            Inferred("labeller.sigma_ev", 0.05, f"{material.kind}: there may be a gap"),
        ]
    return found


def _first_name(material: Material) -> str:
    return (material.prototypes or material.lattices)[0].name

"""Which crystal structures a composition may have, with lattice constants: known ones first, likely ones after them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mlip_autopipec.structures.seeds import compounds
from mlip_autopipec.structures.seeds.elements import ANIONS, CATIONS, reference, volume_per_atom
from mlip_autopipec.structures.seeds.prototypes import Prototype, build

# Bond length / that with six neighbours: bonds get longer the more there are (Pauling 1929, doi:10.1021/ja01379a006).
_BOND_BY_NEIGHBOURS: Final = {4: 0.95, 6: 1.0, 8: 1.04}
# Prototype -> neighbours of an atom, and a / bond length, of binary compounds.
_BONDS: Final[Mapping[str, tuple[int, float]]] = {
    "rocksalt": (6, 2.0), "cesiumchloride": (8, 1.1547), "zincblende": (4, 2.3094), "wurtzite": (4, 1.6330),
    "fluorite": (8, 2.3094), "antifluorite": (4, 2.3094), "rutile": (6, 2.36), "corundum": (6, 2.49),
    "perovskite": (6, 2.0),
}  # fmt: skip
# c/a and the like, of the ideal shape or of TiO2 and Al2O3.
_C_OVER_A: Final = {"wurtzite": 1.6330, "rutile": 0.644, "corundum": 2.729, "hcp": 1.6330, "C16": 0.804, "C11_b": 2.452,
                    "L1_0": 1.0}  # fmt: skip
# What competes: kind of bond and ratio of the two elements -> prototypes, the likeliest first.
_LIKELY: Final[Mapping[tuple[str, tuple[int, ...]], tuple[str, ...]]] = {
    ("ionic", (1, 1)): ("rocksalt", "cesiumchloride", "zincblende"),
    ("covalent", (1, 1)): ("zincblende", "wurtzite", "rocksalt"),
    ("ionic", (1, 2)): ("rutile", "fluorite"),
    ("covalent", (1, 2)): ("rutile", "fluorite"),
    ("ionic", (2, 3)): ("corundum",),
    ("ionic", (1, 1, 3)): ("perovskite",),
    ("alloy", (1, 1)): ("L1_0", "cesiumchloride"),
    ("alloy", (1, 3)): ("L1_2",),
    ("alloy", (1, 2)): ("C16", "C11_b", "C15"),
}
# Atomic volume / that of the diamond structure: what tetrahedral solids shrink to under pressure (Yin and Cohen 1982,
# doi:10.1103/PhysRevB.26.5668, silicon).
_DENSE: Final = {"sc": 0.80, "bcc": 0.72, "fcc": 0.72, "hcp": 0.72}
_COMPETING: Final = {
    "fcc": ("hcp", "bcc"), "hcp": ("fcc", "bcc"), "bcc": ("fcc", "hcp"), "diamond": ("bcc", "fcc", "sc"),
    "sc": ("fcc", "bcc"),
}  # fmt: skip
METALLIC: Final = ("fcc", "bcc", "hcp")


def key_of(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Return what two formulas of the same compound share."""
    return tuple(sorted(counts.items()))


def of_element(element: str) -> list[Prototype]:
    """Return the prototypes of a pure element, the stable one first; none if its structure and volume are unknown."""
    stable = str(reference(element).get("symmetry"))
    volume = volume_per_atom(element)
    if volume is None:
        return []
    if stable not in _COMPETING:
        why = f"volume of solid {element}; its own structure is no simple prototype: give a file for that"
        return [_by_volume(name, (element,), volume, why) for name in METALLIC]
    a, ratio = float(reference(element)["a"]), reference(element).get("c/a")
    first = {"a": a} if ratio is None else {"a": a, "c": a * float(ratio)}
    found = [build(stable, (element,), first, f"{element} at room temperature: ASE's reference states")]
    for name in _COMPETING[stable]:
        scale = _DENSE[name] if stable == "diamond" else 1.0
        why = "competes; atomic volume of the stable one" + (f" times {scale:g} (silicon's)" if scale != 1 else "")
        found.append(_by_volume(name, (element,), scale * volume, why))
    return found


def of_compound(counts: Mapping[str, int], kind: str, oxidation: Mapping[str, float]) -> list[Prototype]:
    """Return the prototypes of a compound or alloy, the known or likeliest one first; none if no ratio fits.

    Parameters
    ----------
    counts
        Atoms of each element in the reduced formula, in the user's order.
    kind
        `ionic`, `covalent` or `alloy`.
    oxidation
        e by element, of ionic compounds; may be empty.
    """
    elements = _ordered(counts, oxidation)
    ratio = tuple(counts[e] for e in elements)
    found: list[Prototype] = []
    known = KNOWN.get(key_of(counts))
    if known is not None:
        name, parameters = known
        found.append(build(name, elements, parameters, "known compound: Wyckoff's and Pearson's handbooks"))
    for name in _LIKELY.get((kind, ratio), ()):
        new = _likely(name, elements, counts, kind, oxidation, found[0] if found else None)
        found += [p for p in new if p.name not in {other.name for other in found}]
    if kind == "ionic" and ratio == (1, 2) and oxidation and oxidation[elements[0]] < 0:
        # The rarer ion is the anion: Li2O.
        return [p for p in found if p.name != "rutile"]
    return found


def mixed(parent: str, elements: tuple[str, ...], volume: float) -> Prototype:
    """Return the lattice of a solid solution, all sites taken by the first element."""
    return _by_volume(parent, elements[:1], volume, "lattice of the solid solution; mean atomic volume (Vegard)")


def _likely(
    name: str, elements: tuple[str, ...], counts: Mapping[str, int], kind: str, oxidation: Mapping[str, float],
    known: Prototype | None,
) -> Iterator[Prototype]:  # fmt: skip
    if kind == "alloy":
        volume = known.volume_per_atom if known else mean_volume(counts)
        if volume is not None:
            yield _by_volume(name, elements, volume, "competes; " + ("volume of the known one" if known else "Vegard"))
        return
    if name == "fluorite" and oxidation and oxidation[elements[0]] < 0:
        name = "antifluorite"
    bond = _six_fold_bond(elements, oxidation, known)
    if bond is None:
        return
    length, why = bond
    neighbours, a_per_bond = _BONDS[name]
    a = a_per_bond * length * _BOND_BY_NEIGHBOURS[neighbours]
    yield build(name, elements, _shape(name, a), f"competes; {why}" if known else why)


def _six_fold_bond(
    elements: tuple[str, ...], oxidation: Mapping[str, float], known: Prototype | None
) -> tuple[float, str] | None:
    """Return the bond length that six neighbours would have, A, and whence."""
    if known is not None and known.name in _BONDS:
        neighbours, a_per_bond = _BONDS[known.name]
        return float(known.atoms.cell.lengths()[0]) / a_per_bond / _BOND_BY_NEIGHBOURS[neighbours], (
            f"bonds of {known.name}, scaled by the number of neighbours (Pauling)"
        )
    radii = [_ionic_radius(e, oxidation) for e in elements]
    if oxidation and None not in radii:
        # Of ABO3 the second cation makes the octahedra.
        near = radii[-2:] if len(radii) > 2 else radii
        return float(sum(r for r in near if r is not None)), "sum of ionic radii (Shannon 1976)"
    if len(elements) == 2:
        from ase.data import atomic_numbers, covalent_radii

        total = float(sum(covalent_radii[atomic_numbers[e]] for e in elements))
        return total / _BOND_BY_NEIGHBOURS[4], "sum of covalent radii (Cordero et al. 2008)"
    return None


def _ionic_radius(element: str, oxidation: Mapping[str, float]) -> float | None:
    charge = oxidation.get(element)
    if charge is None:
        return None
    if charge < 0:
        return ANIONS[element][1]
    return next((radius for state, radius in CATIONS.get(element, ()) if state == charge), None)


def mean_volume(counts: Mapping[str, int]) -> float | None:
    """Return the mean of the elements' atomic volumes, A^3 (Vegard, Zen); None if one is unknown."""
    volumes = {e: volume_per_atom(e) for e in counts}
    if any(v is None for v in volumes.values()):
        return None
    return sum(n * float(volumes[e] or 0.0) for e, n in counts.items()) / sum(counts.values())


def _by_volume(name: str, elements: tuple[str, ...], volume: float, why: str) -> Prototype:
    unit = build(name, elements, _shape(name, 1.0 if name != "hcp" else 3.0), "")
    a = float((volume / unit.volume_per_atom) ** (1 / 3) * unit.atoms.cell.lengths()[0])
    return build(name, elements, _shape(name, a), why)


def _shape(name: str, a: float) -> dict[str, float]:
    if name == "L1_0":
        # With c equal to a spglib would still see the order, but cubic metrics mislead whoever looks at the cell.
        return {"a": 1.01 * a, "c": 0.98 * a}
    return {"a": a, "c": a * _C_OVER_A[name]} if name in _C_OVER_A else {"a": a}


def _ordered(counts: Mapping[str, int], oxidation: Mapping[str, float]) -> tuple[str, ...]:
    """Return the elements as prototypes want them: the rarer first; the larger cation first, the anion last."""
    elements = list(counts)
    if len(elements) == 2 and counts[elements[0]] == counts[elements[1]] and oxidation:
        return tuple(sorted(elements, key=lambda e: -oxidation[e]))
    if len(elements) > 2 and oxidation:
        return tuple(sorted(elements, key=lambda e: (oxidation[e] < 0, -(_ionic_radius(e, oxidation) or 0.0))))
    return tuple(sorted(elements, key=lambda e: counts[e]))


def _known() -> dict[tuple[tuple[str, int], ...], tuple[str, Mapping[str, float]]]:
    from ase.formula import Formula

    return {key_of(Formula(name).count()): entry for name, entry in compounds.COMPOUNDS.items()}


KNOWN: Final = _known()

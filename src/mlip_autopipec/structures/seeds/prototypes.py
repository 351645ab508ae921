"""Crystal prototypes: built by ASE from bond lengths or volumes, and checked by spglib before anybody uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.seeds.symmetry import space_group, standardised


@dataclass(frozen=True)
class Prototype:
    """A perfect crystal.

    Attributes
    ----------
    name : of the structure type
    atoms : conventional cell
    reason : why this one, and whence its lattice constants
    """

    name: str
    atoms: Atoms
    reason: str

    def primitive(self) -> Atoms:
        """Return the primitive cell in spglib's standard setting."""
        return standardised(self.atoms, to_primitive=True)

    @property
    def volume_per_atom(self) -> float:
        """A^3."""
        return float(self.atoms.get_volume() / len(self.atoms))


# Name -> space group, and the number of atoms of the conventional cell.
SPACE_GROUPS: Final[Mapping[str, tuple[int, int]]] = {
    "fcc": (225, 4), "bcc": (229, 2), "hcp": (194, 2), "diamond": (227, 8), "sc": (221, 1), "rocksalt": (225, 8),
    "cesiumchloride": (221, 2), "zincblende": (216, 8), "wurtzite": (186, 4), "fluorite": (225, 12),
    "antifluorite": (225, 12), "rutile": (136, 6), "corundum": (167, 30), "perovskite": (221, 5), "L1_0": (123, 4),
    "L1_2": (221, 4), "C16": (140, 12), "C15": (227, 24), "C11_b": (139, 6),
}  # fmt: skip


def build(name: str, elements: Sequence[str], parameters: Mapping[str, float], reason: str) -> Prototype:
    """Return a prototype; of two elements the rarer one comes first (TiO2: Ti; Li2O: O), of AB and ABO3 A.

    Parameters
    ----------
    parameters
        Lattice constants in A (`a`, `c`), internal ones as fractions (`u`, `x`, `z`).

    Raises
    ------
    DataError
        There is no such prototype, or spglib finds another space group than it should have.
    """
    if name not in _BUILDERS:
        raise DataError(f"prototype {name!r}: unknown", f"known are {', '.join(_BUILDERS)}")
    atoms = _BUILDERS[name](list(elements), dict(parameters))
    plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    number = space_group(plain)
    wanted, count = SPACE_GROUPS[name]
    if number != wanted or len(plain) != count:
        raise DataError(
            f"prototype {name} of {'-'.join(elements)}: spglib finds space group {number} with {len(plain)} atoms, not "
            f"{wanted} with {count}",
            "its lattice constants are wrong: give a structure file in place of the formula",
        )
    return Prototype(name, plain, reason)


def _simple(name: str) -> Callable[[list[str], dict[str, float]], Atoms]:
    return lambda e, p: bulk("".join(e), name, a=p["a"], cubic=name not in ("hcp", "sc"), c=p.get("c"))


def _binary(name: str) -> Callable[[list[str], dict[str, float]], Atoms]:
    return lambda e, p: bulk("".join(e), name, a=p["a"], cubic=True)


def _rutile(e: list[str], p: dict[str, float]) -> Atoms:
    cell = [p["a"], p["a"], p["c"], 90, 90, 90]
    return crystal(e, [(0, 0, 0), (p.get("u", 0.305), p.get("u", 0.305), 0)], spacegroup=136, cellpar=cell)


def _corundum(e: list[str], p: dict[str, float]) -> Atoms:
    sites = [(0, 0, p.get("z", 0.352)), (p.get("x", 0.306), 0, 0.25)]
    return crystal(e, sites, spacegroup=167, cellpar=[p["a"], p["a"], p["c"], 90, 90, 120])


def _wurtzite(e: list[str], p: dict[str, float]) -> Atoms:
    return bulk("".join(e), "wurtzite", a=p["a"], c=p["c"])


def _fluorite(e: list[str], p: dict[str, float]) -> Atoms:
    return crystal(e, [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[p["a"]] * 3 + [90] * 3)


def _cubic(e: list[str], p: dict[str, float], sites: list[tuple[float, float, float]]) -> Atoms:
    return crystal(e, sites, spacegroup=221, cellpar=[p["a"]] * 3 + [90] * 3)


def _l1_0(e: list[str], p: dict[str, float]) -> Atoms:
    a, c = p["a"], p["c"]
    places = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms([e[0], e[0], e[1], e[1]], scaled_positions=places, cell=[a, a, c], pbc=True)


def _c16(e: list[str], p: dict[str, float]) -> Atoms:
    x = p.get("x", 0.158)
    sites = [(0, 0, 0.25), (x, x + 0.5, 0)]
    return crystal(e, sites, spacegroup=140, cellpar=[p["a"], p["a"], p["c"], 90, 90, 90])


def _c15(e: list[str], p: dict[str, float]) -> Atoms:
    sites = [(0.125, 0.125, 0.125), (0.5, 0.5, 0.5)]
    return crystal(e, sites, spacegroup=227, setting=2, cellpar=[p["a"]] * 3 + [90] * 3)


def _c11b(e: list[str], p: dict[str, float]) -> Atoms:
    sites = [(0, 0, 0), (0, 0, p.get("z", 1 / 3))]
    return crystal(e, sites, spacegroup=139, cellpar=[p["a"], p["a"], p["c"], 90, 90, 90])


_BUILDERS: Final[Mapping[str, Callable[[list[str], dict[str, float]], Atoms]]] = {
    **{name: _simple(name) for name in ("fcc", "bcc", "hcp", "diamond", "sc")},
    **{name: _binary(name) for name in ("rocksalt", "cesiumchloride", "zincblende")},
    "wurtzite": _wurtzite,
    "fluorite": _fluorite,
    "antifluorite": _fluorite,
    "rutile": _rutile,
    "corundum": _corundum,
    "perovskite": lambda e, p: _cubic(e, p, [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)]),
    "L1_0": _l1_0,
    "L1_2": lambda e, p: _cubic(e, p, [(0, 0, 0), (0.5, 0.5, 0)]),
    "C16": _c16,
    "C15": _c15,
    "C11_b": _c11b,
}

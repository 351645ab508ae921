"""Seeds of a material: crystals, strains, rattles, mixtures, defects, surfaces, clusters, liquids."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle, islice
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.seeds import clusters, mixtures, planes, points
from mlip_autopipec.structures.seeds.checks import Distinct, wrong_with
from mlip_autopipec.structures.seeds.configtypes import CONFIG_TYPES
from mlip_autopipec.structures.seeds.contacts import Bonds, bonds, pairs
from mlip_autopipec.structures.seeds.deform import rattled, scaled, sheared, volumes
from mlip_autopipec.structures.seeds.material import Material
from mlip_autopipec.structures.seeds.packing import random_packing
from mlip_autopipec.structures.seeds.supercells import supercell

# Liquid volume / the crystal's: metals melt by 2 to 6 %, ionic crystals by 20 to 30 %, silicon shrinks; hot ones are
# wider.
_LIQUID: Final = {"covalent": (0.90, 1.15), "ionic": (1.12, 1.40), "noble": (1.10, 1.35)}
_LIQUID_METAL: Final = (1.02, 1.22)
_SOFT_GPA: Final = 40.0
# Of a bond: displacements from 100 K to beyond melting (Lindemann: 0.1 to 0.15 in length, 0.06 to 0.09 by coordinate).
_RATTLE: Final = (0.010, 0.060)
_CALM: Final = 0.015


@dataclass(frozen=True)
class Seeds:
    """What was made.

    Attributes
    ----------
    frames : each with `config_type` and `seed_number` in its info
    notes : what was asked for and is not there, and why
    """

    frames: tuple[Atoms, ...]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return how many there are of each `config_type`."""
        types = [atoms.info["config_type"] for atoms in self.frames]
        return {name: types.count(name) for name in CONFIG_TYPES if name in types}


@dataclass(frozen=True)
class Crystal:
    """What defects are made in: a prototype, or a solid solution in place of one."""

    structure: str
    conventional: Atoms
    primitive: Atoms


@dataclass
class Maker:
    """What all types share.

    Attributes
    ----------
    most : atoms of a supercell
    """

    material: Material
    seed: int
    most: int
    notes: list[str] = field(default_factory=list)

    @cached_property
    def crystals(self) -> list[Crystal]:
        """Those of the composition, the likeliest first; of a solid solution one on each lattice."""
        found = [Crystal(p.name, p.atoms, p.primitive()) for p in self.material.prototypes]
        if found:
            return found
        sizes = (min(16, self.most), min(8, self.most))
        cells = [self.mixture(k, size, 0) for k, size in zip(range(len(self.material.lattices)), sizes, strict=False)]
        return [Crystal(p.name, cell, cell) for p, cell in zip(self.material.lattices, cells, strict=True)]

    @cached_property
    def bonds(self) -> Bonds:
        """Shortest distances of all pairs of elements, A."""
        crystals = [c.primitive for c in self.crystals[:1]] or []
        crystals += [p.primitive() for p in self.material.prototypes[1:]]
        return bonds(self.material.elements, [*crystals, *(p.primitive() for p in self.material.end_members)])

    @property
    def shortest(self) -> float:
        """Shortest bond, A."""
        return min(self.bonds.values())

    def rng(self, name: str) -> np.random.Generator:
        """Return a stream of its own for each type, so that more of one changes nothing of another."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def mixture(self, lattice: int, most: int, number: int) -> Atoms:
        """Return a solid solution on one of the lattices."""
        seed = self.seed + 1000 * number + 17
        return mixtures.solid_solution(self.material.lattices[lattice], self.material.counts, most, seed)

    def supercell(self, crystal: Crystal, most: int | None = None) -> Atoms:
        """Return a compact supercell."""
        return supercell([crystal.conventional, crystal.primitive], most or self.most)

    def stir(self, atoms: Atoms, rng: np.random.Generator, part: float = _CALM, strain: float = 0.005) -> Atoms:
        """Return a copy with displacements of a part of the shortest bond."""
        return rattled(atoms, rng, part * self.shortest, strain)


def generate(material: Material, wanted: Mapping[str, int], seed: int, *, most: int = 32) -> Seeds:
    """Make seeds: sane, different, and the same for the same arguments.

    Parameters
    ----------
    wanted
        How many of each `config_type`.
    seed
        0 or more.
    most
        Atoms of a supercell; slabs and packings are about as large.
    """
    unknown = sorted(set(wanted) - set(CONFIG_TYPES))
    if unknown:
        raise DataError(f"config_type {unknown[0]!r}: unknown", f"known are {', '.join(CONFIG_TYPES)}")
    maker = Maker(material, seed, most)
    distinct = Distinct()
    frames: list[Atoms] = []
    for name in CONFIG_TYPES:
        asked = wanted.get(name, 0)
        kept = 0
        for atoms in _MAKERS[name](maker, asked) if asked else []:
            if told := wrong_with(atoms, name, material.volume_per_atom):
                maker.notes.append(f"{name}: one left out: {told}")
            elif kept < asked and distinct.is_new(atoms):
                frames.append(_finished(atoms, name, len(frames)))
                kept += 1
        if kept < asked:
            maker.notes.append(f"{name}: {kept} of {asked}: there are no more that are sane and differ")
    return Seeds(tuple(frames), tuple(maker.notes))


def _finished(atoms: Atoms, config_type: str, number: int) -> Atoms:
    plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    plain.wrap()
    plain.info.update(config_type=config_type, seed_number=number)
    return plain


def split(count: int, kinds: int) -> list[int]:
    """Return how many of `count` each of several crystals gets: the first one half at least, the others alike."""
    if kinds == 0:
        return []
    rest = count // (2 * kinds) if kinds > 1 else 0
    return [count - rest * (kinds - 1), *[rest] * (kinds - 1)]


def _bulk(maker: Maker, count: int) -> list[Atoms]:
    own = [c.primitive for c in maker.crystals]
    ends = [p.primitive() for p in maker.material.end_members]
    return [*own, *ends]


def _eos(maker: Maker, count: int) -> list[Atoms]:
    limits = (0.78, 1.25) if maker.material.bulk_modulus_gpa.value < _SOFT_GPA else (0.84, 1.18)
    parts = zip(maker.crystals, split(count, len(maker.crystals)), strict=True)
    # The crystal itself is among `bulk`: an even number of volumes never repeats it.
    return [a for c, n in parts for a in volumes(c.primitive, n + n % 2, limits)]


def _shear(maker: Maker, count: int) -> list[Atoms]:
    # More than are wanted: many are equal by symmetry. Both signs differ for what is not a shear of a cubic crystal.
    return [
        sheared(crystal.primitive, k, e)
        for crystal in maker.crystals
        for e in (0.03, -0.03, 0.06, -0.06, 0.015)
        for k in (0, 5, 3, 2, 4, 1)
    ]


def _rattle(maker: Maker, count: int) -> list[Atoms]:
    rng = maker.rng("rattle")
    strain = 0.04 if maker.material.bulk_modulus_gpa.value < _SOFT_GPA else 0.03
    found = []
    for crystal, n in zip(maker.crystals, split(count, len(maker.crystals)), strict=True):
        cell = maker.supercell(crystal)
        found += [maker.stir(cell, rng, float(part), strain) for part in np.linspace(*_RATTLE, max(n, 2))[:n]]
    return found


def _sqs(maker: Maker, count: int) -> list[Atoms]:
    if not maker.material.lattices:
        return []
    if not mixtures.has_icet():
        maker.notes.append(mixtures.NO_ICET)
    rng = maker.rng("sqs")
    cells = [maker.mixture(k, maker.most // 2, k + 1) for k in range(len(maker.material.lattices))]
    parts = zip(np.linspace(0.004, 0.05, count), cycle((1.0, 0.92, 1.08)), cycle(cells), strict=False)
    return [maker.stir(scaled(cell, factor), rng, float(part), 0.01) for part, factor, cell in parts]


def _stirring(count: int) -> np.ndarray:
    """Return displacements of defects, of a bond: from cold to hot."""
    return np.linspace(_CALM, 3.0 * _CALM, count)


def _vacancy(maker: Maker, count: int) -> list[Atoms]:
    rng = maker.rng("vacancy")
    cell = maker.supercell(maker.crystals[0])
    if maker.material.kind == "ionic":
        perfect = [points.schottky(cell, maker.material.counts)] * count
    else:
        perfect = [points.vacancy(cell, e) for e in islice(cycle(maker.material.elements), count)]
    return [maker.stir(a, rng, float(part)) for part, a in zip(_stirring(count), perfect, strict=True)]


def _interstitial(maker: Maker, count: int) -> list[Atoms]:
    rng = maker.rng("interstitial")
    found = []
    for k, element in enumerate(islice(cycle(maker.material.elements), count)):
        crystal = maker.crystals[0] if k < 2 * len(maker.material.elements) else maker.crystals[-1]
        cell = maker.stir(maker.supercell(crystal), rng, 0.004)
        if maker.material.kind == "ionic":
            made = points.frenkel(cell, element, maker.bonds)
        else:
            made = points.interstitial(cell, element, maker.bonds)
        if made is None:
            maker.notes.append(f"interstitial: no room for {element} in {crystal.structure}")
        else:
            found.append(maker.stir(made, rng, 0.01))
    return found


def _antisite(maker: Maker, count: int) -> list[Atoms]:
    elements = maker.material.elements
    swaps = [(a, b) for a in elements for b in elements if a != b]
    if not swaps:
        return []
    rng = maker.rng("antisite")
    cell = maker.supercell(maker.crystals[0])
    ionic = maker.material.kind == "ionic"
    # In ionic crystals like charges meet: only an exchange keeps the cell neutral.
    made = [points.antisite(cell, a, b, exchange=ionic or k % 3 == 2) for k, (a, b) in
            enumerate(islice(cycle(swaps), count))]  # fmt: skip
    return [maker.stir(a, rng, float(part)) for part, a in zip(_stirring(count), made, strict=True)]


def _surface(maker: Maker, count: int) -> list[Atoms]:
    rng = maker.rng("surface")
    slabs = []
    for crystal in maker.crystals:
        for miller in planes.millers(crystal.structure):
            made = planes.slab(crystal.conventional, miller, maker.most + 8)
            if made is not None:
                slabs.append(made)
        if len(slabs) >= count:
            break
    parts = np.linspace(0.003, 2.0 * _CALM, count)
    return [maker.stir(a, rng, float(part), 0.0) for part, a in zip(parts, cycle(slabs), strict=False)] if slabs else []


def _stacking_fault(maker: Maker, count: int) -> list[Atoms]:
    rng = maker.rng("stacking_fault")
    faults = []
    for crystal in maker.crystals:
        made = planes.stacking_fault(crystal.conventional, crystal.structure, maker.bonds, maker.most + 8)
        if made is not None:
            faults.append(made)
        if faults:
            break
    if not faults:
        maker.notes.append("stacking_fault: no shift leaves room in a cell of this size")
    parts = np.linspace(0.0, 2.0 * _CALM, count)
    return (
        [maker.stir(a, rng, float(part), 0.004) for part, a in zip(parts, cycle(faults), strict=False)]
        if faults
        else []
    )


def _liquid(maker: Maker, count: int) -> list[Atoms]:
    rng = maker.rng("liquid")
    material = maker.material
    units = max(1, min(maker.most, 32) // sum(material.counts.values()))
    low, high = _LIQUID.get(material.kind, _LIQUID_METAL)
    found = []
    for factor in np.linspace(low, high, count):
        try:
            found.append(
                random_packing(material.counts, units, float(factor) * material.volume_per_atom, maker.bonds, rng)
            )
        except DataError as error:
            maker.notes.append(f"liquid: {error.message}")
    return found


_MAKERS: Final[Mapping[str, Callable[[Maker, int], list[Atoms]]]] = {
    "bulk": _bulk, "eos": _eos, "shear": _shear, "rattle": _rattle, "sqs": _sqs, "vacancy": _vacancy,
    "interstitial": _interstitial, "antisite": _antisite, "surface": _surface, "stacking_fault": _stacking_fault,
    "dimer": lambda maker, count: clusters.dimers(maker.material.elements, count, maker.bonds),
    "trimer": lambda maker, count: clusters.trimers(maker.material.elements, count, maker.bonds, maker.rng("trimer")),
    "liquid": _liquid,
}  # fmt: skip


def start_structure(material: Material, seed: int, *, least: int = 100, most: int = 260) -> Atoms:
    """Return what MD starts from: a compact supercell of the first crystal, or of a random solid solution.

    Parameters
    ----------
    least, most
        Atoms.
    """
    if material.prototypes:
        first = material.prototypes[0]
        return supercell([first.atoms, first.primitive()], most, least=least)
    lattice = material.lattices[0]
    cell = supercell([lattice.atoms, lattice.primitive()], most, least=least)
    total = sum(material.counts.values())
    symbols: list[Any] = [e for e, n in material.counts.items() for _ in range(n * len(cell) // total)]
    symbols += [max(material.counts, key=lambda e: material.counts[e])] * (len(cell) - len(symbols))
    shuffled = np.random.default_rng(seed).permutation(symbols)
    return Atoms(list(shuffled), positions=cell.positions, cell=cell.cell, pbc=True)


def nearest_distance(material: Material) -> float:
    """Return the shortest distance in the material's first crystal, A."""
    return float(pairs((material.prototypes or material.lattices)[0].primitive(), 8.0)[2].min())

"""What a material is, as far as its formula or a crystal tells: kind of bonds, prototypes, melting point, hardness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final, Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.formula import Formula

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.magnetism import MAGNETIC
from mlip_autopipec.structures.seeds import candidates, compounds
from mlip_autopipec.structures.seeds.candidates import KNOWN
from mlip_autopipec.structures.seeds.checks import MOST_ATOMS
from mlip_autopipec.structures.seeds.elements import (
    ANIONS,
    BULK_MODULUS_GPA,
    CATIONS,
    ELECTRONEGATIVITY,
    MELTING_K,
    METALLOIDS,
    NOBLE,
    NONMETALS,
    in_d_or_f_block,
    reference,
)
from mlip_autopipec.structures.seeds.prototypes import Prototype
from mlip_autopipec.structures.seeds.symmetry import space_group, standardised

Kind = Literal["metal", "alloy", "covalent", "ionic", "noble"]
# Difference on Pauling's scale from which half of a bond is ionic (Pauling, The Nature of the Chemical Bond, 1960).
_IONIC: Final = 1.5
_MOST_FORMULA_UNITS: Final = 40
_UNKNOWN_MELTING_K: Final = 1500.0
_UNKNOWN_MODULUS_GPA: Final = 80.0


@dataclass(frozen=True)
class Fact:
    """A value with the reason for it."""

    value: float
    reason: str


@dataclass(frozen=True)
class Material:
    """A composition and what follows from it.

    Attributes
    ----------
    formula : reduced, as the user wrote it
    counts : atoms of each element in it
    prototypes : crystals of this composition, the stable or likeliest first; none for a solid solution
    lattices : fcc, bcc, hcp of a solid solution, all sites taken by one element; the likeliest first
    end_members : stable crystals of the elements of an alloy
    melting_k, bulk_modulus_gpa : guesses with their reasons
    oxidation : e by element, of ionic compounds
    warnings : what the user should know
    """

    formula: str
    counts: Mapping[str, int]
    kind: Kind
    kind_reason: str
    prototypes: tuple[Prototype, ...]
    melting_k: Fact
    bulk_modulus_gpa: Fact
    lattices: tuple[Prototype, ...] = ()
    end_members: tuple[Prototype, ...] = ()
    oxidation: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(sorted(self.counts))

    @property
    def is_metallic(self) -> bool:
        return self.kind in ("metal", "alloy")

    @property
    def is_insulating(self) -> bool:
        """True if a gap is certain, whatever the phase.

        Many nitrides, carbides and some oxides of transition metals are metals; so are dense and liquid silicon.
        """
        is_salt = self.kind == "ionic" and not any(in_d_or_f_block(e) for e in self.elements)
        return is_salt or self.kind == "noble"

    @property
    def magnetic_elements(self) -> tuple[str, ...]:
        """Those whose moments survive in solids."""
        return tuple(e for e in self.elements if e in MAGNETIC)

    @property
    def lightest_mass(self) -> float:
        """Atomic mass units."""
        return float(min(atomic_masses[atomic_numbers[e]] for e in self.elements))

    @property
    def volume_per_atom(self) -> float:
        """A^3, of the first crystal."""
        return (self.prototypes or self.lattices)[0].volume_per_atom


def of_formula(text: str) -> Material:
    """Return what a formula tells.

    Raises
    ------
    ConfigError
        It is no formula, or no crystal of this composition is known here.
    """
    counts = _counts(text)
    kind, why = _kind(counts)
    oxidation = oxidation_states(counts) if kind == "ionic" else {}
    prototypes = candidates.of_element(next(iter(counts))) if len(counts) == 1 else (
        candidates.of_compound(counts, kind, oxidation)
    )  # fmt: skip
    lattices = _lattices(counts, prototypes) if kind == "alloy" else ()
    molecules = len(counts) > 1 and set(counts) <= NONMETALS and candidates.key_of(counts) not in KNOWN
    if molecules or not (prototypes or lattices):
        raise _no_crystal(text, counts)
    return _complete(_reduced(counts), counts, kind, why, tuple(prototypes), lattices, oxidation)


def of_crystal(atoms: Atoms, name: str) -> Material:
    """Return what a crystal tells; it is the first prototype, those of its formula come after it.

    Parameters
    ----------
    name
        Of its file, for messages.

    Raises
    ------
    ConfigError
        It is not periodic, or its sites are taken partially.
    """
    if not atoms.pbc.all() or abs(atoms.cell.volume) < 1e-6:
        raise ConfigError(f"{name}: is not periodic in three directions", "give a crystal, or a formula")
    if any(len(share) > 1 or min(share.values()) < 1 for share in (atoms.info.get("occupancy") or {}).values()):
        raise ConfigError(f"{name}: has sites with partial occupancy", "give an ordered structure, or the formula")
    counts = _counts(str(atoms.symbols.formula))
    kind, why = _kind(counts)
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    standard = standardised(bare, to_primitive=False)
    if len(standard) > MOST_ATOMS:
        standard = standardised(bare, to_primitive=True)
    given = Prototype("given", standard, f"{name}; space group {space_group(standard)}")
    oxidation = oxidation_states(counts) if kind == "ionic" else {}
    others = candidates.of_element(next(iter(counts))) if len(counts) == 1 else (
        candidates.of_compound(counts, kind, oxidation)
    )  # fmt: skip
    # Its own prototype once more, with constants of a handbook, would be the same crystal twice.
    group = space_group(standard)
    crystals = (given, *(p for p in others if space_group(p.atoms) != group))
    lattices = _lattices(counts, crystals) if kind == "alloy" else ()
    found = _complete(_reduced(counts), counts, kind, why, crystals, lattices, oxidation)
    if len(standard) <= MOST_ATOMS:
        return found
    told = (
        f"{name}: {len(standard)} atoms in its primitive cell, of at most {MOST_ATOMS} in a seed: no seed is of this "
        "crystal; label structures of your own (start.dataset), or give a simpler crystal"
    )
    return replace(found, warnings=(*found.warnings, told))


def _complete(
    formula: str, counts: Mapping[str, int], kind: Kind, why: str, prototypes: tuple[Prototype, ...],
    lattices: tuple[Prototype, ...], oxidation: Mapping[str, float],
) -> Material:  # fmt: skip
    ends = tuple(found[0] for e in counts if (found := candidates.of_element(e))) if kind == "alloy" else ()
    warnings = []
    if len(counts) == 1 and "no simple prototype" in prototypes[0].reason:
        warnings.append(f"{formula}: {prototypes[0].reason}")
    elif len(counts) > 1 and prototypes and prototypes[0].name != "given" and candidates.key_of(counts) not in KNOWN:
        warnings.append(
            f"{formula}: no crystal of it is known here; {prototypes[0].name} is a guess: better give a file"
        )
    if not prototypes:
        warnings.append(f"{formula}: no ordered crystal is known here: the seeds are solid solutions")
    return Material(
        formula, dict(counts), kind, why, prototypes, _melting(counts), _modulus(counts), lattices, ends, oxidation,
        tuple(warnings),
    )  # fmt: skip


def _counts(text: str) -> dict[str, int]:
    """Return the atoms of the reduced formula, in the order in which they are written."""
    try:
        counts = Formula(text).reduce()[0].count()
    except Exception as error:  # ASE's parser raises anything at all
        raise ConfigError(f"{text!r}: is no chemical formula", "write e.g. Al, NaCl or CoCrFeNi") from error
    unknown = [e for e in counts if e not in atomic_numbers or e == "X"]
    if not counts or unknown:
        what = f"{unknown[0]} is no element" if unknown else "it is empty"
        raise ConfigError(f"{text!r}: is no chemical formula: {what}", "write e.g. Al, NaCl or CoCrFeNi")
    if sum(counts.values()) > _MOST_FORMULA_UNITS:
        raise ConfigError(f"{text!r}: more than {_MOST_FORMULA_UNITS} atoms in the formula", "give a structure file")
    return dict(counts)


def _reduced(counts: Mapping[str, int]) -> str:
    return "".join(f"{e}{n if n > 1 else ''}" for e, n in counts.items())


def _no_crystal(text: str, counts: Mapping[str, int]) -> ConfigError:
    if set(counts) <= NONMETALS:
        return ConfigError(f"{text!r}: a solid of molecules, as far as we know", "give a structure file of its crystal")
    return ConfigError(
        f"{text!r}: no crystal structure of this composition is known here",
        "give a structure file: autopipe init structure.cif",
    )


def _kind(counts: Mapping[str, int]) -> tuple[Kind, str]:
    elements = set(counts)
    if elements <= NOBLE:
        return "noble", "noble gas atoms"
    metals = elements - NONMETALS - METALLOIDS
    if len(elements) == 1:
        return ("metal", "a metal") if metals else ("covalent", "a nonmetal or metalloid")
    values = [ELECTRONEGATIVITY.get(e, 1.5) for e in elements]
    spread = max(values) - min(values)
    if metals and elements & set(ANIONS) and spread >= _IONIC:
        return "ionic", f"electronegativities differ by {spread:.2f}, {_IONIC:g} or more"
    if not metals or elements & NONMETALS or candidates.key_of(counts) in _TETRAHEDRAL:
        return "covalent", f"holds nonmetals or metalloids, and electronegativities differ by {spread:.2f} only"
    return "alloy", "metals (and metalloids) only"


_TETRAHEDRAL: Final = {key for key, (name, _) in KNOWN.items() if name in ("zincblende", "wurtzite")}


def oxidation_states(counts: Mapping[str, int]) -> dict[str, float]:
    """Return charges of the ions that make the formula neutral, usual ones first; empty if none do."""
    options = [
        [ANIONS[e][0]] if e in ANIONS and e not in CATIONS else [state for state, _ in CATIONS.get(e, ())]
        for e in counts
    ]
    for states in product(*options):
        if sum(n * q for n, q in zip(counts.values(), states, strict=True)) == 0:
            return {e: float(q) for e, q in zip(counts, states, strict=True)}
    return {}


def _lattices(counts: Mapping[str, int], prototypes: tuple[Prototype, ...] | list[Prototype]) -> tuple[Prototype, ...]:
    """Return the lattices of solid solutions: those of the elements, by their share."""
    volume = prototypes[0].volume_per_atom if prototypes else candidates.mean_volume(counts)
    if volume is None:
        return ()
    votes: dict[str, float] = dict.fromkeys(candidates.METALLIC, 0.0)
    for element, n in counts.items():
        kind = str(reference(element).get("symmetry"))
        if kind in votes:
            votes[kind] += n
    # Elements that are close-packed differently agree on fcc, which most solid solutions of several elements are.
    votes["fcc"] += votes["hcp"] if votes["fcc"] else 0.0
    order = sorted(votes, key=lambda name: (-votes[name], candidates.METALLIC.index(name)))
    common = max(counts, key=lambda e: counts[e])
    return tuple(candidates.mixed(name, (common,), volume) for name in order[:2])


def _melting(counts: Mapping[str, int]) -> Fact:
    found = _of_compound(counts, compounds.MELTING_K)
    if found is not None:
        return Fact(found, "CRC Handbook")
    known = [(n, MELTING_K[e]) for e, n in counts.items() if e in MELTING_K]
    if len(known) < len(counts):
        return Fact(_UNKNOWN_MELTING_K, "a guess: not of every element is it known here")
    mean = float(np.average([t for _, t in known], weights=[n for n, _ in known]))
    if len(counts) == 1:
        return Fact(mean, "CRC Handbook")
    if set(counts) & set(ANIONS):
        return Fact(_UNKNOWN_MELTING_K, "a guess: that of compounds does not follow from their elements")
    return Fact(mean, "mean of the elements' (CRC Handbook): a guess")


def _modulus(counts: Mapping[str, int]) -> Fact:
    found = _of_compound(counts, compounds.BULK_MODULUS_GPA)
    if found is not None:
        return Fact(found, "handbook")
    known = [(n, BULK_MODULUS_GPA[e]) for e, n in counts.items() if e in BULK_MODULUS_GPA]
    if len(known) < len(counts):
        return Fact(_UNKNOWN_MODULUS_GPA, "a guess: not of every element is it known here")
    mean = float(np.average([b for _, b in known], weights=[n for n, _ in known]))
    return Fact(mean, "Kittel" if len(counts) == 1 else "mean of the elements' (Kittel): a guess")


def _of_compound(counts: Mapping[str, int], table: Mapping[str, float]) -> float | None:
    wanted = candidates.key_of(counts)
    return next((v for name, v in table.items() if candidates.key_of(Formula(name).count()) == wanted), None)

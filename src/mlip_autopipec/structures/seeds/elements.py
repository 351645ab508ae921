"""What is known of the elements: tables of measured values, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ase.data import atomic_numbers, reference_states

# K, at ambient pressure (carbon and arsenic: of sublimation and of the triple point). CRC Handbook of Chemistry and
# Physics, 97th edition (2016), section 4, "Physical constants of inorganic compounds".
MELTING_K: Final[Mapping[str, float]] = {
    "H": 14, "He": 1, "Li": 454, "Be": 1560, "B": 2349, "C": 4098, "N": 63, "O": 54, "F": 53, "Ne": 25, "Na": 371,
    "Mg": 923, "Al": 933, "Si": 1687, "P": 317, "S": 388, "Cl": 172, "Ar": 84, "K": 337, "Ca": 1115, "Sc": 1814,
    "Ti": 1941, "V": 2183, "Cr": 2180, "Mn": 1519, "Fe": 1811, "Co": 1768, "Ni": 1728, "Cu": 1358, "Zn": 693,
    "Ga": 303, "Ge": 1211, "As": 1090, "Se": 494, "Br": 266, "Kr": 116, "Rb": 312, "Sr": 1050, "Y": 1795, "Zr": 2128,
    "Nb": 2750, "Mo": 2896, "Tc": 2430, "Ru": 2607, "Rh": 2237, "Pd": 1828, "Ag": 1235, "Cd": 594, "In": 430,
    "Sn": 505, "Sb": 904, "Te": 723, "I": 387, "Xe": 161, "Cs": 302, "Ba": 1000, "La": 1193, "Ce": 1068, "Pr": 1208,
    "Nd": 1297, "Sm": 1345, "Eu": 1099, "Gd": 1585, "Tb": 1629, "Dy": 1680, "Ho": 1734, "Er": 1802, "Tm": 1818,
    "Yb": 1097, "Lu": 1925, "Hf": 2506, "Ta": 3290, "W": 3695, "Re": 3459, "Os": 3306, "Ir": 2719, "Pt": 2041,
    "Au": 1337, "Hg": 234, "Tl": 577, "Pb": 601, "Bi": 545, "Th": 2023, "U": 1408,
}  # fmt: skip

# GPa. C. Kittel, Introduction to Solid State Physics, 8th edition (2005), chapter 3, table 3.
BULK_MODULUS_GPA: Final[Mapping[str, float]] = {
    "Li": 11.6, "Be": 100, "B": 178, "C": 443, "Na": 6.8, "Mg": 35.4, "Al": 72.2, "Si": 98.8, "Ar": 1.6, "K": 3.2,
    "Ca": 15.2, "Sc": 43.5, "Ti": 105, "V": 162, "Cr": 190, "Mn": 59.6, "Fe": 168, "Co": 191, "Ni": 186, "Cu": 137,
    "Zn": 59.8, "Ga": 56.9, "Ge": 77.2, "As": 39.4, "Se": 9.1, "Kr": 1.8, "Rb": 3.1, "Sr": 11.6, "Y": 36.6, "Zr": 83.3,
    "Nb": 170, "Mo": 272, "Tc": 297, "Ru": 321, "Rh": 270, "Pd": 181, "Ag": 101, "Cd": 46.7, "In": 41.1, "Sn": 111,
    "Sb": 38.3, "Te": 23, "Cs": 2, "Ba": 10.3, "La": 24.3, "Hf": 109, "Ta": 200, "W": 323, "Re": 372, "Os": 418,
    "Ir": 355, "Pt": 278, "Au": 173, "Hg": 38.2, "Tl": 35.9, "Pb": 43, "Bi": 31.5, "Th": 54.3, "U": 98.7,
}  # fmt: skip

# Pauling's scale, dimensionless. CRC Handbook, section 9, "Electronegativity".
ELECTRONEGATIVITY: Final[Mapping[str, float]] = {
    "H": 2.20, "Li": 0.98, "Be": 1.57, "B": 2.04, "C": 2.55, "N": 3.04, "O": 3.44, "F": 3.98, "Na": 0.93, "Mg": 1.31,
    "Al": 1.61, "Si": 1.90, "P": 2.19, "S": 2.58, "Cl": 3.16, "K": 0.82, "Ca": 1.00, "Sc": 1.36, "Ti": 1.54, "V": 1.63,
    "Cr": 1.66, "Mn": 1.55, "Fe": 1.83, "Co": 1.88, "Ni": 1.91, "Cu": 1.90, "Zn": 1.65, "Ga": 1.81, "Ge": 2.01,
    "As": 2.18, "Se": 2.55, "Br": 2.96, "Rb": 0.82, "Sr": 0.95, "Y": 1.22, "Zr": 1.33, "Nb": 1.6, "Mo": 2.16,
    "Tc": 1.9, "Ru": 2.2, "Rh": 2.28, "Pd": 2.20, "Ag": 1.93, "Cd": 1.69, "In": 1.78, "Sn": 1.96, "Sb": 2.05,
    "Te": 2.1, "I": 2.66, "Cs": 0.79, "Ba": 0.89, "La": 1.10, "Ce": 1.12, "Pr": 1.13, "Nd": 1.14, "Sm": 1.17,
    "Gd": 1.20, "Dy": 1.22, "Ho": 1.23, "Er": 1.24, "Tm": 1.25, "Lu": 1.27, "Hf": 1.3, "Ta": 1.5, "W": 2.36,
    "Re": 1.9, "Os": 2.2, "Ir": 2.20, "Pt": 2.28, "Au": 2.54, "Hg": 2.00, "Tl": 1.62, "Pb": 1.87, "Bi": 2.02,
    "Th": 1.3, "U": 1.38,
}  # fmt: skip

# A and e, coordination 6. R. D. Shannon 1976, doi:10.1107/S0567739476001551. Anions first.
ANIONS: Final[Mapping[str, tuple[int, float]]] = {
    "F": (-1, 1.33), "Cl": (-1, 1.81), "Br": (-1, 1.96), "I": (-1, 2.20),
    "O": (-2, 1.40), "S": (-2, 1.84), "Se": (-2, 1.98), "Te": (-2, 2.21), "N": (-3, 1.46),
}  # fmt: skip
CATIONS: Final[Mapping[str, tuple[tuple[int, float], ...]]] = {
    "Li": ((1, 0.76),), "Na": ((1, 1.02),), "K": ((1, 1.38),), "Rb": ((1, 1.52),), "Cs": ((1, 1.67),),
    "Be": ((2, 0.45),), "Mg": ((2, 0.72),), "Ca": ((2, 1.00),), "Sr": ((2, 1.18),), "Ba": ((2, 1.35),),
    "B": ((3, 0.27),), "Al": ((3, 0.535),), "Ga": ((3, 0.62),), "In": ((3, 0.80),), "Tl": ((1, 1.50), (3, 0.885)),
    "Si": ((4, 0.40),), "Ge": ((4, 0.53),), "Sn": ((4, 0.69), (2, 1.18)), "Pb": ((2, 1.19), (4, 0.775)),
    "Sc": ((3, 0.745),), "Y": ((3, 0.90),), "La": ((3, 1.032),), "Ce": ((4, 0.87), (3, 1.01)),
    "Ti": ((4, 0.605), (3, 0.67), (2, 0.86)), "Zr": ((4, 0.72),), "Hf": ((4, 0.71),), "Th": ((4, 0.94),),
    "V": ((3, 0.64), (4, 0.58), (5, 0.54), (2, 0.79)), "Nb": ((5, 0.64), (4, 0.68)), "Ta": ((5, 0.64), (4, 0.68)),
    "Cr": ((3, 0.615), (2, 0.80), (4, 0.55)), "Mo": ((4, 0.65), (6, 0.59)), "W": ((4, 0.66), (6, 0.60)),
    "Mn": ((2, 0.83), (3, 0.645), (4, 0.53)), "Fe": ((2, 0.78), (3, 0.645)), "Co": ((2, 0.745), (3, 0.61)),
    "Ni": ((2, 0.69), (3, 0.60)), "Cu": ((2, 0.73), (1, 0.77)), "Ag": ((1, 1.15),), "Zn": ((2, 0.74),),
    "Cd": ((2, 0.95),), "Hg": ((2, 1.02),), "Ru": ((4, 0.62),), "Ir": ((4, 0.625),), "Bi": ((3, 1.03),),
    "U": ((4, 0.89),),
}  # fmt: skip

# A^3 per atom, of solids whose structure no simple prototype has. CRC Handbook, densities at ambient conditions.
_VOLUMES: Final[Mapping[str, float]] = {
    "B": 7.3, "Mn": 12.2, "Ga": 19.6, "As": 21.5, "Se": 27.3, "In": 26.1, "Sn": 27.0, "Sb": 30.2, "Te": 34.0,
    "Hg": 23.5, "Bi": 35.4, "Sm": 33.2, "U": 20.8,
}  # fmt: skip

NONMETALS: Final = frozenset(["H", "He", "C", "N", "O", "F", "Ne", "P", "S", "Cl", "Ar", "Se", "Br", "Kr", "I", "Xe"])
METALLOIDS: Final = frozenset(["B", "Si", "Ge", "As", "Sb", "Te"])
NOBLE: Final = frozenset(["He", "Ne", "Ar", "Kr", "Xe"])
_D_AND_F_BLOCK: Final = (range(21, 31), range(39, 49), range(57, 81), range(89, 113))
_ATOMS_PER_CUBE: Final = {"fcc": 4, "bcc": 2, "diamond": 8, "sc": 1}


def in_d_or_f_block(element: str) -> bool:
    """True for a transition metal, groups 3 to 12, lanthanide or actinide."""
    return any(atomic_numbers[element] in block for block in _D_AND_F_BLOCK)


def reference(element: str) -> Mapping[str, Any]:
    """Return ASE's reference state of an element (its data: Kittel; Ashcroft and Mermin); empty if it has none."""
    return reference_states[atomic_numbers[element]] or {}


def volume_per_atom(element: str) -> float | None:
    """Return A^3 per atom of the solid element at ambient pressure (gases: frozen); None if nobody knows it here."""
    state = reference(element)
    kind = state.get("symmetry")
    if kind in _ATOMS_PER_CUBE:
        return float(state["a"] ** 3 / _ATOMS_PER_CUBE[kind])
    if kind == "hcp":
        return float(3**0.5 / 4 * state["a"] ** 3 * state["c/a"])
    return _VOLUMES.get(element)

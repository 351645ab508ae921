"""Lattice constants of well-known compounds at room temperature, by prototype.

R. W. G. Wyckoff, Crystal Structures, 2nd edition (1963 ff.); intermetallics: Pearson's Handbook of Crystallographic
Data (1991). Lengths in A.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# formula (elements as ASE's `Formula` reduces and sorts them: "metal" order) -> prototype and its parameters.
COMPOUNDS: Final[Mapping[str, tuple[str, Mapping[str, float]]]] = {
    **{name: ("rocksalt", {"a": a}) for name, a in {
        "LiF": 4.026, "LiCl": 5.130, "LiH": 4.084, "NaF": 4.620, "NaCl": 5.640, "NaBr": 5.973, "KF": 5.347,
        "KCl": 6.293, "KBr": 6.600, "RbCl": 6.581, "MgO": 4.212, "CaO": 4.811, "SrO": 5.160, "BaO": 5.523,
        "NiO": 4.177, "FeO": 4.326, "CoO": 4.261, "MnO": 4.445, "CdO": 4.695, "MgS": 5.200, "PbS": 5.936,
        "PbSe": 6.124, "PbTe": 6.454, "AgCl": 5.547, "TiN": 4.240, "TiC": 4.328, "VN": 4.140, "ZrN": 4.578,
        "ZrC": 4.698, "HfC": 4.641, "NbC": 4.470, "TaC": 4.456, "VC": 4.166, "CrN": 4.149,
    }.items()},
    **{name: ("cesiumchloride", {"a": a}) for name, a in {
        "CsCl": 4.123, "CsBr": 4.286, "CsI": 4.567, "NiAl": 2.887, "FeAl": 2.909, "CuZn": 2.945, "TiNi": 3.015,
        "TiFe": 2.976, "MgAg": 3.314, "CoAl": 2.862,
    }.items()},
    **{name: ("zincblende", {"a": a}) for name, a in {
        "SiC": 4.360, "BN": 3.615, "BP": 4.538, "AlP": 5.451, "AlAs": 5.662, "AlSb": 6.136, "GaP": 5.451,
        "GaAs": 5.653, "GaSb": 6.096, "InP": 5.869, "InAs": 6.058, "InSb": 6.479, "ZnS": 5.409, "ZnSe": 5.668,
        "ZnTe": 6.104, "CdTe": 6.482, "CuCl": 5.416,
    }.items()},
    **{name: ("wurtzite", {"a": a, "c": c}) for name, (a, c) in {
        "GaN": (3.189, 5.185), "AlN": (3.112, 4.982), "InN": (3.545, 5.703), "ZnO": (3.250, 5.207),
        "BeO": (2.698, 4.377), "CdS": (4.137, 6.716), "CdSe": (4.299, 7.010),
    }.items()},
    **{name: ("fluorite", {"a": a}) for name, a in {
        "CaF2": 5.463, "SrF2": 5.800, "BaF2": 6.200, "CeO2": 5.411, "UO2": 5.471, "ThO2": 5.597, "ZrO2": 5.090,
        "AuAl2": 5.997,
    }.items()},
    **{name: ("antifluorite", {"a": a}) for name, a in {
        "Li2O": 4.619, "Na2O": 5.550, "K2O": 6.436, "Li2S": 5.708, "Mg2Si": 6.351, "Mg2Sn": 6.763,
    }.items()},
    **{name: ("rutile", {"a": a, "c": c, "u": u}) for name, (a, c, u) in {
        "TiO2": (4.594, 2.959, 0.305), "SnO2": (4.737, 3.186, 0.307), "MgF2": (4.621, 3.052, 0.303),
        "RuO2": (4.492, 3.107, 0.306), "IrO2": (4.499, 3.155, 0.307), "MnO2": (4.396, 2.871, 0.302),
        "GeO2": (4.395, 2.859, 0.307), "PbO2": (4.955, 3.383, 0.307), "FeF2": (4.697, 3.309, 0.300),
    }.items()},
    **{name: ("corundum", {"a": a, "c": c}) for name, (a, c) in {
        "Al2O3": (4.759, 12.991), "Fe2O3": (5.038, 13.772), "Cr2O3": (4.954, 13.584), "V2O3": (4.952, 14.002),
        "Ti2O3": (5.148, 13.636),
    }.items()},
    **{name: ("perovskite", {"a": a}) for name, a in {
        "SrTiO3": 3.905, "BaTiO3": 4.004, "KTaO3": 3.989, "KNbO3": 4.016, "LaAlO3": 3.791, "CaTiO3": 3.840,
    }.items()},
    **{name: ("L1_0", {"a": a, "c": c}) for name, (a, c) in {
        "CuAu": (3.963, 3.671), "TiAl": (4.005, 4.070), "FePt": (3.861, 3.788), "CoPt": (3.803, 3.701),
        "FePd": (3.852, 3.723), "NiPt": (3.814, 3.533),
    }.items()},
    **{name: ("L1_2", {"a": a}) for name, a in {
        "Cu3Au": 3.748, "CuAu3": 3.980, "Ni3Al": 3.572, "Ni3Fe": 3.553, "FePt3": 3.864, "Ni3Ge": 3.566,
        "ScAl3": 4.101, "Cu3Pt": 3.703, "Fe3Pt": 3.750,
    }.items()},
    "CuAl2": ("C16", {"a": 6.067, "c": 4.877, "x": 0.1581}),
    "FeSn2": ("C16", {"a": 6.539, "c": 5.325, "x": 0.1611}),
    **{name: ("C15", {"a": a}) for name, a in {"MgCu2": 7.034, "ZrV2": 7.439, "ZrCo2": 6.954}.items()},
    "MoSi2": ("C11_b", {"a": 3.203, "c": 7.855, "z": 0.333}),
}  # fmt: skip

# K. CRC Handbook, section 4; alloys: liquidus of the binary phase diagrams (T. B. Massalski, 1990).
MELTING_K: Final[Mapping[str, float]] = {
    "LiF": 1121, "LiCl": 883, "NaF": 1269, "NaCl": 1074, "KCl": 1044, "KBr": 1007, "MgO": 3125, "CaO": 2886,
    "NiO": 2228, "FeO": 1650, "TiN": 3220, "TiC": 3340, "SiC": 3103, "GaAs": 1511, "GaN": 2773, "AlN": 3273,
    "ZnO": 2247, "CaF2": 1691, "CeO2": 2753, "UO2": 3138, "Li2O": 1711, "TiO2": 2116, "SnO2": 1903, "Al2O3": 2327,
    "Fe2O3": 1838, "SrTiO3": 2353, "BaTiO3": 1898, "CuAl2": 864, "CuAu": 1183, "Cu3Au": 1248, "NiAl": 1911,
    "Ni3Al": 1658, "TiAl": 1733, "CoCrFeNi": 1710, "MgCu2": 1066, "MoSi2": 2293, "InP": 1333, "PbTe": 1197,
}  # fmt: skip

# GPa, ambient; as in the handbooks above.
BULK_MODULUS_GPA: Final[Mapping[str, float]] = {
    "LiF": 67, "NaCl": 24, "KCl": 17, "MgO": 160, "CaO": 111, "NiO": 190, "TiN": 290, "TiC": 240, "SiC": 225,
    "GaAs": 75, "GaN": 200, "AlN": 205, "ZnO": 143, "CaF2": 82, "CeO2": 204, "UO2": 207, "TiO2": 211, "Al2O3": 254,
    "Fe2O3": 225, "SrTiO3": 174, "CuAl2": 98, "CuAu": 155, "Cu3Au": 149, "NiAl": 158, "Ni3Al": 174, "TiAl": 110,
    "CoCrFeNi": 170,
}  # fmt: skip

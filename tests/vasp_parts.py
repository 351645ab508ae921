"""A VASP to test with: the fake program, and POTCARs that have only what their readers look for."""

from __future__ import annotations

import sys
from pathlib import Path

from mlip_autopipec.engines.vasp.settings import VaspNode

FAKE = Path(__file__).parent / "fakes" / "vasp_std"
VALENCE = {"Al": 3.0, "Cu": 11.0, "Au": 11.0, "Na": 7.0, "Ni": 10.0}


def fake_potcars(folder: Path, *names: str, library: str = "potpaw_PBE") -> Path:
    """Write a folder of POTCARs, e.g. of `Al` and `Na_pv`; return it."""
    for name in names:
        element = name.partition("_")[0]
        potcar = folder / library / name / "POTCAR"
        potcar.parent.mkdir(parents=True, exist_ok=True)
        potcar.write_text(
            f"  PAW_PBE {name} 04Jan2001\n   {VALENCE[element]}\n parameters from PSCTR are:\n"
            f"   VRHFIN ={element}: s2p1\n   LEXCH  = PE\n   EATOM  =    53.7936 eV,    3.9538 Ry\n\n"
            f"   TITEL  = PAW_PBE {name} 04Jan2001\n   LULTRA =        F    use ultrasoft PP ?\n"
            f"   IUNSCR =        1    unscreen: 0-lin 1-nonlin 2-no\n   RPACOR =    1.500    partial core radius\n"
            f"   POMASS =   26.982; ZVAL   =   {VALENCE[element]:.3f}    mass and valenz\n End of Dataset\n"
        )
    return folder


def fake_vasp(folder: Path, *names: str, **node: object) -> VaspNode:
    """Return a node with the fake VASP and POTCARs of these names in `folder`."""
    command = [sys.executable, str(FAKE)]
    return VaspNode(command=command, potcar_dir=fake_potcars(folder, *names), **node)  # type: ignore[arg-type]

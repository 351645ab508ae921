"""Settings of VASP: what decides the label, and what only this node knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator

from mlip_autopipec.core.dftsettings import DftSettings
from mlip_autopipec.core.timelimit import TimeLimit

# Set by other keys, or always the same; PSTRESS would add a term to the energy that is not in the forces.
_OURS: Final = {
    "encut", "ediff", "nelm", "algo", "ismear", "sigma", "prec", "ispin", "magmom", "nsw", "ibrion", "isif", "kspacing",
    "kgamma", "lwave", "lcharg", "nelect", "idipol", "ldipol", "dipol", "gga", "metagga", "pstress", "amix", "kpts",
    "gamma", "xc", "pp", "setups", "system", "directory", "command", "txt", "atoms", "label", "restart",
}  # fmt: skip


class VaspSettings(DftSettings):
    """Of VASP: everything that decides a label's numbers, part of every task, the same for all labels of a run."""

    engine: Literal["vasp"] = "vasp"
    functional: Literal["PBE", "PBEsol", "RPBE", "LDA", "SCAN", "r2SCAN"] = Field(
        "PBE", description="of exchange and correlation; all but LDA with VASP's PBE potentials"
    )
    potcars: dict[str, str] = Field(
        default_factory=dict,
        description="folder of each element's POTCAR, e.g. {Na: Na_pv}; default: what VASP's manual recommends",
    )
    potcar_version: str = Field(
        "", pattern=r"[\w.]*", description="of the potentials: 64 means potpaw_PBE.64; default: potpaw_PBE"
    )
    encut_ev: float = Field(500.0, ge=100, le=5000, description="eV, plane-wave cutoff; at least 1.3 of ENMAX")
    smearing: Literal["gaussian", "methfessel-paxton", "fermi-dirac"] = Field(
        "methfessel-paxton", description="kind of smearing; gaussian if there may be a gap"
    )
    sigma_ev: float = Field(0.2, gt=0, le=10, description="eV, width of the smearing")
    ediff_ev: float = Field(
        1e-7, gt=0, le=1e-2, description="eV per cell, change of energy at which the SCF ends; forces need 1e-6 or less"
    )
    algo: Literal["Normal", "Fast", "VeryFast", "All", "Damped"] = Field(
        "Normal", description="of the SCF; Normal is the safest, Fast about 1.5 times faster"
    )
    mixing_amix: float | None = Field(
        None, gt=0, le=1, description="fraction of new density per SCF step; default: VASP's; smaller is safer, slower"
    )
    electron_maxstep: int = Field(150, ge=1, le=10_000, description="SCF steps after which the label is not converged")
    dipole: bool | None = Field(
        None, description="dipole correction; default: yes for slabs (one direction without period), else no"
    )
    incar: dict[str, bool | int | float | str | list[float]] = Field(
        default_factory=dict, description="further keys of INCAR, e.g. {ivdw: 12, lmaxmix: 4}"
    )

    @field_validator("potcars")
    @classmethod
    def _names_of_elements(cls, value: dict[str, str]) -> dict[str, str]:
        for element, name in value.items():
            if element == "X" or element not in atomic_numbers:
                raise ValueError(f"{element!r} is no element symbol; write e.g. Na")
            if name.partition("_")[0].partition(".")[0] != element or "/" in name:
                raise ValueError(f"{element}: {name!r} is no POTCAR folder of {element}, as {element}_pv")
        return value

    @field_validator("incar", mode="before")
    @classmethod
    def _not_ours(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        lower = {str(key).lower(): content for key, content in value.items()}
        if len(lower) < len(value):
            raise ValueError("a key is given twice, in small and in capital letters")
        if ours := sorted(set(lower) & _OURS):
            raise ValueError(f"{ours[0]}: is set by another key of the labeller section, or by the program")
        return lower


class VaspNode(TimeLimit):
    """How this node runs VASP: changes no number of a label, so it is never part of a task."""

    command: str | list[str] = Field(
        "vasp_std", description="program with its launcher, e.g. '/usr/bin/mpirun -np 8 vasp_std'"
    )
    potcar_dir: Path | None = Field(
        None, description="folder that holds potpaw_PBE (and potpaw); default: the environment's VASP_PP_PATH"
    )
    threads: int = Field(1, ge=1, le=1024, description="OpenMP threads of each MPI process")

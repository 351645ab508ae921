"""Settings of GPAW: what decides the label, and what only this node knows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator

from mlip_autopipec.core.dftsettings import DftSettings
from mlip_autopipec.core.timelimit import TimeLimit


class GpawSettings(DftSettings):
    """Of GPAW: everything that decides a label's numbers, part of every task, the same for all labels of a run."""

    engine: Literal["gpaw"] = "gpaw"
    # Those that GPAW has without libxc and datasets for.
    functional: Literal["PBE", "RPBE", "revPBE", "LDA"] = Field("PBE", description="of exchange and correlation")
    setups: dict[str, str] = Field(
        default_factory=dict,
        description="kind of PAW dataset of each element, e.g. {Ag: '11'}, or with Hubbard U {Ni: ':d,6.0'}; "
        "default: the usual one",
    )
    # 500 eV is what oxygen and 3d metals need; Al and Si do with 300.
    ecut_ev: float = Field(500.0, ge=100, le=5000, description="eV, plane-wave cutoff")
    smearing: Literal["marzari-vanderbilt", "methfessel-paxton", "fermi-dirac"] = Field(
        "marzari-vanderbilt", description="kind of smearing; cold smearing keeps forces close to those at 0 K"
    )
    # That of engine espresso (0.02 Ry), so that the two agree.
    width_ev: float = Field(0.27, gt=0, le=10, description="eV, width of the smearing")
    # Two SCF steps more than with GPAW's own 1e-4, and forces are settled to 1e-5 eV/A.
    density_tolerance: float = Field(
        1e-6, gt=0, le=1e-3, description="electrons per valence electron, change of the density at which the SCF ends"
    )
    mixing_beta: float | None = Field(
        None, gt=0, le=1, description="fraction of new density per SCF step; default: GPAW's; smaller is safer, slower"
    )
    electron_maxstep: int = Field(200, ge=1, le=10_000, description="SCF steps after which the label is not converged")
    dipole: bool | None = Field(
        None, description="dipole correction; default: yes for slabs (one direction without period), else no"
    )

    @field_validator("setups")
    @classmethod
    def _elements_exist(cls, value: dict[str, str]) -> dict[str, str]:
        for element in value:
            if element == "X" or element not in atomic_numbers:
                raise ValueError(f"{element!r} is no element symbol; write e.g. Al")
        return value


class GpawNode(TimeLimit):
    """How this node runs GPAW, which computes within the labelling process, serially."""

    setup_dir: Path | None = Field(
        None, description="folder of PAW datasets that is looked into first; default: those of the package gpaw-data"
    )

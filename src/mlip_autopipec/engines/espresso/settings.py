"""Settings of Quantum ESPRESSO: what decides the label, and what only this node knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mlip_autopipec.core.dftsettings import METAL_KSPACING, KSpacing
from mlip_autopipec.core.timelimit import TimeLimit

_OWN_KEYS = {
    "ecutwfc", "ecutrho", "occupations", "smearing", "degauss", "nspin", "starting_magnetization", "nbnd",
    "tot_charge", "nat", "ntyp", "ibrav", "edir", "emaxpos", "eopreg", "eamp",
    # of &ELECTRONS; without scf_must_converge a label might not have converged
    "conv_thr", "mixing_beta", "electron_maxstep", "startingpot", "scf_must_converge",
}  # fmt: skip


class EspressoSettings(BaseModel):
    """Of Quantum ESPRESSO: everything that decides a label, part of every task, the same for all labels of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["espresso"] = "espresso"
    elements: list[str] = Field(
        default_factory=list,
        description="all elements of the run; files and cutoffs are then taken from the library in "
        "node.espresso.pseudo_dir; not needed beside pseudopotentials",
    )
    functional: Literal["PBE", "PBEsol", "LDA"] | None = Field(
        None, description="of the library's files; default: the first of PBE, PBEsol, LDA that has all elements"
    )
    pseudopotentials: dict[str, str] = Field(
        default_factory=dict,
        description="file name in node.espresso.pseudo_dir of each element, all of one functional; default: library's",
    )
    ecutwfc_ry: float | None = Field(
        None,
        gt=0,
        le=500,
        description="Ry, plane-wave cutoff; default: the highest that the library's files need; 40 without a library",
    )
    ecutrho_ry: float | None = Field(
        None,
        gt=0,
        le=5000,
        description="Ry, density cutoff; default: the library's, or 4 ecutwfc_ry, or 8 if a file is ultrasoft or PAW",
    )
    kspacing: KSpacing = METAL_KSPACING
    smearing: Literal["marzari-vanderbilt", "methfessel-paxton", "gaussian", "fermi-dirac"] = Field(
        "marzari-vanderbilt", description="kind of smearing; cold smearing keeps forces close to those at 0 K"
    )
    degauss_ry: float = Field(0.02, gt=0, le=1, description="Ry, width of the smearing")
    conv_thr_ry: float = Field(
        1e-8, gt=0, le=1e-3, description="Ry per cell, estimated energy error at which the SCF ends; forces need 1e-8"
    )
    mixing_beta: float = Field(
        0.4, gt=0, le=1, description="fraction of new density per SCF step; smaller is safer, slower"
    )
    electron_maxstep: int = Field(150, ge=1, le=10_000, description="SCF steps after which the label is not converged")
    max_rungs: int = Field(
        12, ge=0, le=50, description="how often a failed SCF is tried again with one setting changed; 0: never"
    )
    hopeless_iterations: int = Field(
        40, ge=5, le=10_000, description="SCF steps without a smaller residual after which it is stopped as hopeless"
    )
    # Labels of one run should be of one smearing: a wrong label is worse than none.
    accept_changed_smearing: bool = Field(
        False, description="keep, and mark, a label for which only a larger smearing than degauss_ry converges"
    )
    nspin: Literal[1, 2] | None = Field(
        None, description="1: no spin; 2: collinear spin; default: 2 if Fe, Co, Ni, Mn or Cr is among the elements"
    )
    starting_magnetization: dict[str, float] = Field(
        default_factory=dict,
        description="-1 to 1 for each element, fraction of its valence electrons; default: 0.4 for Fe, Co, Ni, Mn, Cr",
    )
    magnetic_order: Literal["ferro", "antiferro"] = Field(
        "ferro", description="antiferro: moments start with opposite signs on magnetic neighbours, as in NiO and Cr"
    )
    total_charge: float = Field(0.0, ge=-10, le=10, description="e, of the cell; its energy depends on the cell's size")
    dipole: bool | None = Field(
        None, description="dipole correction; default: yes for slabs (one direction without period), else no"
    )
    system: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="further keys of pw.x's &SYSTEM, e.g. {vdw_corr: grimme-d3}"
    )
    electrons: dict[str, bool | int | float | str] = Field(
        default_factory=dict,
        description="further keys of pw.x's &ELECTRONS, e.g. {mixing_mode: local-TF}: where the ladder begins",
    )
    vacuum: float = Field(10.0, ge=3, le=100, description="A of vacuum at least, along directions without period")
    isolated_box: float = Field(
        12.0, ge=6, le=100, description="A, edge of the box of an isolated atom; without spin unless nspin is 2"
    )

    @field_validator("elements", "pseudopotentials", "starting_magnetization")
    @classmethod
    def _elements_exist(cls, value: Any) -> Any:
        for element in value:
            if element == "X" or element not in atomic_numbers:
                raise ValueError(f"{element!r} is no element symbol; write e.g. Al")
        return value

    @field_validator("pseudopotentials")
    @classmethod
    def _plain_names(cls, value: dict[str, str]) -> dict[str, str]:
        for element, name in value.items():
            if "/" in name or not name.strip():
                raise ValueError(
                    f"{element}: {name!r} is no file name; its folder belongs into node.espresso.pseudo_dir"
                )
        return value

    @field_validator("system", "electrons")
    @classmethod
    def _not_ours(cls, value: dict[str, object]) -> dict[str, object]:
        ours = sorted({key.lower() for key in value} & _OWN_KEYS)
        if ours:
            raise ValueError(f"{ours[0]}: is set by another key of the labeller section, or by the program")
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, to_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `electrons` out if it is empty: tasks and labels of runs that began without it stay theirs."""
        content: dict[str, Any] = to_dict(self)
        return content if self.electrons else {k: v for k, v in content.items() if k != "electrons"}

    @model_validator(mode="after")
    def _fits_together(self) -> EspressoSettings:
        if not self.pseudopotentials and not self.elements:
            raise ValueError("labeller.elements: name the run's elements, or give pseudopotentials for them")
        lacking = sorted(set(self.elements) - set(self.pseudopotentials)) if self.pseudopotentials else []
        if lacking:
            raise ValueError(f"labeller.pseudopotentials: nothing for {', '.join(lacking)} of labeller.elements")
        if self.ecutrho_ry is not None and self.ecutwfc_ry is not None and self.ecutrho_ry < 4 * self.ecutwfc_ry:
            raise ValueError(
                f"labeller.ecutrho_ry: {self.ecutrho_ry:g} Ry is below 4 ecutwfc_ry; leave it out or raise it"
            )
        if self.nspin == 1 and self.starting_magnetization:
            raise ValueError("labeller.starting_magnetization: has no meaning without spin; set nspin: 2 or remove it")
        wrong = [e for e, m in self.starting_magnetization.items() if abs(m) > 1]
        if wrong:
            raise ValueError(f"labeller.starting_magnetization: {wrong[0]}: give -1 to 1")
        return self


class EspressoNode(TimeLimit):
    """How this node runs pw.x: changes no number of a label, so it is never part of a task."""

    command: str | list[str] = Field(
        "pw.x",
        description="program with its launcher, e.g. '/usr/bin/mpirun -np 8 pw.x -nk 2', the launcher with its path "
        "since Python packages bring an mpirun of another MPI; as root add --allow-run-as-root",
    )
    pseudo_dir: Path = Field(Path("/usr/share/espresso/pseudo"), description="folder of the pseudopotentials; Debian's")
    scratch: Path | None = Field(None, description="fast local folder for pw.x's scratch; default: beside the input")
    # An hour less than supervisor.label_timeout_s, so that pw.x itself says why it ended.
    max_seconds: float = Field(82_800.0, gt=0, description="s of wall time after which pw.x stops by itself")
    kill_grace_s: float = Field(
        60.0,
        gt=0,
        description="s beyond max_seconds after which pw.x is killed; what saving takes before a batch job ends",
    )
    # Small carved cells do not fill several threads, and pw.x would take all cores of the node unasked.
    threads: int = Field(1, ge=1, le=1024, description="OpenMP threads of each MPI process")
    # pw.x then writes its wave functions as well, which costs more than it saves unless labels are close neighbours.
    remembered_densities: int = Field(
        0, ge=0, le=1000, description="cells whose last density is where an SCF starts if no atom moved by 0.1 A; 0: no"
    )

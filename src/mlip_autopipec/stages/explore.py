"""seeds -> explore -> candidate task.

Reads: the start structures that the user (or `autopipe init`) gave. Writes: tasks in `queue/dft/pending`, one for each
structure that has no label yet; with a surrogate, tasks in `queue/explore/pending` instead, whose frames `select` then
picks from. Next: `label`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.store.sides import side_of
from mlip_autopipec.store.task import Task

# Labels that MD waits for come first: gamma is at least 1 there.
SEED_PRIORITY = 0.0
_MOST_AT_ONCE = 10_000


class SurrogateSettings(BaseModel):
    """What stands in for DFT while structures are looked for: its energies are never trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none", "mace", "potential", "emt", "lj", "ase"] = Field(
        "none",
        description="none: the start structures alone are labelled; mace: a foundation model; potential: an ACE file; "
        "emt, lj: analytic; ase: any calculator of ASE",
    )
    model: str | None = Field(
        None, description="mace: a name (medium-mpa-0) or a file; potential: .yaml or .yace; relative to the run"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="mace: where it runs; auto: a GPU if there is one"
    )
    dtype: Literal["float32", "float64"] = Field(
        "float32", description="mace: precision; MD needs no more than float32"
    )
    batch: Literal["auto"] | int = Field(
        "auto",
        description="mace: trajectories that a worker moves at once; auto: 32 on a GPU, else one by one through ASE",
    )
    calculator: str | None = Field(None, description="ase: dotted path of a class, e.g. ase.calculators.emt.EMT")
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the calculator (ase, lj), ASE's units"
    )

    @field_validator("batch", mode="before")
    @classmethod
    def _some_or_auto(cls, value: Any) -> Any:
        # Of a union, the library would name each half and why it is not that.
        if value != "auto" and not (type(value) is int and 1 <= value <= _MOST_AT_ONCE):
            raise ValueError(f"needs auto, or a number from 1 to {_MOST_AT_ONCE}, found {value!r}")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for key, kinds in (("model", ("mace", "potential")), ("calculator", ("ase",))):
            given = getattr(self, key) is not None
            if self.kind in kinds and not given:
                raise ValueError(f"explore.surrogate.{key}: missing; kind {self.kind} needs it")
            if given and self.kind not in kinds:
                raise ValueError(f"explore.surrogate.{key}: belongs to kind {' or '.join(kinds)}, this is {self.kind}")
        if self.batch not in ("auto", 1) and self.kind != "mace":
            raise ValueError(f"explore.surrogate.batch: belongs to kind mace, this is {self.kind}")
        if self.kwargs and self.kind not in ("ase", "lj"):
            raise ValueError(f"explore.surrogate.kwargs: belongs to kind ase or lj, this is {self.kind}")
        return self

    def in_task(self) -> dict[str, Any]:
        """Return what stands in a task: what decides the forces, nothing of the node."""
        keys = {"mace": ("model", "dtype"), "potential": ("model",), "ase": ("calculator", "kwargs"), "lj": ("kwargs",)}
        return {"kind": self.kind, **{key: getattr(self, key) for key in keys.get(self.kind, ())}}


class ExploreSettings(BaseModel):
    """Molecular dynamics with a surrogate before the first potential exists, and what is picked from it for labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    surrogate: SurrogateSettings = Field(
        default_factory=lambda: SurrogateSettings(kind="none"), description="who computes the forces of that MD"
    )
    temperatures: tuple[float, ...] = Field(
        (300.0, 1000.0), min_length=1, description="K, of Langevin MD; a grid with pressures_bar"
    )
    pressures_bar: tuple[float, ...] = Field(
        (), description="bar, of further MD at constant pressure; besides that at the seeds' own volume"
    )
    # Frames 20 fs apart differ; 2 ps reach beyond a few vibrations.
    steps: int = Field(2000, ge=1, le=100_000_000, description="MD steps of each trajectory")
    timestep_fs: float = Field(2.0, gt=0, le=10, description="fs; 0.5 with hydrogen")
    stride: int = Field(20, ge=1, description="steps between two frames that are kept")
    trajectories: int = Field(24, ge=1, le=100_000, description="trajectories of all seeds together")
    picks: int = Field(60, ge=2, le=100_000, description="structures picked for labels from all frames and seeds")
    descriptor: Literal["soap", "ace"] = Field(
        "soap",
        description="what tells environments apart when structures are picked: soap (5 A), or ace: the functions of "
        "section training, those that gamma will see",
    )
    shares: dict[str, float] | None = Field(
        None, description="config_type of the seeds -> share of trajectories and picks; null: by what is there"
    )
    seed: int = Field(1, ge=0, description="of velocities, thermostats and picks")

    @field_validator("temperatures")
    @classmethod
    def _warm(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0 or max(value) > 1e5:
            raise ValueError(f"needs temperatures above 0 K and below 1e5 K, found {list(value)}")
        return value

    @field_validator("shares")
    @classmethod
    def _shares_are_positive(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and (not value or min(value.values()) < 0 or sum(value.values()) <= 0):
            raise ValueError(f"needs shares that are not negative, and one above 0, found {value}")
        return value

    @model_validator(mode="after")
    def _keeps_a_frame(self) -> Self:
        if self.stride > self.steps:
            raise ValueError(f"explore.stride {self.stride}: above explore.steps {self.steps}, no frame would be kept")
        return self

    @property
    def explores(self) -> bool:
        """True if MD with a surrogate comes before the first labels."""
        return self.surrogate.kind != "none"


class StartSettings(BaseModel):
    """Where a run begins. Paths are relative to the run directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    structure: Path = Field(description="file that ASE reads: the atoms (and velocities, if any) from which MD starts")
    dataset: Path | None = Field(
        None, description="extxyz with the first training structures; those without energy and forces are labelled"
    )
    potential: Path | None = Field(None, description=".yaml (B-basis) of an existing potential, as v0001")
    active_set: Path | None = Field(None, description=".asi that belongs to `potential`")

    @model_validator(mode="after")
    def _potential_is_complete(self) -> StartSettings:
        if self.potential is not None and (self.dataset is None or self.active_set is None):
            missing = "dataset" if self.dataset is None else "active_set"
            raise ValueError(
                f"start.potential without start.{missing}: gamma needs the active set and every refit needs the "
                "data, so give both or leave the potential out"
            )
        if self.active_set is not None and self.potential is None:
            raise ValueError("start.active_set without start.potential: give the potential that it belongs to")
        if self.potential is not None and self.potential.suffix != ".yaml":
            raise ValueError(f"start.potential {self.potential}: needs the B-basis .yaml, a .yace has no gamma")
        if self.potential is None and self.dataset is None:
            raise ValueError("start: give a dataset (training structures, labelled or not)")
        return self


def read_structures(path: Path, key: str) -> list[Atoms]:
    """Read all frames of a file.

    Parameters
    ----------
    path
        File of any format that ASE reads.
    key
        The setting that names it, for the error.

    Raises
    ------
    ConfigError
        The file is missing, unreadable or empty.
    """
    if not path.is_file():
        raise ConfigError(f"{key}: {path}: file not found", "correct the path, relative to the run directory")
    try:
        frames = ase.io.read(path, index=":")
    except Exception as error:  # ASE's readers raise anything at all
        raise ConfigError(f"{key}: {path}: cannot be read: {error}", "write it as extxyz") from error
    if not frames:
        raise ConfigError(f"{key}: {path}: holds no structure", "give at least one")
    return list(frames)


def has_label(atoms: Atoms) -> bool:
    """True if energy and forces came with the structure."""
    if atoms.calc is None:
        return False
    try:
        atoms.get_potential_energy()
        atoms.get_forces()
    except (PropertyNotImplementedError, RuntimeError):
        return False
    return True


def seed_tasks(frames: Sequence[Atoms], labeller: Mapping[str, Any], created: str) -> Iterator[Task]:
    """Yield a task for every structure without a label; whole structures, nothing masked."""
    for number, atoms in enumerate(frames):
        if not has_label(atoms):
            yield Task.new(
                atoms,
                np.ones(len(atoms), dtype=int).tolist(),
                dict(labeller),
                priority=SEED_PRIORITY,
                origin=_origin(atoms, number),
                config_type=str(atoms.info.get("config_type", "bootstrap")),
                created=created,
            )


def count_learned(frames: Sequence[Atoms]) -> int:
    """Return how many of the start structures will be learned from; the others judge versions, or are margins."""
    kinds = [str(atoms.info.get("config_type", "bootstrap")) for atoms in frames]
    return sum(side_of(kind, _origin(frames[k], k)) == "train" for k, kind in enumerate(kinds))


def _origin(atoms: Atoms, number: int) -> dict[str, Any]:
    """Return where a start structure comes from.

    Seeds that we made are no series in time: they are sorted by kind, and a segment held out would be whole kinds.
    """
    is_made = "seed_number" in atoms.info and not has_label(atoms)
    return {"source": "seed" if is_made else "bootstrap", "number": number}

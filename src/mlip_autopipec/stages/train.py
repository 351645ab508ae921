"""dataset -> train: weighted, masked fit -> potential.yaml/.yace.

Reads: rows of `dataset.db`. Writes: `potential.yaml`, `potential.yace`, `metrics.json`, `uncertainty.npz`,
`train_config.yaml` into a work folder. Next: `publish`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlip_autopipec.ace.generator import (
    LARGEST_L,
    BasisRecipe,
    FunctionLimits,
    RadialSettings,
    standard_configuration,
)
from mlip_autopipec.ace.growing import GrowingRows
from mlip_autopipec.ace.linear import Fit, LabelledDesign, solve, stiffness_of
from mlip_autopipec.ace.records import Configuration, Embedding
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import write_json, write_text
from mlip_autopipec.core.interfaces import Design, FloatArray, LinearBasis
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.store.dataset import DatasetRow
from mlip_autopipec.store.labelrange import KEY, label_range

UNCERTAINTY: Final = "uncertainty.npz"

# Six bodies around an atom are more than any published potential has.
_LARGEST_RANK = 6


class BasisSettings(BaseModel):
    """Which functions the potential is made of. The defaults give 79 functions for one element."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(6.0, gt=1, le=15, description="A; neighbours farther away are not seen; 2 shells of a metal")
    radial_basis: Literal["ChebExpCos", "ChebPow", "SBessel"] = Field(
        "ChebExpCos", description="family of radial functions, pacemaker's names; ChebExpCos resolves short distances"
    )
    radial_decay: float = Field(
        5.25,
        gt=0,
        le=20,
        description="dimensionless lambda of ChebExpCos and ChebPow: larger resolves short distances better",
    )
    # Pair functions are cheap and carry most of the energy; angular ones get dear fast.
    nradmax_by_orders: tuple[int, ...] = Field(
        (10, 4, 2, 1), description="number of radial functions by rank (pairs, triples, …)"
    )
    lmax_by_orders: tuple[int, ...] = Field((0, 3, 2, 1), description="largest angular momentum by rank; 0 for pairs")

    @field_validator("nradmax_by_orders")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= _LARGEST_RANK or min(value) < 1 or max(value) > 30:
            raise ValueError(f"needs 1 to {_LARGEST_RANK} numbers between 1 and 30, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _matching(self) -> Self:
        if len(self.nradmax_by_orders) != len(self.lmax_by_orders):
            raise ValueError("nradmax_by_orders and lmax_by_orders need one number per rank each")
        for rank, (lmax, largest) in enumerate(zip(self.lmax_by_orders, LARGEST_L, strict=False), start=1):
            if not 0 <= lmax <= largest:
                raise ValueError(
                    f"lmax_by_orders: {lmax} for rank {rank}, the tables of invariants have 0 to {largest}"
                )
        return self

    def configuration(self, elements: Sequence[str]) -> Configuration:
        """Return the functions between `elements`, all coefficients zero.

        No inner cutoff: one would make the functions vanish at short distances and blind the extrapolation grade there.
        """
        limits = FunctionLimits(self.nradmax_by_orders, self.lmax_by_orders)
        radial = RadialSettings(rcut=self.cutoff, radbase=self.radial_basis, radparameters=(self.radial_decay,))
        linear = Embedding(kind="FinnisSinclairShiftedScaled", parameters=(1.0, 1.0))
        recipe = BasisRecipe(tuple(sorted(elements)), {"ALL": limits}, {"ALL": radial}, linear)
        return standard_configuration(recipe)


class TrainingSettings(BasisSettings):
    """The fit, and when to refit."""

    engine: Literal["ace", "pyace"] = Field(
        "ace",
        description="who computes the fit's rows: ace (our own), or pyace (python-ace: academic licence, an extra)",
    )
    min_new_labels: int = Field(
        5, ge=1, le=100_000, description="labels that start a refit; fewer do when no more can come"
    )
    min_initial_labels: int = Field(
        10, ge=1, le=100_000, description="labels that start the first fit; fewer do when no more can come"
    )
    # Errors of energies per atom are some 20 times smaller than those of force components, in eV and eV/A.
    energy_weight: float = Field(
        100.0, ge=0, le=1e8, description="dimensionless weight of squared energy errors (eV^2 per atom) of whole cells"
    )
    force_weight: float = Field(
        1.0, ge=0, le=1e8, description="dimensionless weight of squared errors of learned force components (eV/A)^2"
    )
    # A carved cell's energy holds the energies of its masked, unphysical rim.
    masked_energy_weight: float = Field(
        0.0, ge=0, le=1e8, description="dimensionless, as energy_weight, for carved cells"
    )
    group_weights: dict[str, float] = Field(
        default_factory=dict, description="dimensionless; config_type -> factor of the weights of its labels, above 0"
    )
    train_mask: Literal["radius", "sane", "none"] = Field(
        "radius",
        description="atoms of carved cells that teach: radius: those within embedding.cutoff; sane: all but contacts "
        "and forces beyond what those have; none: all, up to force_limit. Their energies weigh masked_energy_weight",
    )
    baseline: Literal["none", "zbl"] = Field(
        "none",
        description="zbl: nuclear repulsion takes over from ACE below 0.79 of the shortest trained distance; "
        "none: nothing does, only gamma warns there",
    )
    ridge: float | None = Field(
        None, ge=0, le=1, description="dimensionless strength of the regularisation; null lets the evidence choose"
    )
    rank_stiffness: float = Field(
        1.0, ge=1, le=1e6, description="dimensionless; how much closer to zero each further rank is held; 1 is equally"
    )
    reference_energies: Literal["isolated"] | dict[str, float] = Field(
        "isolated", description="eV of one free atom per element, or `isolated`: the run's labeller computes them once"
    )
    # Chemical bonds never pull with more than about 10 eV/A; squeezed pairs push with some 50.
    force_limit: float = Field(
        100.0, gt=0, description="eV/A; a label with a larger learned force is refused, with the reason"
    )
    refuse_contradictions: bool = Field(
        True, description="leave out labels that contradict all the others: wrong units, forces of other atoms"
    )
    gate_tolerance: float = Field(
        0.25,
        ge=0,
        le=10,
        description="relative; a version whose error on a group of held-out labels grew by more stays a candidate",
    )
    use_changed_smearing: bool = Field(
        True, description="fit labels for which only a larger smearing converged (labeller.accept_changed_smearing)"
    )

    @field_validator("group_weights")
    @classmethod
    def _above_zero(cls, value: dict[str, float]) -> dict[str, float]:
        for group, factor in value.items():
            if not 0 < factor <= 1e8:
                raise ValueError(
                    f"{group}: {factor} is not between 0 and 1e8; `autopipe dataset drop` leaves labels out"
                )
        return value

    @property
    def basis(self) -> BasisSettings:
        """The part that says which functions there are."""
        return BasisSettings(**{name: getattr(self, name) for name in BasisSettings.model_fields})


@dataclass(frozen=True)
class Prediction:
    """What a fit says about one row: energy (eV, relative to isolated atoms) and forces (N, 3) eV/A."""

    energy: float
    forces: FloatArray


@dataclass(frozen=True)
class Trained:
    """The outcome of one fit.

    Attributes
    ----------
    fit : coefficients and report
    predictions : task id -> prediction, for every row
    """

    fit: Fit
    predictions: dict[str, Prediction]


def train(
    rows: Sequence[DatasetRow],
    basis: LinearBasis,
    settings: TrainingSettings,
    isolated: Mapping[str, float],
    folder: Path,
    *,
    design_of: Callable[[DatasetRow], Design],
    growing: GrowingRows | None = None,
) -> Trained:
    """Fit all rows and write the potential with its metrics and settings.

    Parameters
    ----------
    isolated
        Energy of one free atom per element, eV.
    folder
        Existing work folder.
    design_of
        ``basis.design`` of a row's structure, or a cache of it; called more than once for each row.
    growing
        What earlier fits with the same basis and settings have reduced; None: nothing.

    Raises
    ------
    DataError
        There is nothing to learn, for one element at least.
    """
    check_elements(rows, basis, isolated)
    growing = growing or GrowingRows(basis.n_coefficients)
    triangle = growing.triangle(
        [(row.task_id, row.edition, row.learned.tobytes(), relative_energy(row, isolated)) for row in rows],
        lambda place: labelled_design(rows[place], design_of(rows[place]), settings, isolated),
    )
    result = solve(triangle, stiffness_of(basis.ranks, settings.rank_stiffness), ridge=settings.ridge)
    basis.write(result.coefficients, isolated, folder)
    predictions = {row.task_id: predict(design_of(row), result.coefficients) for row in rows}
    seen = label_range(rows, isolated)
    metrics = {**errors(rows, predictions, isolated), KEY: seen and seen.to_dict(), "fit": asdict(result.report)}
    write_json(folder / "metrics.json", metrics)
    # noise**2 * influence @ influence.T is the covariance of the coefficients; half the size is precise enough.
    np.savez(folder / UNCERTAINTY, influence=result.influence.astype(np.float32), noise=result.report.noise)
    write_text(folder / "train_config.yaml", dump_mapping(describe(settings, basis, isolated)))
    return Trained(result, predictions)


def check_elements(rows: Sequence[DatasetRow], basis: LinearBasis, isolated: Mapping[str, float]) -> None:
    """Refuse a fit in which an element has no label or no reference energy.

    Raises
    ------
    DataError
        Which element.
    """
    numbers = np.unique(np.concatenate([row.atoms.numbers[row.learned] for row in rows] or [np.zeros(0, dtype=int)]))
    labelled = {chemical_symbols[number] for number in numbers}
    for element in basis.elements:
        if element not in labelled:
            hint = f"add structures with {element} to start.dataset"
            # Its label may be the next to come.
            raise DataError(f"no label has a learned {element} atom", hint, transient=True)
        if element not in isolated:
            raise DataError(f"no energy of an isolated {element} atom", "give it in training.reference_energies")


def labelled_design(
    row: DatasetRow, design: Design, settings: TrainingSettings, isolated: Mapping[str, float]
) -> LabelledDesign:
    """Return what enters the fit of one row."""
    factor = settings.group_weights.get(row.config_type, 1.0)
    return LabelledDesign(
        name=row.task_id,
        design=design,
        energy=relative_energy(row, isolated),
        forces=row.forces,
        learned=row.learned,
        energy_weight=factor * (settings.energy_weight if row.whole else settings.masked_energy_weight),
        force_weight=factor * settings.force_weight,
    )


def relative_energy(row: DatasetRow, isolated: Mapping[str, float]) -> float:
    """Return the label's energy minus that of its atoms one by one, eV."""
    kinds, counts = np.unique(row.atoms.numbers, return_counts=True)
    return row.energy - sum(isolated[chemical_symbols[kind]] * int(n) for kind, n in zip(kinds, counts, strict=True))


def predict(design: Design, coefficients: FloatArray) -> Prediction:
    """Return energy and forces of one structure."""
    return Prediction(float(design.energy @ coefficients), design.forces @ coefficients)


def active_rows(
    rows: Sequence[DatasetRow],
    basis: LinearBasis,
    settings: TrainingSettings,
    design_of: Callable[[DatasetRow], Design],
) -> dict[str, FloatArray]:
    """Return per element (n, k) the B-projections of the atoms whose force, or whose cell's energy, entered the fit.

    An element without such an atom is left out.
    """
    found: dict[str, list[FloatArray]] = {element: [] for element in basis.elements}
    for row in rows:
        entered = _entered(row, settings)
        for element, (members, values) in design_of(row).projections.items():
            found[element].append(values[entered[members]])
    return {element: np.concatenate(values) for element, values in found.items() if values}


def count_active_rows(rows: Sequence[DatasetRow], settings: TrainingSettings) -> dict[str, int]:
    """Return per element how many rows `active_rows` gives."""
    entered = [row.atoms.numbers[_entered(row, settings)] for row in rows] or [np.zeros(0, dtype=int)]
    numbers, counts = np.unique(np.concatenate(entered), return_counts=True)
    return {chemical_symbols[number]: int(count) for number, count in zip(numbers, counts, strict=True)}


def _entered(row: DatasetRow, settings: TrainingSettings) -> np.ndarray[Any, np.dtype[np.bool_]]:
    energy_weight = settings.energy_weight if row.whole else settings.masked_energy_weight
    return np.ones(len(row.atoms), dtype=bool) if energy_weight > 0 else row.learned


def errors(
    rows: Sequence[DatasetRow], predictions: Mapping[str, Prediction], isolated: Mapping[str, float]
) -> dict[str, Any]:
    """Return training errors, overall and by `config_type`; JSON-ready.

    Forces of learned atoms in eV/A, by component; energies of whole cells in meV/atom; null where there are none.
    """
    groups = sorted({row.config_type for row in rows})
    by_group = {g: [row for row in rows if row.config_type == g] for g in groups}
    return {
        **_errors_of(rows, predictions, isolated),
        "groups": {g: _errors_of(members, predictions, isolated) for g, members in by_group.items()},
    }


def _errors_of(
    rows: Sequence[DatasetRow], predictions: Mapping[str, Prediction], isolated: Mapping[str, float]
) -> dict[str, Any]:
    forces = [(predictions[r.task_id].forces - r.forces)[r.learned].ravel() for r in rows]
    energies = [
        (predictions[r.task_id].energy - relative_energy(r, isolated)) / len(r.atoms) * 1e3 for r in rows if r.whole
    ]
    force_rmse, force_mae = _rmse_mae(np.concatenate([np.zeros(0), *forces]))
    energy_rmse, energy_mae = _rmse_mae(np.asarray(energies))
    return {
        "structures": len(rows),
        "learned_atoms": int(sum(r.learned.sum() for r in rows)),
        "force_rmse": force_rmse,
        "force_mae": force_mae,
        "energy_rmse_mev": energy_rmse,
        "energy_mae_mev": energy_mae,
    }


def _rmse_mae(differences: FloatArray) -> tuple[float | None, float | None]:
    if differences.size == 0:
        return None, None
    return float(np.sqrt(np.mean(differences**2))), float(np.mean(np.abs(differences)))


def describe(settings: TrainingSettings, basis: LinearBasis, isolated: Mapping[str, float]) -> dict[str, Any]:
    """Return what was chosen, for `train_config.yaml`."""
    functions = {f"rank_{rank}": list(basis.ranks).count(rank) for rank in sorted(set(basis.ranks))}
    return {
        "trainer": "linear",
        "elements": list(basis.elements),
        "isolated_atom_energies": {element: float(isolated[element]) for element in basis.elements},
        "functions": {"total": basis.n_coefficients, **functions},
        "settings": settings.model_dump(mode="json"),
    }


def hashes(settings: TrainingSettings, elements: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the manifest's `config_hash` (all settings) and `basis_hash` (what decides the design rows)."""
    yield "config_hash", _hash(settings.model_dump(mode="json"))
    yield "basis_hash", _hash({"elements": sorted(elements), **settings.basis.model_dump(mode="json")})


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

"""What the training set holds: one line per label, and sums. Read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.core.windows import largest_force
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.refusals import read_refusals
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.sides import side_of


def read_rows(run: RunDirectory) -> list[DatasetRow]:
    """Return all rows, oldest first.

    Raises
    ------
    NotFoundError
        There is no training set yet.
    """
    if not run.dataset.is_file():
        raise NotFoundError(f"{run.dataset}: not there yet", "the trainer makes it of the first labels")
    return list(Dataset(run.dataset).rows())


def lines(run: RunDirectory, rows: Iterable[DatasetRow]) -> list[dict[str, Any]]:
    """Return what `autopipe dataset ls` shows of each label, JSON-ready."""
    refused = read_refusals(run)
    return [_line(row, refused.get(row.task_id, "")) for row in rows]


def _line(row: DatasetRow, refused: str) -> dict[str, Any]:
    told = [refused, *row.flags.values()]
    return {
        "label": row.task_id,
        "kind": row.config_type,
        "side": "refused" if refused else side_of(row.config_type, row.origin),
        "formula": row.atoms.get_chemical_formula(),
        "learned": int(row.learned.sum()),
        "energy_per_atom": row.energy / len(row.atoms),
        "largest_force": largest_force(row.forces, row.force_mask),
        "gamma": row.uncertainty_gamma or None,
        "walker": row.origin.get("walker", row.origin.get("of", row.origin.get("source"))),
        "step": row.origin.get("step", row.origin.get("number")),
        "version": row.origin.get("version"),
        "origin": {key: value for key, value in row.origin.items() if isinstance(value, str | int | float)},
        "edition": row.edition,
        "remarks": "; ".join(filter(None, told)),
    }


def sums(found: Sequence[dict[str, Any]], refusals: dict[str, str]) -> dict[str, Any]:
    """Return counts and ranges of what `lines` gave, JSON-ready.

    Parameters
    ----------
    refusals
        Id -> reason; those without a row are counted as well.
    """
    kinds = sorted({line["kind"] for line in found})
    return {
        "labels": len(found),
        "sides": dict(Counter(line["side"] for line in found)),
        "refused_without_row": len(set(refusals) - {line["label"] for line in found}),
        "kinds": [{"kind": kind, **_sum([line for line in found if line["kind"] == kind])} for kind in kinds],
    }


def _sum(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    energies = [line["energy_per_atom"] for line in members]
    sides = Counter(line["side"] for line in members)
    return {
        "labels": len(members),
        **{side: sides.get(side, 0) for side in ("train", "validation", "margin", "refused")},
        "learned_atoms": sum(line["learned"] for line in members),
        "lowest_energy": min(energies),
        "highest_energy": max(energies),
        "largest_force": max(line["largest_force"] for line in members),
    }


def as_frame(row: DatasetRow) -> Atoms:
    """Return a label as a structure that extended XYZ can hold, with all that a new run needs to take it in."""
    frame: Atoms = row.atoms.copy()
    frame.arrays["force_mask"] = np.asarray(row.force_mask, dtype=int)
    origin = {key: value for key, value in row.origin.items() if isinstance(value, str | int | float)}
    frame.info = {"task_id": row.task_id, "config_type": row.config_type, "gamma": row.uncertainty_gamma}
    frame.info |= {key: value for key, value in origin.items() if key in ("walker", "step", "version", "source")}
    results: dict[str, Any] = {"energy": row.energy, "forces": row.forces}
    if row.stress is not None:
        results["stress"] = row.stress
    frame.calc = SinglePointCalculator(frame, **results)
    return frame

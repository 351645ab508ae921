"""How faithful cells are, against the teacher: over buffers, at equal atoms, and as the automatic choice makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from materials import Material
from vesin import NeighborList

from mlip_autopipec.core.interfaces import Evaluation, Evaluator
from mlip_autopipec.stages.carve import EmbeddingSettings, NoFaithfulCell, choose_cell
from mlip_autopipec.structures.collisions import COLLISION_FRACTION
from mlip_autopipec.structures.embedding import Carved, extract_periodic_subsystem
from mlip_autopipec.structures.fidelity import evaluate, force_errors, measure

MODES = ("dodecahedron", "box", "sphere", "snap")
SIZES = (32, 48, 64, 80, 100)


@dataclass(frozen=True)
class Parent:
    """A large frame, with the teacher's forces (N, 3) and what the trained potential says.

    `too_near`: A; no contact of the frame's own is shorter, and none that is left at a seam may be.
    """

    atoms: Atoms
    forces: np.ndarray
    said: Evaluation
    too_near: float


def parents(material: Material, frames: Iterable[Atoms], evaluator: Evaluator) -> list[Parent]:
    """Label the frames."""
    found = []
    for atoms in frames:
        distances = nearest(atoms)
        too_near = min(COLLISION_FRACTION * float(np.median(distances)), float(distances.min()))
        found.append(Parent(atoms, material.forces(atoms), evaluate(evaluator, atoms), too_near))
    return found


def nearest(atoms: Atoms) -> np.ndarray:
    """Return (N,) the distance from each atom to the nearest, images included, A; infinite beyond 6 A."""
    first, distances = NeighborList(cutoff=6.0, full_list=True).compute(
        atoms.positions, np.asarray(atoms.cell), atoms.pbc, "id"
    )
    found = np.full(len(atoms), np.inf)
    np.minimum.at(found, first.astype(int), distances)
    return found


def row(material: Material, parent: Parent, carved: Carved, evaluator: Evaluator) -> dict[str, float]:
    """Return what one cell is worth."""
    error, largest = force_errors(carved, material.forces(carved.atoms), parent.forces)
    told = measure(carved, evaluate(evaluator, carved.atoms), parent.said)
    return {
        "atoms": len(carved.atoms),
        "error": error,
        "largest": largest,
        "told": told.force_error,
        "gamma_ratio": float(told.gamma_ratio or np.nan),
        "contacts": carved.contacts,
        "left": int(nearest(carved.atoms).min() < parent.too_near - 1e-6),
        "removed": len(carved.removed),
    }


def over_buffers(
    material: Material, frames: Sequence[Parent], centres: Sequence[Sequence[int]], evaluator: Evaluator,
    buffers: Sequence[float], moves: Sequence[float] = (0.0,), modes: Sequence[str] = MODES,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the median over all centres, for every mode, seam move and buffer (A)."""
    found = []
    for mode in modes:
        for move in moves:
            for buffer_size in buffers:
                rows = [
                    row(material, parent, carve(material, parent, c, buffer_size, mode, move), evaluator)
                    for parent, atoms in zip(frames, centres, strict=True)
                    for c in atoms
                ]
                median = {key: float(np.median([r[key] for r in rows])) for key in rows[0]}
                median["left"] = float(np.sum([r["left"] for r in rows]))
                found.append({"mode": mode, "move": move, "buffer": float(buffer_size), **median})
    return found


def carve(material: Material, parent: Parent, center: int, buffer_size: float, mode: str, move: float) -> Carved:
    """Cut one cell."""
    return extract_periodic_subsystem(
        parent.atoms, center, material.core, float(buffer_size), mode, seam_move=float(move)
    )


def at_equal_atoms(rows: Sequence[dict[str, Any]]) -> dict[int, float | None]:
    """Return the core-force error at given numbers of atoms, eV/A: its logarithm between the two nearest sizes."""
    rows = sorted(rows, key=lambda r: r["atoms"])
    atoms, errors = [r["atoms"] for r in rows], np.log([max(r["error"], 1e-12) for r in rows])
    return {
        size: float(np.exp(np.interp(size, atoms, errors))) if atoms[0] <= size <= atoms[-1] else None for size in SIZES
    }


def automatic(
    material: Material, frames: Sequence[Parent], evaluator: Evaluator, number: int, settings: EmbeddingSettings,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """Return how the automatic choice does in `number` random environments, judged by the teacher in the parent."""
    errors, sizes, refused = [], [], 0
    for n in range(number):
        parent = frames[n % len(frames)]
        try:
            cell = choose_cell(
                parent.atoms, int(rng.integers(len(parent.atoms))), settings, potential_cutoff=evaluator.cutoff,
                evaluator=evaluator,
            )  # fmt: skip
        except NoFaithfulCell:
            refused += 1
            continue
        errors.append(force_errors(cell.carved, material.forces(cell.carved.atoms), parent.forces))
        sizes.append(len(cell.carved.atoms))
    return {
        "environments": number,
        "below": float(np.sum([rms < 0.1 for rms, _ in errors]) / number),
        "largest_below": float(np.sum([largest < 0.1 for _, largest in errors]) / number),
        "refused": refused / number,
        "median_error": float(np.median([rms for rms, _ in errors])) if errors else None,
        "error_95": float(np.quantile([rms for rms, _ in errors], 0.95)) if errors else None,
        "median_atoms": float(np.median(sizes)) if sizes else None,
        "most_atoms": max(sizes, default=None),
    }

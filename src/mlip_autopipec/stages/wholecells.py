"""halt -> whole cell: a small unmasked cell of the halted frame's phase -> task file in queue/dft/pending.

Reads: the halted frame. Writes: one task beside that of `carve`, since masked cells alone bias energies. Next: `label`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ase import Atoms

from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.store.task import Task
from mlip_autopipec.structures.fidelity import evaluate
from mlip_autopipec.structures.settling import settled
from mlip_autopipec.structures.wholecell import PARENT_INDEX, whole_cell

# Nobody waits for a whole cell; but the seeds, of priority 0, are no better.
PRIORITY: Final = 1.0


def is_chosen(task_id: str, fraction: float) -> bool:
    """Tell if a whole cell goes with this carved one, so that they are `fraction` of both; the same at each call."""
    return int(task_id[:12], 16) / 16**12 < fraction / (1.0 - fraction)


def whole_cell_task(
    frame: Atoms,
    *,
    n_atoms: int,
    oxidation_states: Mapping[str, float] | None,
    labeller: Mapping[str, Any],
    origin: Mapping[str, Any],
    seed: int,
    created: str,
    evaluator: Evaluator | None = None,
) -> Task:
    """Make a task of a small whole cell of the frame's phase: nothing masked, so that energy and stress are learned.

    Parameters
    ----------
    n_atoms
        About so many (`embedding.whole_cell_atoms`).
    oxidation_states
        Charge per element, e, of cells that must be neutral (`embedding.oxidation_states`).
    evaluator
        The current potential, by which the cell goes down to the energy that its atoms have in the frame; None leaves
        it as it was cut. `origin["settled"]` tells, in eV/atom above that energy, where it was and is.

    Raises
    ------
    DataError
        The frame gives none (`structures.wholecell`).
    """
    atoms = whole_cell(frame, n_atoms, seed, oxidation_states=oxidation_states)
    story = dict(origin)
    if evaluator is not None:
        atoms, told = _settled(atoms, frame, evaluator)
        story["settled"] = told
    return Task.new(
        atoms,
        [1] * len(atoms),
        dict(labeller),
        priority=PRIORITY,
        origin=story,
        config_type="whole_cell",
        created=created,
    )


def _settled(cell: Atoms, frame: Atoms, evaluator: Evaluator) -> tuple[Atoms, dict[str, float]]:
    """Return the cell at the energy of its atoms in the frame, and how far above that it was and is, eV/atom."""
    in_frame = float(evaluate(evaluator, frame).energies[cell.arrays[PARENT_INDEX]].mean())
    before = evaluate(evaluator, cell).energy / len(cell) - in_frame
    atoms, said = settled(cell, evaluator, in_frame)
    after = said.energy / len(cell) - in_frame
    return atoms, {"before": round(before, 6), "after": round(after, 6)}

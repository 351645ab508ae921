"""The gate's eyes: structures as the MD engine will compute them, and what the trainer said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import Evaluation, Evaluator, Neighbourhood
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.stages.publish import Evaluate, Sample
from mlip_autopipec.stages.train import Prediction
from mlip_autopipec.stages.watch import Engine
from mlip_autopipec.store.dataset import DatasetRow

_SAMPLES = 10


def evaluation_by(engine: Engine) -> Evaluate:
    """Return what evaluates a structure as walkers with `engine` will; with gamma if there is an active set."""

    def evaluate(potential: Path, active_set: Path | None, atoms: Atoms) -> Evaluation:
        evaluator = _evaluator(potential, active_set, engine)
        parts = (atoms.numbers.tobytes(), atoms.positions.tobytes(), atoms.cell.array.tobytes(), tuple(atoms.pbc))
        frame = _frame(*parts, evaluator.cutoff, evaluator.elements)
        return evaluator.evaluate(frame, gamma=active_set is not None)

    return evaluate


# By value: two potentials judge the same structures, and the next version many of them again.
@lru_cache(maxsize=64)
def _frame(
    numbers: bytes, positions: bytes, cell: bytes, pbc: tuple[bool, ...], cutoff: float, elements: tuple[str, ...]
) -> Neighbourhood:
    sites, edges = np.frombuffer(positions).reshape(-1, 3), np.frombuffer(cell).reshape(3, 3)
    return neighbourhood(Atoms(np.frombuffer(numbers, dtype=int), sites, cell=edges, pbc=pbc), cutoff, elements)


# Of one version at a time: its .yaml with .asi, and its .yace.
@lru_cache(maxsize=2)
def _evaluator(potential: Path, active_set: Path | None, engine: Engine) -> Evaluator:
    return load_evaluator(potential, active_set, engine)


def samples(rows: Sequence[DatasetRow], said: Mapping[str, Prediction], *, forces_entered: bool) -> list[Sample]:
    """Return the first, the newest and some rows between them.

    Parameters
    ----------
    forces_entered
        False if the active set was not made of the rows' learned atoms.
    """
    picked = sorted({int(i) for i in np.linspace(0, len(rows) - 1, _SAMPLES)}) if rows else []
    found = []
    for row in (rows[i] for i in picked):
        prediction = said[row.task_id]
        entered = row.learned & forces_entered
        found.append(Sample(row.task_id, row.atoms, prediction.energy, prediction.forces, entered))
    return found

"""The strategies that are compared: on-the-fly carving, random frames of the same MD, whole small cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.stages.carve import EmbeddingSettings, carve_task
from mlip_autopipec.stages.wholecells import whole_cell_task
from mlip_autopipec.store.task import Task

RECIPE: dict[str, Any] = {
    "embedding": {"cutoff": 3.0, "buffer_size": 1.0, "max_core_force_error": None, "whole_cell_fraction": 0.1},
    "training": {"train_mask": "sane"},
}
"""What the product is told: very small cells (17 atoms of Al), of which all atoms teach that MD could meet, and
whole cells with one of ten. Chosen on seed 1 of both elements."""
WHOLE: dict[str, Any] = {"embedding": {"mode": "cell", "max_core_force_error": None, "whole_cell_fraction": 0.0}}
"""Whole-cell active learning: MD of small cells, each halted frame is labelled as it is."""
_CREATED = "2026-01-01T00:00:00+00:00"


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return both, section by section."""
    return {name: {**one.get(name, {}), **other.get(name, {})} for name in {**one, **other}}


def random_tasks(
    frames: Sequence[Atoms], number: int, embedding: EmbeddingSettings, labeller: dict[str, Any], evaluator: Evaluator,
    *, share_whole: float, seed: int,
) -> list[Task]:  # fmt: skip
    """Return tasks around random atoms of random frames; of them `share_whole` are whole cells of such frames."""
    rng = np.random.default_rng(seed)
    tasks: dict[str, Task] = {}
    while len(tasks) < number:
        frame = frames[int(rng.integers(len(frames)))].copy()
        atom = int(rng.integers(len(frame)))
        frame.arrays["gamma"] = np.ones(len(frame))
        common: dict[str, Any] = {"labeller": labeller, "created": _CREATED, "evaluator": evaluator}
        try:
            if rng.random() < share_whole:
                sized = {"n_atoms": embedding.whole_cell_atoms, "oxidation_states": embedding.oxidation_states}
                task = whole_cell_task(frame, origin={"source": "random"}, seed=atom, **sized, **common)
            else:
                task = carve_task(
                    frame, atom, settings=embedding, potential_cutoff=evaluator.cutoff, origin={"source": "random"},
                    **common,
                ).task  # fmt: skip
        except DataError:
            continue
        tasks[task.id] = task
    return list(tasks.values())


def frame_tasks(frames: Sequence[Atoms], number: int, labeller: dict[str, Any], *, seed: int) -> list[Task]:
    """Return tasks of random frames as they are, every atom learned."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(len(frames))[:number]
    return [
        Task.new(Atoms(f.numbers, positions=f.positions, cell=f.cell, pbc=f.pbc), [1] * len(f), labeller, priority=0.0,
                 origin={"source": "random"}, config_type="whole_cell", created=_CREATED)
        for f in (frames[int(i)] for i in places)
    ]  # fmt: skip

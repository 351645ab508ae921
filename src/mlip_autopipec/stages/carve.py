"""halt -> carve: periodic embedding + force mask -> task file in queue/dft/pending.

Reads: the halted frame and the atom that `watch` picked. Writes: one task. Next: `label`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ase import Atoms
from pydantic import BaseModel, ConfigDict, Field

from mlip_autopipec.store.task import Task
from mlip_autopipec.structures.embedding import extract_periodic_subsystem


class EmbeddingSettings(BaseModel):
    """How the region around an uncertain atom becomes a small periodic cell. Lengths in A."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["box", "sphere"] = Field(
        "box", description="box: every atom of the cube; sphere: atoms within cutoff + buffer_size, fewer at equal size"
    )
    cutoff: float = Field(3.5, gt=0, le=30, description="A; forces on atoms closer than this to the centre are learned")
    buffer_size: float = Field(
        2.5, ge=0, le=30, description="A; atoms between are computed but masked; 2 A or more heals the parent's atom"
    )


@dataclass(frozen=True)
class Extraction:
    """A task and what was remarkable about its cell."""

    task: Task
    warnings: tuple[str, ...]
    center: int  # index of the centre atom in the cell


def carve_task(
    frame: Atoms,
    center: int,
    *,
    settings: EmbeddingSettings,
    potential_cutoff: float,
    labeller: Mapping[str, Any],
    origin: Mapping[str, Any],
    created: str,
) -> Extraction:
    """Cut the region around atom `center` out of `frame` and make a labelling task of it.

    Parameters
    ----------
    frame
        Halted frame with the per-atom array `gamma`.
    potential_cutoff
        A; a cell smaller than this does not repeat the centre's environment, which is a warning.
    origin
        walker, step and potential version.
    """
    carved = extract_periodic_subsystem(
        frame,
        center,
        settings.cutoff,
        settings.buffer_size,
        mode=settings.mode,
        potential_cutoff=potential_cutoff,
    )
    warnings = list(carved.warnings)
    if carved.removed:
        warnings.append(f"{len(carved.removed)} atom(s) removed that would collide across the new boundary")
    task = Task.new(
        carved.atoms,
        [int(m) for m in carved.atoms.arrays["force_mask"]],
        dict(labeller),
        priority=float(frame.arrays["gamma"][center]),
        origin={**origin, "center": int(center), "removed": len(carved.removed)},
        config_type="active_learning",
        created=created,
    )
    return Extraction(task, tuple(warnings), carved.center)

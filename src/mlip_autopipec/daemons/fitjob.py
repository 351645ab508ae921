"""What goes to the trainer's child and comes back: the job, one fit, its answer. Pickled, or made without a child."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.stages.label import LabellingSettings
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.stages.watch import Engine


@dataclass(frozen=True)
class FitJob:
    """What stays the same for all fits of a run; pickled to the child.

    Attributes
    ----------
    root : the run directory
    elements : of the start structure and dataset; those of labels are added
    potential : .yaml that the user gave, if any: all fits keep its functions, whatever `training` says of the basis
    labeller : settings as they stand in task files
    engine : that walkers use, so that the gate sees what they will see
    labelling : which labels are accepted
    halt_level : gamma above which MD halts
    """

    root: Path
    training: TrainingSettings
    labeller: dict[str, Any]
    node: NodeSettings
    elements: tuple[str, ...]
    potential: Path | None = None
    engine: Engine = "ace"
    labelling: LabellingSettings = field(default_factory=LabellingSettings)
    halt_level: float = 5.0


@dataclass(frozen=True)
class FitRequest:
    """One fit.

    Attributes
    ----------
    task_ids : rows of the dataset that take part
    given : (.yaml, .asi) of a potential to publish as it is instead of fitting
    parent : version whose active set is extended if its labels are still the same
    held : rows that no fit sees, by which versions are judged
    current : version that walkers use, with which the new one is compared
    trainer : in place of `training.trainer`
    """

    task_ids: tuple[str, ...]
    given: tuple[Path, Path] | None = None
    parent: str | None = None
    held: tuple[str, ...] = ()
    current: str | None = None
    trainer: Literal["linear", "pacemaker"] | None = None


@dataclass(frozen=True)
class FitAnswer:
    """A work folder that has passed the gate.

    Attributes
    ----------
    folder : to be published, or removed
    facts : what only the fit knows of the manifest
    unusable : task id -> why the row could not take part
    """

    folder: Path
    facts: dict[str, Any]
    unusable: dict[str, str] = field(default_factory=dict)

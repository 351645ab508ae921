"""Where labels are made: lives in a dft-worker's child, which keeps the labellers that it has made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Labeller
from mlip_autopipec.daemons.labellers import clean_up
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.stages.label import Judge, LabellingSettings, label_task
from mlip_autopipec.store.labelrange import read_range
from mlip_autopipec.store.references import reference_energies
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task


@dataclass(frozen=True)
class BenchSettings:
    """What stays the same for all labels of a worker; pickled to the child.

    Attributes
    ----------
    root : the run directory
    worker : name that goes into records
    force_limit : eV/A
    """

    root: Path
    worker: str
    node: NodeSettings
    labelling: LabellingSettings
    force_limit: float


class Bench:
    """Answers (task as dict, folder of the attempt) with a result record.

    Parameters
    ----------
    make
        Makes a labeller from a task's settings and the node's.
    """

    def __init__(self, settings: BenchSettings, make: Callable[..., Labeller]) -> None:
        # Of workers that were killed with the machine, or whose tasks nobody takes up again.
        clean_up(settings.node, RunDirectory(settings.root).attempts.glob("*/*"))
        self._settings = settings
        self._make = make
        self._results = Results(RunDirectory(settings.root).results)
        self._registry = Registry(RunDirectory(settings.root).potentials)
        self._labellers: dict[str, Labeller] = {}

    def __call__(self, request: tuple[dict[str, Any], Path]) -> dict[str, Any]:
        data, folder = request
        task = Task.from_dict(data)
        key = repr(sorted(task.labeller.items()))
        if key not in self._labellers:
            self._labellers[key] = self._make(task.labeller, self._settings.node)
        return label_task(
            self._labellers[key],
            task,
            folder,
            worker=self._settings.worker,
            clock=SystemClock(),
            judge=self._judge(),
            results=self._results,
        )

    def _judge(self) -> Judge:
        """Return the windows, and what is known by now of free atoms and earlier labels."""
        settings = self._settings
        return Judge(settings.labelling, settings.force_limit, self._isolated(), read_range(self._registry))

    def _isolated(self) -> Mapping[str, float]:
        try:
            return reference_energies(self._registry)
        except (DataError, OSError, KeyError, TypeError, ValueError):
            return {}  # the trainer's file, and its trouble: it checks the energies as well

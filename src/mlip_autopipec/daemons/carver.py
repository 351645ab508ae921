"""Makes the tasks of one walker: regions carved out of its frames, and whole cells of their phase."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

from ase import Atoms

from mlip_autopipec.core.clock import Clock, iso_time
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.stages.carve import (
    EmbeddingSettings,
    Extraction,
    carve_task,
)
from mlip_autopipec.stages.wholecells import is_chosen, whole_cell_task
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.task import Task

log = logging.getLogger(__name__)


class Carver:
    """Carves for one walker.

    Parameters
    ----------
    name
        Of the walker.
    labeller
        Labeller settings that go into the tasks.
    registry
        Tells which labels a version has.
    is_audit
        Tells whether a task id is that of an audit, whose label no version will ever have: a core of one atom makes
        the same task.
    """

    def __init__(
        self,
        name: str,
        embedding: EmbeddingSettings,
        labeller: dict[str, Any],
        registry: Registry,
        clock: Clock,
        is_audit: Callable[[str], bool] = lambda task_id: False,
    ) -> None:
        self._name = name
        self._embedding = embedding
        self._labeller = labeller
        self._registry = registry
        self._clock = clock
        self._is_audit = is_audit

    def carve(
        self,
        frame: Atoms,
        atom: int,
        step: int,
        version: str,
        evaluator: Evaluator,
        *,
        more_than: int = 0,
        published: Collection[str] = (),
        lenient: bool = False,
    ) -> Extraction:
        """Carve the region around one atom; no audit, and none whose label the version has, or that is `published`.

        Parameters
        ----------
        more_than
            Only a cell with more atoms than this is wanted.
        lenient
            Where no cell is faithful enough, take the most faithful one.

        Raises
        ------
        NoFaithfulCell
            Nothing within the settings' limits is worth a label.
        """
        known = {*self._registry.labels(version), *published}
        extraction = carve_task(
            frame,
            atom,
            settings=self._embedding,
            potential_cutoff=evaluator.cutoff,
            labeller=self._labeller,
            origin={"walker": self._name, "step": step, "version": version},
            created=iso_time(self._clock.wall()),
            evaluator=evaluator,
            more_than=more_than,
            or_best=lenient,
            is_known=lambda task_id: task_id in known or self._is_audit(task_id),
        )
        for warning in extraction.warnings:
            log.warning("%s step %d: %s", self._name, step, warning)
        return extraction

    def at(
        self, step: int, version: str, evaluator: Evaluator, *, lenient: bool = False
    ) -> Callable[[Atoms, int], Extraction]:
        """Return `carve` of frame and atom for one moment of MD."""
        return lambda frame, atom: self.carve(frame, atom, step, version, evaluator, lenient=lenient)

    def whole_cell(
        self, frame: Atoms, task: Task, step: int, version: str, evaluator: Evaluator, *, wanted: bool
    ) -> Task | None:
        """Return a whole cell of the frame's phase to go with `task`, None if none is due or none can be made.

        Parameters
        ----------
        wanted
            Whatever the share of whole cells says, unless that is 0.
        """
        fraction = self._embedding.whole_cell_fraction
        if fraction == 0.0 or not (wanted or is_chosen(task.id, fraction)):
            return None
        try:
            return whole_cell_task(
                frame,
                n_atoms=self._embedding.whole_cell_atoms,
                oxidation_states=self._embedding.oxidation_states,
                labeller=self._labeller,
                origin={"source": "whole_cell", "step": step, "version": version, "of": self._name},
                seed=int(task.id[:8], 16),
                created=iso_time(self._clock.wall()),
                evaluator=evaluator,
            )
        except AutopipeError as error:  # the walker's own label matters more
            log.warning("%s step %d: no whole cell: %s", self._name, step, error)
            return None

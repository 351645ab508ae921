"""From what was explored to label tasks; runs in an explorer-worker's child, or for `autopipe explore select`."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.clock import SystemClock, iso_time
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.files import write_bytes
from mlip_autopipec.core.interfaces import Descriptor
from mlip_autopipec.daemons.queues import dft_queue, explore_queue
from mlip_autopipec.stages.exploration import kind_of
from mlip_autopipec.stages.explore import SEED_PRIORITY, ExploreSettings, has_label, read_structures
from mlip_autopipec.stages.select import Picked, ReadAgain, select_structures
from mlip_autopipec.stages.train import BasisSettings
from mlip_autopipec.store.exploration import MAP, Pick, SelectionRecord, explored_results, frames_of
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings
from mlip_autopipec.store.task import Task

logger = logging.getLogger(__name__)

SEED: Final = "seed"


@dataclass(frozen=True)
class PickingSettings:
    """What picking needs of the configuration; pickled to the child.

    Attributes
    ----------
    root : the run directory
    worker : name of this process
    dataset : file of the seeds
    labeller : settings as they stand in label tasks
    functions : of the potential to come, for `descriptor: ace`
    """

    root: Path
    worker: str
    dataset: Path
    explore: ExploreSettings
    labeller: dict[str, Any]
    queue: QueueSettings
    functions: BasisSettings


class Pool(ReadAgain):
    """Unlabelled seeds and frames of trajectories, with where each comes from.

    Attributes
    ----------
    places : (source, number) of each structure: a trajectory's task and its frame, or "seed" and its number
    kinds : config_type of each
    sizes : number of atoms of each
    """

    def __init__(self, run: RunDirectory, seeds: list[Atoms]) -> None:
        self._run = run
        self._seeds = {number: atoms for number, atoms in enumerate(seeds) if not has_label(atoms)}
        results = explored_results(run)
        self._records = [results.read(task_id) for task_id in sorted(results.ids())]
        self.places: list[tuple[str, int]] = [(SEED, number) for number in self._seeds]
        self.kinds = [kind_of(atoms) for atoms in self._seeds.values()]
        self.sizes = [len(atoms) for atoms in self._seeds.values()]
        for record in self._records:
            frames = range(record["n_frames"])
            self.places += [(record["id"], number) for number in frames]
            self.kinds += [record["task"]["config_type"]] * len(frames)
            self.sizes += [len(record["task"]["force_mask"])] * len(frames)

    def __iter__(self) -> Iterator[Atoms]:
        yield from self._seeds.values()
        for record in self._records:
            yield from frames_of(self._run, record)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def elements(self) -> tuple[str, ...]:
        found = {s for atoms in self._seeds.values() for s in atoms.get_chemical_symbols()}
        return tuple(sorted(found.union(*(record["task"]["structure"]["species"] for record in self._records))))

    def counts(self) -> dict[str, int]:
        return {
            "seeds": len(self._seeds),
            "frames": len(self) - len(self._seeds),
            "environments": sum(self.sizes),
            "trajectories": len(self._records),
            "stopped": sum(1 for record in self._records if record["complaint"]),
        }

    def task(self, place: int, atoms: Atoms, labeller: Mapping[str, Any], created: str) -> Task:
        """Return the label task of a structure, which names the parent that it comes from."""
        source, number = self.places[place]
        if source == SEED:
            origin: dict[str, Any] = {"source": SEED, "number": number}
        else:
            origin = {"source": "exploration", "parent": source, "frame": number, "step": int(atoms.info["step"])}
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        return Task.new(
            bare, [1] * len(bare), labeller,
            priority=SEED_PRIORITY, origin=origin, config_type=self.kinds[place], created=created,
        )  # fmt: skip


def pick(settings: PickingSettings) -> dict[str, Any]:
    """Pick what is worth a label, unless somebody has done so, and publish its tasks; return counts.

    Raises
    ------
    DataError
        There is neither a seed without label nor a frame, or a file of frames is gone.
    """
    run = RunDirectory(settings.root)
    pool = Pool(run, read_structures(settings.dataset, "start.dataset"))
    record = SelectionRecord.read(run)
    if record is None:
        record, means = _select(settings, run, pool)
        if record.write_once(run):
            _write_map(run, pool, record, means)
        record = SelectionRecord.read(run) or record
    published = _publish(settings, run, pool, record)
    if not record.published:
        replace(record, published=True).replace(run)
        EventLog(run.events, settings.worker).emit(
            "picked", task_ids=[p.task_id for p in record.picks], pool=record.pool, by_kind=record.by_kind(),
            coverage=record.coverage, remark=record.remark,
        )  # fmt: skip
    return {"picks": len(record.picks), "new_tasks": published, **record.pool}


def preview(settings: PickingSettings) -> SelectionRecord:
    """Return what `pick` would pick now; writes nothing. Raises as `pick`."""
    run = RunDirectory(settings.root)
    return _select(settings, run, Pool(run, read_structures(settings.dataset, "start.dataset")))[0]


def _select(settings: PickingSettings, run: RunDirectory, pool: Pool) -> tuple[SelectionRecord, np.ndarray]:
    if not len(pool):
        raise DataError("explore: no seed without label, and no frame", "add structures to start.dataset")
    explore, remark = settings.explore, ""
    if len(pool) <= explore.picks:
        chosen, remark = np.arange(len(pool)), f"the pool has {len(pool)} structures: all are labelled"
        picked = Picked(chosen, np.zeros((len(pool), 2), dtype=np.float32), 1.0, 1.0)
    else:
        picked = select_structures(
            pool, _descriptor(settings, pool.elements),
            sizes=pool.sizes, strata=pool.kinds, n_picks=explore.picks, shares=explore.shares, seed=explore.seed,
        )  # fmt: skip
    failed = explore_queue(run, settings.queue, worker=settings.worker).counts()["failed"]
    created = iso_time(SystemClock().wall())
    wanted = {int(place) for place in picked.picks}
    picks = [
        Pick(*pool.places[place], pool.kinds[place], pool.task(place, atoms, settings.labeller, created).id)
        for place, atoms in enumerate(pool)
        if place in wanted
    ]
    coverage = {"picks": round(picked.coverage, 4), "random": round(picked.random, 4)}
    return SelectionRecord(created, tuple(picks), {**pool.counts(), "failed": failed}, coverage, remark), picked.means


def _descriptor(settings: PickingSettings, elements: tuple[str, ...]) -> Descriptor:
    if settings.explore.descriptor == "ace":
        from mlip_autopipec.ace.basis import make_basis
        from mlip_autopipec.ace.descriptor import AceDescriptor
        from mlip_autopipec.ace.terms import from_basis

        return AceDescriptor(from_basis(make_basis(settings.functions.configuration(elements))), threads=1)
    from mlip_autopipec.sampling.soap.descriptor import Soap
    from mlip_autopipec.sampling.soap.settings import SoapSettings

    return Soap(SoapSettings(elements), threads=1)


def _publish(settings: PickingSettings, run: RunDirectory, pool: Pool, record: SelectionRecord) -> int:
    """Publish a task for each pick that the queue does not know; return how many were new."""
    queue, events = dft_queue(run, settings.queue, worker=settings.worker), EventLog(run.events, settings.worker)
    wanted, new = {(p.source, p.number) for p in record.picks}, 0
    for place, atoms in enumerate(pool):
        if pool.places[place] not in wanted:
            continue
        task = pool.task(place, atoms, settings.labeller, record.created)
        if queue.publish(task):
            events.emit("task_published", task_ids=[task.id], priority=task.priority, config_type=task.config_type)
            new += 1
    return new


def _write_map(run: RunDirectory, pool: Pool, record: SelectionRecord, means: np.ndarray) -> None:
    chosen = {(p.source, p.number) for p in record.picks}
    first_two = np.zeros((len(pool), 2), dtype=np.float32)
    first_two[:, : min(2, means.shape[1])] = means[:, :2]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, places=first_two, picked=np.array([place in chosen for place in pool.places]),
        kinds=np.array(pool.kinds), seeds=np.array([source == SEED for source, _ in pool.places]),
    )  # fmt: skip
    write_bytes(run.explored / MAP, buffer.getvalue())

"""`autopipe queue export` and `import`: tasks as structures that every other program reads."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.options import dry_run_option, run_option
from mlip_autopipec.cli.queueing import open_queue, resolve
from mlip_autopipec.core.errors import ConfigError, DataError, EngineError, NotFoundError
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from ase import Atoms

    from mlip_autopipec.config import Config
    from mlip_autopipec.store.queue import TaskQueue
    from mlip_autopipec.store.task import Task


@click.command("export")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.argument("out", metavar="OUT.extxyz", type=click.Path(path_type=Path, dir_okay=False))
@run_option
@dry_run_option
def export(run: RunDirectory, task_ids: tuple[str, ...], out: Path, dry_run: bool) -> None:
    """Write tasks as extxyz, with their labels if they have one."""
    import ase.io

    if not out.parent.is_dir():
        raise NotFoundError(f"{out.parent}: no such folder", f"mkdir -p {shlex.quote(str(out.parent))}")
    opened = open_queue(run)
    ids = dict.fromkeys(resolve(opened, prefix) for prefix in task_ids)
    frames = [_frame(opened, task_id) for task_id in ids]
    labelled = sum(frame.calc is not None for frame in frames)
    click.echo(f"{out}: {len(frames)} structures, {labelled} with a label")
    if not dry_run:
        ase.io.write(out, frames, format="extxyz")


@click.command("import")
@click.argument("file", metavar="FILE.extxyz", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--gamma", type=click.FloatRange(0, 1e9), help="Priority.  [default: what the file says, or 0]")
@run_option
@dry_run_option
def import_file(run: RunDirectory, file: Path, gamma: float | None, dry_run: bool) -> None:
    """Make a task of each structure of a file, to be labelled as autopipe.yaml says.

    An array `force_mask` (1 = learned, 0 = masked) is used if there is one. Labels in the file are not used: training
    data that have labels belong into start.dataset.
    """
    from mlip_autopipec.config import load_in_force

    config = load_in_force(run)
    settings = config.labeller_settings()
    opened = open_queue(run)
    # All frames first: a bad one must not leave the others published.
    frames = {f"{file.name}:{number}": frame for number, frame in enumerate(_frames(file), start=1)}
    _check_elements(run, config, frames)
    tasks = [_task(frame, settings, gamma, where) for where, frame in frames.items()]
    new = 0
    for task in tasks:
        state = opened.state(task.id)
        published = not state and (dry_run or opened.publish(task))
        new += published
        click.echo(f"{task.id}: {'pending' if published else f'is known already ({state or opened.state(task.id)})'}")
    click.echo(f"{new} of {len(tasks)} structures are new tasks", err=True)


def _frames(file: Path) -> list[Atoms]:
    import ase.io

    try:
        frames = ase.io.read(file, index=":")
    except Exception as error:  # ASE's readers raise anything at all
        raise DataError(f"{file}: cannot be read: {error}", "write it as extxyz") from error
    if not frames:
        raise DataError(f"{file}: holds no structure", "give at least one")
    return list(frames)


def _check_elements(run: RunDirectory, config: Config, frames: dict[str, Atoms]) -> None:
    """Refuse structures that this run can neither label nor learn from."""
    from mlip_autopipec.daemons.labellers import make_labeller

    known = _elements_of(run, config)
    try:
        labeller = make_labeller(config.labeller_settings(), config.node)
    except (ConfigError, EngineError):
        labeller = None  # not on this node: the workers will tell
    for where, frame in frames.items():
        symbols = set(frame.get_chemical_symbols())
        if unknown := sorted(symbols - known):
            raise DataError(
                f"{where}: element {unknown[0]} is unknown to this run ({', '.join(sorted(known))})",
                "leave the structure out, or start a run whose start.dataset holds this element; nothing was published",
            )
        try:
            if labeller is not None:
                labeller.check_elements(symbols)
        except ConfigError as error:
            raise DataError(f"{where}: {error.message}", f"{error.hint}; nothing was published") from error


def _elements_of(run: RunDirectory, config: Config) -> set[str]:
    """Return the elements that a run begins with: of its structure, its dataset and its potential."""
    from mlip_autopipec.daemons.adoption import known_elements
    from mlip_autopipec.stages.explore import read_structures

    start = config.start
    known = set(known_elements(config.path(run, start.potential))) if start.potential else set()
    for key, file in (("start.structure", start.structure), ("start.dataset", start.dataset)):
        if file is not None:
            for atoms in read_structures(config.path(run, file), key):
                known.update(atoms.get_chemical_symbols())
    return known


def _frame(opened: TaskQueue, task_id: str) -> Atoms:
    """Return a task as ASE atoms, with its label as calculator if it has one."""
    from ase.calculators.singlepoint import SinglePointCalculator

    from mlip_autopipec.store.task import Task

    result = opened.results.read(task_id) if opened.results.exists(task_id) else None
    path = opened.find(task_id)
    if result is None and path is None:
        raise DataError(f"task {task_id} has just moved", "try again")
    task = Task.from_dict(result["task"]) if result else Task.read(path or Path())
    atoms = task.atoms()
    atoms.arrays["force_mask"] = _integers(task.force_mask)
    atoms.info.update(
        task_id=task.id,
        gamma=task.priority,
        config_type=task.config_type,
        origin=json.dumps(task.origin),
        labeller=json.dumps(task.labeller),
    )
    if result:
        label = {key: result[key] for key in ("energy", "forces", "stress") if result[key] is not None}
        atoms.calc = SinglePointCalculator(atoms, **label)
    return atoms


def _integers(values: list[int]) -> Any:
    import numpy as np

    return np.asarray(values, dtype=int)


def _task(frame: Atoms, labeller: dict[str, Any], gamma: float | None, where: str) -> Task:
    import time

    from mlip_autopipec.core.clock import iso_time
    from mlip_autopipec.store.task import Task

    mask = frame.arrays.get("force_mask")
    try:
        return Task.new(
            frame,
            [1] * len(frame) if mask is None else mask.tolist(),
            labeller,
            priority=float(frame.info.get("gamma", 0.0)) if gamma is None else gamma,
            origin={"source": "import", "file": where},
            config_type=str(frame.info.get("config_type", "imported")),
            created=iso_time(time.time()),
        )
    except (DataError, TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}", "nothing was published") from error

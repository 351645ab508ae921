"""`autopipe queue export` and `import`: tasks as structures that every other program reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.options import dry_run_option, run_option
from mlip_autopipec.cli.queueing import open_queue, resolve
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from ase import Atoms

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

    settings = load_in_force(run).labeller_settings()
    opened = open_queue(run)
    # All frames first: a bad one must not leave the others published.
    tasks = [
        _task(frame, settings, gamma, f"{file.name}:{number}") for number, frame in enumerate(_frames(file), start=1)
    ]
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

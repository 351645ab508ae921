"""What a person may do to the training set while no trainer works: drop labels, take them back, build it anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlip_autopipec.core.errors import NotFoundError, QueueError
from mlip_autopipec.daemons.inoffice import trainers_office
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.store.refusals import DROPPED, add_refusals, read_refusals, remove_refusals
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config


@contextlib.contextmanager
def instead_of_the_trainer(run: RunDirectory, lease_s: float) -> Iterator[None]:
    """Hold the trainer's office meanwhile.

    Raises
    ------
    QueueError
        A trainer lives.
    """
    run.potentials.mkdir(parents=True, exist_ok=True)
    office = trainers_office(run, lease_s)
    if not office.take():
        raise QueueError(
            f"{run.root}: the trainer is at work ({office.holder()}), and only it writes the training set",
            f"autopipe otf stop -C {run.root}, then this again",
        )
    try:
        yield
    finally:
        office.drop()


def drop(run: RunDirectory, known: set[str], task_ids: Sequence[str], reason: str) -> None:
    """Leave labels out of all fits from now on. Their rows stay, so that this can be undone.

    Raises
    ------
    NotFoundError
        There is no such label.
    """
    for task_id in task_ids:
        if task_id not in known:
            raise NotFoundError(f"{task_id}: no such label", "`autopipe dataset ls` shows all")
    add_refusals(run, dict.fromkeys(task_ids, f"{DROPPED}: {reason}" if reason else DROPPED))


def undrop(run: RunDirectory, task_ids: Sequence[str]) -> None:
    """Take dropped labels back.

    Raises
    ------
    NotFoundError
        One was not dropped by hand.
    """
    refused = read_refusals(run)
    for task_id in task_ids:
        if not refused.get(task_id, "").startswith(DROPPED):
            raise NotFoundError(f"{task_id}: was not dropped by hand", "`autopipe dataset ls --side refused` shows why")
    remove_refusals(run, task_ids)


def rebuild(run: RunDirectory, config: Config) -> tuple[int, str]:
    """Make the database anew of start structures and `results/`; return how many labels, and the old one's name."""
    intake = Intake(
        run, config.labeller_settings(),
        force_limit=config.training.force_limit, moment_jump=config.labelling.moment_jump,
    )  # fmt: skip
    kept = intake.dataset.set_aside(".before-rebuild").name if run.dataset.exists() else ""
    intake.load()
    start = config.start.dataset
    if start is not None:
        intake.take_frames(read_structures(config.path(run, start), "start.dataset"))
    while intake.take_results() and intake.rest:
        pass
    return len(intake.labels), kept

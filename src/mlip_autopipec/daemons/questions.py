"""The tasks of one walker's halts: carved, told of, published; each step can be repeated after a kill."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ase import Atoms

from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.carver import Carver
from mlip_autopipec.store.halts import Halt
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.task import Task


class Questions:
    """Asks for the labels of one walker's halts.

    Parameters
    ----------
    name
        Of the walker.
    """

    def __init__(self, name: str, carver: Carver, queue: TaskQueue, events: EventLog) -> None:
        self._name = name
        self._carver = carver
        self._queue = queue
        self._events = events

    def add(
        self, halt: Halt, frame: Atoms, atom: int, evaluator: Evaluator, *, more_than: int = 0
    ) -> tuple[Halt, Task]:
        """Return the halt with one more task, and that task, which is not published yet.

        Parameters
        ----------
        more_than
            Only a cell with more atoms than this is wanted.

        Raises
        ------
        NoFaithfulCell
            Nothing within the settings' limits is worth a label.
        """
        extraction = self._carver.carve(
            frame, atom, halt.step, halt.version, evaluator, more_than=more_than, published=halt.task_ids
        )
        task = extraction.task
        return replace(
            halt,
            task_ids=[*halt.task_ids, task.id],
            carves=[*halt.carves, size_of(task)],
            warnings=[*halt.warnings, *extraction.warnings],
        ), task

    def publish(self, task: Task, halt: Halt, evaluator: Evaluator) -> None:
        """Put a task of a halt into the queue, and the whole cell that goes with it (idempotent)."""
        # First, so that a kill in between is mended together with the carved one.
        self._publish_whole_cell(task, halt, evaluator)
        if self._queue.publish(task):
            self.tell("task_published", halt, [task.id])

    def tell(self, event: str, halt: Halt, task_ids: list[str] | None = None, **more: Any) -> None:
        """Emit an event about a halt."""
        facts = {"walker": self._name, "step": halt.step, "gamma": halt.gamma, "atom": halt.atom}
        named = {} if task_ids is None else {"task_ids": task_ids}
        self._events.emit(event, **named, **more, **facts, version=halt.version)

    def tell_exceeded(self, task: Task, halt: Halt) -> None:
        """Tell once why a task was asked for, whatever kill came before."""
        told = any(
            event["event"] == "gamma_exceeded" and task.id in event["task_ids"]
            for event in read_events(self._events.path)
        )
        if not told:
            recovered = {"recovered": True} if task.id in halt.task_ids else {}
            self.tell("gamma_exceeded", halt, [task.id], **recovered)

    def _publish_whole_cell(self, task: Task, halt: Halt, evaluator: Evaluator) -> None:
        """Ask for a whole cell of the halted frame's phase: with a walker's first halt, then with a share of them."""
        is_first = halt.number == 1 and halt.task_ids[0] == task.id
        whole = self._carver.whole_cell(halt.atoms(), task, halt.step, halt.version, evaluator, wanted=is_first)
        if whole is not None and self._queue.publish(whole):
            # Without a walker: nobody's gamma asked for it.
            facts = {key: whole.origin[key] for key in ("source", "step", "version")}
            self._events.emit("task_published", task_ids=[whole.id], **facts)


def size_of(task: Task) -> dict[str, int]:
    """Return what a halt remembers of a carve."""
    return {"atom": int(task.origin["center"]), "atoms": len(task.force_mask)}

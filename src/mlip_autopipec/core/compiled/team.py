"""A few threads that wait for compiled work; kernels release the GIL."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable


def default_threads() -> int:
    """Return OMP_NUM_THREADS where set, else the number of CPUs that this process may use."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text.isdigit() and int(text) > 0:
        return int(text)
    return len(os.sched_getaffinity(0))


class Team:
    """Runs one function on several threads at once; the caller's thread is the first of them.

    Parameters
    ----------
    size
        Number of threads, at least 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"threads must be at least 1, found {size}")
        self.size = size
        self._pid = 0
        self._inboxes: list[queue.SimpleQueue[Callable[[int], None] | None]] = []
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run(self, work: Callable[[int], None], members: int | None = None) -> None:
        """Call work(0), work(1), ... at the same time and wait for all; the first error is raised here."""
        members = min(self.size, members or self.size)
        if members > 1 and self._pid != os.getpid():
            self._hire()
        for inbox in self._inboxes[: members - 1]:
            inbox.put(work)
        problems: list[BaseException] = []
        try:
            work(0)
        except BaseException as error:
            problems.append(error)
        waits = members - 1
        while waits:
            # Others may still use the caller's arrays: never leave before they are done, not even when interrupted.
            try:
                problem = self._done.get()
                waits -= 1
            except BaseException as interrupt:
                problem = interrupt
            if problem is not None:
                problems.append(problem)
        if problems:
            raise problems[0]

    def _hire(self) -> None:
        """Start the other threads (again after a fork, which keeps only the forking thread)."""
        self._pid = os.getpid()
        self._done = queue.SimpleQueue()
        self._inboxes = [queue.SimpleQueue() for _ in range(self.size - 1)]
        for number, inbox in enumerate(self._inboxes, start=1):
            threading.Thread(
                target=_serve, args=(number, inbox, self._done), name=f"team-{number}", daemon=True
            ).start()
        # Every swap of a potential leaves a team behind: its threads must not stay.
        weakref.finalize(self, _dismiss, self._inboxes)


def _dismiss(inboxes: list[queue.SimpleQueue[Callable[[int], None] | None]]) -> None:
    """Send threads home."""
    for inbox in inboxes:
        inbox.put(None)


def _serve(
    number: int,
    inbox: queue.SimpleQueue[Callable[[int], None] | None],
    done: queue.SimpleQueue[BaseException | None],
) -> None:
    while True:
        work = inbox.get()
        if work is None:
            return
        problem: BaseException | None = None
        try:
            work(number)
        except BaseException as error:
            problem = error
        done.put(problem)
        work = problem = None  # they hold the evaluator, which could never be freed while this thread waits

"""Tells a person at the terminal what happens, a short line each; `events.jsonl` and `autopipe status` know more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.runtime.heartbeat import read_heartbeat
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.state import WorkflowState
from mlip_autopipec.store.walkerstate import WalkerState, read_all

logger = logging.getLogger(__name__)

_SUMMARY_S = 5.0
_ID_LENGTH = 8  # enough of a task id to find it, as in `autopipe queue show`
# What a bootstrap of hundreds of structures would fill the screen with is in the summary.
_TOLD_OF_WALKERS_ONLY: Final = frozenset({"task_published", "task_claimed", "label_done"})
_SILENT: Final = frozenset({"task_published", "task_claimed"})


def line_of(record: Mapping[str, Any], threshold: float) -> str | None:
    """Return one event in words, None if it is not worth a line.

    Parameters
    ----------
    record
        A line of `events.jsonl`.
    threshold
        gamma above which MD halts.
    """
    event, walker, step = record["event"], record.get("walker"), record.get("step")
    ids = ", ".join(task_id[:_ID_LENGTH] for task_id in record.get("task_ids") or ())
    count, version, reason = len(record.get("task_ids") or ()), record.get("version"), record.get("reason")
    gamma = _number(record.get("gamma"))
    if event in _SILENT or (event in _TOLD_OF_WALKERS_ONLY and not walker):
        return None
    lines = {
        "exploration_published": f"{count} trajectories to explore with {record.get('surrogate')}",
        "explored": f"explored {record.get('config_type')} at {_number(record.get('temperature'))} K: "
        f"{record.get('frames')} frames" + (f", stopped at step {step}: {reason}" if reason else ""),
        "exploration_failed": f"trajectory {ids}: {record.get('outcome')}: {reason}",
        "picked": f"picked {count} structures for labels" + (f": {record['remark']}" if record.get("remark") else ""),
        "gamma_exceeded": f"{walker} step {step}: gamma {gamma} above {threshold:g}"
        + (f" -> task {ids}" if ids else ""),
        "carve_refused": f"{walker} step {step}: nothing sent to labelling: {reason}",
        "heal_failed": f"{walker} step {step}: {version} has the label of task {ids}, but gamma {gamma} is still above "
        f"{threshold:g}: a larger cell follows",
        "label_done": f"task {ids} of {walker} labelled",
        "label_failed": f"task {ids}: no label ({record.get('outcome')}): {reason}",
        "train_started": f"training {version or 'the next version'} with {count} new labels",
        "version_published": f"{version} published with {count} new labels"
        + (f", but as a candidate only: {record['candidate']}" if record.get("candidate") else ""),
        "swapped": f"{walker} swapped to {version} at step {step}",
        "md_started": f"{walker} started with {version}",
        "md_completed": f"{walker} {record.get('ended', 'ended')} at step {step}" + (f": {reason}" if reason else ""),
        "rewound": f"{walker} step {step}: {reason}; goes back to its last snapshot and looks at every step",
        "reseeded": f"{walker} goes on from its last snapshot with new velocities: {reason}",
        "walker_revived": f"{walker} gets another chance, as asked",
        "dataset_rebuilt": f"{reason}: rebuilt with {record.get('labels')} labels",
        "current_repaired": f"{reason}",
        "version_retired": f"{version} removed, since nobody uses it any more (retention.versions)",
        "walker_stuck": f"{walker} is stuck at step {step}: {reason}",
    }
    return lines.get(event)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "?"


class Narrator:
    """Says what the events tell, and every few seconds where the run stands if that has changed.

    Parameters
    ----------
    say
        Shows one line.
    threshold
        gamma above which MD halts.
    """

    def __init__(self, run: RunDirectory, threshold: float, say: Callable[[str], None]) -> None:
        self._run = run
        self._threshold = threshold
        self._say_line: Callable[[str], None] | None = say
        self._due = float("-inf")
        self._shown = ""

    def tell(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Say a line for each event that is worth one."""
        for record in records:
            line = line_of(record, self._threshold)
            if line is not None:
                self._say(line)

    def look(self, now: float, state: WorkflowState) -> None:
        """Say where the run stands, unless that was said less than five seconds ago or nothing has changed."""
        if now < self._due:
            return
        self._due = now + _SUMMARY_S
        try:
            line = self._summary(state)
        except (AutopipeError, OSError) as error:  # a file is being replaced or was damaged by hand
            logger.debug("no summary: %s", error)
            return
        if line != self._shown:
            self._shown = line
            self._say(line)

    def part(self, state: WorkflowState) -> None:
        """Say at the end of a run that is not done why it is not, and how it goes on."""
        if state.phase != "stuck":
            self._say("not done: autopipe otf start  goes on")
            return
        for walker in read_all(self._run.walkers):
            if walker.gave_up:
                self._say(f"{walker.name} is {walker.state} at step {walker.step}/{walker.steps}: {walker.reason}")
        self._say("another chance for it: autopipe otf revive, then  autopipe otf start")

    def _summary(self, state: WorkflowState) -> str:
        trainer = read_heartbeat(self._run.heartbeats / "trainer-worker.json") or {"state": "", "detail": {}}
        # Labels that came with start.dataset have no result: only the trainer knows of them.
        labels = max(sum(1 for _ in Results(self._run.results).ids()), trainer["detail"].get("labels", 0))
        version = f"v{state.generation:04d}" if state.generation else "no potential yet"
        parts = [_walker(walker) for walker in read_all(self._run.walkers)]
        if trainer["state"] == "failing":
            parts.append(f"trainer-worker is failing: {trainer['detail'].get('error')}")
        return ", ".join([*parts, f"labels {labels} ({state.pending_tasks} waiting)", version])

    def _say(self, line: str) -> None:
        if self._say_line is None:
            return
        try:
            self._say_line(line)
        except OSError as error:  # the terminal is closed; the run goes on
            logger.warning("nothing more is shown: %s", error)
            self._say_line = None


def _walker(walker: WalkerState) -> str:
    told = f"{walker.name} {walker.step}/{walker.steps}"
    return told if walker.state == "running" else f"{told} {walker.state}"

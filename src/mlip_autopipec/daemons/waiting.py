"""What a walker does while its halt waits for a label (`otf.while_waiting`), and how MD goes on afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from mlip_autopipec.daemons.current import CurrentPotential
from mlip_autopipec.daemons.healing import Healing
from mlip_autopipec.daemons.walkerrecord import WalkerRecord
from mlip_autopipec.stages.swap import Decision
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.halts import Halt
from mlip_autopipec.store.walkerstate import WalkerState

# Task states are read from folder listings that may lie on a network: less often than `current.json`.
_TASK_LOOK_S: Final = 2.0

Pastime = Literal["park", "go_elsewhere", "finish"]


@dataclass(frozen=True)
class GoOn:
    """How MD goes on from the last safe snapshot.

    Attributes
    ----------
    reseed : with new velocities
    failed : a healing failed, of which there may be only so many in a row
    tasks : of the halt
    """

    reseed: bool
    reason: str
    tasks: list[str]
    failed: bool = False


class Waiting:
    """The open halt of one walker, and those that it left open, seen from MD.

    Parameters
    ----------
    healing, record, current
        The walker's.
    """

    def __init__(self, otf: OtfSettings, healing: Healing, record: WalkerRecord, current: CurrentPotential) -> None:
        self._otf = otf
        self._healing = healing
        self._record = record
        self._current = current
        self._next_look = 0.0
        self._looked_with: str | None = None

    def look(self, now: float) -> GoOn | None:
        """Look whether the open halt can end; None if MD has to wait, or has ended with it."""
        version, evaluator = str(self._current.version), self._current.evaluator
        if now < self._next_look and version == self._looked_with:
            return None
        self._next_look, self._looked_with = now + _TASK_LOOK_S, version
        self._healing.republish(evaluator)
        self.follow()
        decision = self._healing.look(
            version,
            evaluator,
            reseeds_in_a_row=self._record.state.reseeds,
            reseed_limit=self._otf.reseed_limit,
        )
        halt = self._healing.halt
        if halt is None or decision.action == "wait":
            return None if halt is None else self._meanwhile(halt, decision.reason)
        limit = self._otf.max_refused_halts
        return self._end(halt, unless_refused_too_often(decision, halt, self._record.state.refusals, limit), version)

    def follow(self) -> None:
        """Look after the halts that were left open."""
        if self._healing.aside:
            unhealed = self._healing.follow(str(self._current.version), self._current.evaluator)
            self._record.note(reseeds=self._record.state.reseeds + unhealed)

    def _meanwhile(self, halt: Halt, reason: str) -> GoOn | None:
        """Pass the time as the settings want it."""
        what = pastime(self._otf, halt, self._record.state, len(self._healing.aside))
        if what == "finish":
            self._record.ended("done", f"otf.while_waiting is finish; the next start goes on; {reason}")
            return None
        if what == "go_elsewhere":
            # First: a kill right after it repeats the branch, which asks for the same label.
            self._healing.put_aside()
            return GoOn(True, f"does not wait (otf.while_waiting): {reason}", halt.task_ids)
        if reason != self._record.state.waiting_for:
            self._record.save(waiting_for=reason)
        return None

    def _end(self, halt: Halt, decision: Decision, version: str) -> GoOn | None:
        """End the open halt; None if the walker is stuck."""
        state = self._record.state
        if decision.action == "stuck":
            self._record.stuck(decision.reason, halt.task_ids)
            self._healing.end(decision, version)
            return None
        if version != state.version:
            self._record.swapped(version)
        # The halt ends first: a kill right after it repeats the branch, and never counts one failure twice.
        self._healing.end(decision, version)
        if decision.action == "swap":
            self._record.note(reseeds=0)
            return GoOn(False, decision.reason, halt.task_ids)
        self._record.note(refusals=state.refusals + (not halt.task_ids))
        # Where the safe state itself is above the threshold, other velocities change nothing, but every label does.
        unsafe = halt.step <= state.snapshot_step
        helped = unsafe and self._healing.judge.brought_labels(halt, version)
        return GoOn(True, decision.reason, halt.task_ids, failed=not helped)


def pastime(otf: OtfSettings, halt: Halt, state: WalkerState, aside: int) -> Pastime:
    """Return what a walker does now that it has to wait.

    Parameters
    ----------
    halt
        The open one.
    state
        The walker's.
    aside
        Earlier halts of this walker that still wait for their labels.
    """
    if otf.while_waiting == "finish":
        return "finish"
    if otf.while_waiting == "park" or not halt.task_ids or aside + 1 >= otf.max_open_halts:
        return "park"
    if halt.step <= state.snapshot_step:
        return "park"  # the safe state itself is above the threshold, whatever its velocities are
    # The last chance is kept for when a label may have helped: elsewhere it may well be the same unknown.
    return "park" if state.reseeds + 1 >= otf.reseed_limit else "go_elsewhere"


def unless_refused_too_often(decision: Decision, halt: Halt, refusals: int, limit: int) -> Decision:
    """Return `decision`, or the end of a walker whose halts give no cell that is worth a label.

    Parameters
    ----------
    refusals
        Halts of this walker without a cell before this one.
    """
    if decision.action != "reseed" or halt.task_ids or refusals + 1 < limit:
        return decision
    told = f"{decision.reason}; {refusals + 1} halts without a cell that is worth a label (otf.max_refused_halts)"
    return replace(decision, action="stuck", reason=told)

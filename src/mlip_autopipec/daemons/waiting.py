"""What a walker does while its halt waits for a label: `otf.while_waiting`, as a rule without side effects."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mlip_autopipec.stages.swap import Decision
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.halts import Halt
from mlip_autopipec.store.walkerstate import WalkerState

Pastime = Literal["park", "go_elsewhere", "finish"]


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

"""current -> swap: every walker picks the new version up and goes on from its last safe state.

Reads: `potentials/current.json`, the halt, the state of its tasks. Writes: nothing; it decides, the walker acts.
Next: `watch` again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

# States in which a task will never get a label.
HOPELESS = frozenset({"failed", "corrupt", "cancelled", "refused"})


@dataclass(frozen=True)
class Decision:
    """How a halt goes on.

    Attributes
    ----------
    action
        `wait`; `swap`: take the current version and go on from the safe snapshot; `reseed`: the same with new
        velocities; `stuck`: end.
    reason
        For people: what is waited for, or why it ended so.
    gamma
        Largest gamma of the halted frame under the current version, if it was computed.
    heal_failed
        The current version has the halt's labels, and gamma of the halted frame is above the threshold nevertheless.
    """

    action: Literal["wait", "swap", "reseed", "stuck"]
    reason: str
    gamma: float | None = None
    heal_failed: bool = False


def decide(
    *,
    halted_version: str,
    current_version: str,
    contained: Collection[str],
    holder: str,
    task_states: Mapping[str, str | None],
    threshold: float,
    reseeds_in_a_row: int,
    reseed_limit: int,
    gamma_now: Callable[[], float],
    refusal: str = "",
) -> Decision:
    """Decide how a halt ends, or that it has to wait.

    Parameters
    ----------
    halted_version, current_version
        The version that halted and the one that is current now.
    contained
        Task ids whose labels are in the current version, or in `holder`.
    holder
        The newest version: the current one, or one that the user went back from.
    task_states
        State of each of the halt's tasks; `refused` if its label was refused, None if the queue knows no such task.
    threshold
        gamma above which MD halts.
    gamma_now
        Evaluates the halted frame with the current version; called only when that can have changed.
    refusal
        Why the halt has no task, if it has none.
    """
    changed = current_version != halted_version
    open_tasks = {task: state for task, state in task_states.items() if task not in contained and state not in HOPELESS}
    gamma = gamma_now() if changed else None
    if gamma is not None and gamma <= threshold:
        return Decision("swap", f"{current_version} knows the halted frame (gamma {gamma:.2f})", gamma)
    if open_tasks:
        waits = ", ".join(f"{task} ({state or 'not in the queue'})" for task, state in sorted(open_tasks.items()))
        return Decision("wait", f"label in a version: {waits}", gamma)
    hopeless = sorted({str(s) for t, s in task_states.items() if t not in contained and s in HOPELESS})
    heal_failed = False
    if refusal and not task_states:
        cause = refusal
    elif hopeless:
        cause = f"task {', '.join(hopeless)}"
    elif holder == current_version:
        cause = f"{current_version} has its labels but gamma is still above"
        heal_failed = gamma is not None and bool(task_states)
    else:
        cause = f"{holder} has its labels, but {current_version} is current and its gamma is still above"
    if gamma is not None:
        cause += f" (gamma {gamma:.2f})"
    if reseeds_in_a_row + 1 >= reseed_limit:
        return Decision("stuck", f"{cause}; {reseed_limit} failed healings in a row", gamma, heal_failed)
    return Decision("reseed", cause, gamma, heal_failed)

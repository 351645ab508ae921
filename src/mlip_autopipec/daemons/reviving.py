"""Who has given up and can get another chance."""

from __future__ import annotations

from collections.abc import Sequence

from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.daemons.stopping import living
from mlip_autopipec.runtime.heartbeat import read_heartbeat
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import read_all

TRAINER = "trainer-worker"


def revivable(run: RunDirectory, names: Sequence[str] = ()) -> dict[str, str]:
    """Return who gave up, name -> in what state; of `names` only, if there are any.

    Raises
    ------
    NotFoundError
        One of `names` is no walker of this run, or has not given up.
    """
    states = {walker.name: walker.state for walker in read_all(run.walkers)}
    gave_up = {
        walker.name: f"which is {walker.state} at step {walker.step}: {walker.reason}"
        for walker in read_all(run.walkers)
        if walker.gave_up
    }
    beat = read_heartbeat(run.heartbeats / f"{TRAINER}.json") or {}
    if beat.get("state") == "failing":
        gave_up[TRAINER] = f"which is failing: {beat['detail'].get('error')}"
    states[TRAINER] = beat.get("state", "not there")
    wanted = [TRAINER if name == "trainer" else name for name in names]
    for name in wanted:
        if name not in states:
            raise NotFoundError(f"{name}: no such walker", f"there are: {', '.join(states)}")
        if name not in gave_up:
            raise NotFoundError(f"{name}: has not given up, it is {states[name]}", "`autopipe status` shows who has")
    return {name: told for name, told in gave_up.items() if not wanted or name in wanted}


def asleep(run: RunDirectory) -> bool:
    """True if nobody of this run works on this host, so that a wish waits for the next start."""
    return not any(process.identity.is_local() for process in living(run))

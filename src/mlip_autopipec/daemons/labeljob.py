"""The label that a dft-worker has in work: its claim, its folder and its times."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlip_autopipec.daemons.expense import expense
from mlip_autopipec.store.claims import Claim
from mlip_autopipec.store.costs import Cost


@dataclass(frozen=True)
class LabelJob:
    """One attempt at one task.

    Attributes
    ----------
    claim : what the worker holds
    folder : of the attempt
    begin, deadline : by the clock that the worker's `step` is told, s
    since : by the monotonic clock, whatever `step` is told, s
    """

    claim: Claim
    folder: Path
    begin: float
    deadline: float
    since: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.claim.task.id

    def facts(self) -> dict[str, Any]:
        """Return what events say of it."""
        task = self.claim.task
        origin: dict[str, Any] = {key: task.origin[key] for key in ("walker", "step", "version") if key in task.origin}
        return {"task_ids": [self.id], "gamma": task.priority, "attempt": self.claim.attempt, **origin}

    def cost(self, end: str, seconds: float | None = None) -> Cost:
        """Return the line of the ledger; `seconds` of wall time, by default those since the claim."""
        spent = time.monotonic() - self.since if seconds is None else seconds
        return expense(self.claim.task, self.folder, spent, end)

    def tidy(self) -> None:
        """Remove the folder if the labeller left nothing in it."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
            self.folder.parent.rmdir()

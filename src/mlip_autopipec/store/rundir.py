"""The run directory: where everything of one run lies, and who writes it (DESIGN: one writer each)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import NotFoundError

TRAJECTORY: Final = "trajectory.extxyz.gz"  # in the folder of each walker, also of a production's


class RunDirectory:
    """Paths of one run. Knows names, reads nothing.

    Parameters
    ----------
    root
        The folder that holds `autopipe.yaml`.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self.config_file = self.root / "autopipe.yaml"  # the user
        self.config = self.root / "config"  # start: frozen configurations by hash
        self.frozen_config = self.root / "exec_config_dump.yaml"  # start
        self.queue = self.root / "queue"  # the queue protocol
        self.results = self.root / "results"  # the queue protocol
        self.explored = self.root / "explored"  # the queue protocol: what exploration found, and what was picked
        self.walkers = self.root / "walkers"  # each walker its own folder
        self.production = self.root / "production"  # `autopipe otf produce`: each version its own folder
        self.hours = self.walkers / "hours.json"  # otf-runner
        self.dataset = self.root / "dataset.db"  # trainer-worker
        self.refusals = self.root / "refusals.json"  # trainer-worker
        self.calibration = self.root / "calibration.json"  # trainer-worker
        self.potentials = self.root / "potentials"  # trainer-worker
        self.events = self.root / "events"  # each process its own file
        self.merged_events = self.root / "events.jsonl"  # supervisor
        self.control = self.root / "control"  # command line
        self.state = self.root / "state.json"  # supervisor
        self.attempts = self.root / "attempts"  # the worker that holds the task
        self.costs = self.root / "costs"  # each dft-worker its own file
        self.heartbeats = self.root / "heartbeats"  # each process its own file
        self.logs = self.root / "logs"  # each process its own file
        self.start = self.root / "start"  # init: start structure and first training structures

    def walker(self, name: str) -> Path:
        return self.walkers / name

    def attempt(self, task_id: str) -> Path:
        return self.attempts / task_id

    def create(self) -> None:
        """Make the folders (idempotent)."""
        for folder in (
            self.config, self.queue, self.results, self.walkers, self.potentials, self.events, self.control,
            self.attempts, self.heartbeats, self.logs,
        ):  # fmt: skip
            folder.mkdir(parents=True, exist_ok=True)

    def require(self) -> RunDirectory:
        """Return self if this is a run directory; a run that was started works without the user's file.

        Raises
        ------
        NotFoundError
            There is neither `autopipe.yaml` nor the configuration that a start froze.
        """
        if not self.config_file.is_file() and not self.frozen_config.is_file():
            raise NotFoundError(
                f"{self.root}: no autopipe.yaml here, so this is not a run directory",
                "make one with `autopipe init Al2Cu`, or name it with -C DIR",
            )
        return self

"""Stand-in for a service: `python -m fake_service -C RUN --name NAME` does what its name says."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.rundir import RunDirectory


class FakeDaemon:
    """Idle until drained; `crasher` fails at once, `stubborn` never drains."""

    def __init__(self, run: RunDirectory, name: str) -> None:
        self.run = run
        self.name = name
        self.draining = False

    def start(self) -> None:
        EventLog(self.run.events, self.name).emit("md_started", walker=self.name)
        if self.name == "crasher":
            print("something went wrong", file=sys.stderr)
            sys.exit(3)
        if self.name == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def step(self, now: float) -> Outcome:
        return Outcome.DONE if self.draining and self.name != "stubborn" else Outcome.IDLE

    def drain(self) -> None:
        self.draining = True

    def close(self) -> None:
        EventLog(self.run.events, self.name).emit("md_completed", walker=self.name)

    def status(self) -> tuple[str, dict[str, Any]]:
        wish = self.run.root / f"{self.name}.uningested"
        count = int(wish.read_text()) if wish.exists() else 0
        return ("finished" if self.name == "otf-runner" else "idle"), {"uningested": count}


if __name__ == "__main__":
    folder, name = Path(sys.argv[2]), sys.argv[4]
    code = launch(folder, name, lambda run: FakeDaemon(run, name))
    time.sleep(0.01)
    sys.exit(code)

"""A supervisor process over stand-in services: `python -m supervised RUN [--foreground] NAME...`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from mlip_autopipec.daemons.inoffice import InOffice, supervisors_office
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.settings import SupervisorSettings
from mlip_autopipec.daemons.supervisor import Supervisor
from mlip_autopipec.stages.explore import ExploreSettings
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings


@dataclass(frozen=True)
class Parts:
    """The sections of a configuration that a supervisor reads."""

    queue: QueueSettings = field(default_factory=lambda: QueueSettings(lease_s=3, fsync=False))
    supervisor: SupervisorSettings = field(
        default_factory=lambda: SupervisorSettings(
            restart_backoff_s=0.1, restart_backoff_max_s=0.4, grace_s=1.5, label_grace_s=0.5, event_patience_s=2.0
        )
    )
    otf: OtfSettings = field(default_factory=OtfSettings)
    explore: ExploreSettings = field(default_factory=ExploreSettings)


if __name__ == "__main__":
    root, *names = sys.argv[1:]
    foreground = "--foreground" in names
    services = [("fake_service", name) for name in names if name != "--foreground"]

    def make(run: RunDirectory) -> InOffice:
        def begin() -> Supervisor:
            return Supervisor(run, Parts(), foreground=foreground, services=services)  # type: ignore[arg-type]

        return InOffice(supervisors_office(run, Parts().queue.lease_s), begin, wait=False)

    sys.exit(launch(Path(root), "supervisor", make, wait_s=0.2))

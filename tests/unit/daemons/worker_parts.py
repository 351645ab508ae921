"""A labeller that does what its task says, and a dft-worker process around it. Importable: it runs in children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import ConfigError, NotConverged
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.daemons.dft_worker import DftWorker
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.settings import NodeSettings, SupervisorSettings
from mlip_autopipec.runtime.tether import tethered
from mlip_autopipec.stages.label import LabellingSettings
from mlip_autopipec.store.settings import QueueSettings
from mlip_autopipec.store.task import Task

NOW = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Limits:
    """Of the training section what a worker reads."""

    force_limit: float = 100.0


@dataclass(frozen=True)
class Parts:
    """The sections of a configuration that a worker reads."""

    queue: QueueSettings = field(default_factory=lambda: QueueSettings(lease_s=3, fsync=False))
    supervisor: SupervisorSettings = field(default_factory=lambda: SupervisorSettings(label_grace_s=0.5))
    node: NodeSettings = field(default_factory=NodeSettings)
    labelling: LabellingSettings = field(default_factory=LabellingSettings)
    training: Limits = field(default_factory=lambda: Limits())


class ObedientLabeller:
    """Energy = number of atoms, or what the task's settings ask for."""

    name = "obedient"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        if settings.get("do") == "no-engine":
            raise ConfigError("pw.x was not found", "install it")

    def label(self, atoms: Atoms, folder: Path) -> Label:
        getattr(self, "_" + self.settings.get("do", "label").replace("-", "_"))(folder)
        stress = np.zeros(6) if atoms.pbc.all() else None
        forces = np.full((len(atoms), 3), np.nan if self.settings.get("do") == "nan" else 0.1)
        return Label(float(len(atoms)), forces, stress, {"pid": os.getpid()})

    def check_elements(self, symbols: Collection[str]) -> None: ...

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        return 1.0

    def _label(self, folder: Path) -> None: ...

    def _nan(self, folder: Path) -> None: ...

    def _write(self, folder: Path) -> None:
        (folder / "output").write_text("converged")

    def _not_converged(self, folder: Path) -> None:
        raise NotConverged("SCF stopped after 100 steps", "use smaller mixing")

    def _transient(self, folder: Path) -> None:
        raise NotConverged("scratch was full", "", transient=True)

    def _bug(self, folder: Path) -> None:
        raise ZeroDivisionError("bug")

    def _segfault(self, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _slow(self, folder: Path) -> None:
        time.sleep(1)

    def _program(self, folder: Path) -> None:
        """Run a program that does not end, as pw.x would."""
        process = subprocess.Popen(tethered(["sleep", "1000"]))
        (folder / "pid.tmp").write_text(f"{os.getpid()} {process.pid}")
        (folder / "pid.tmp").rename(folder / "pid")
        process.wait()


def make(settings: Mapping[str, Any], node: NodeSettings) -> ObedientLabeller:
    return ObedientLabeller(settings)


def new_task(do: str = "label", gamma: float = 2.0, atoms: int = 2, **labeller: Any) -> Task:
    structure = Atoms(f"Al{atoms}", positions=[[0, 0, 2.5 * i] for i in range(atoms)], cell=[9, 9, 99], pbc=True)
    mask = [1] * (atoms - 1) + [0]
    settings = {"engine": "obedient", "do": do, **labeller}
    origin = {"walker": "w00", "step": 1, "version": "v0001"}
    return Task.new(
        structure, mask, settings, priority=gamma, origin=origin, config_type="active_learning", created=NOW
    )


def main() -> None:
    """Serve the run `argv[1]` under the name `argv[2]`."""
    sys.exit(launch(Path(sys.argv[1]), sys.argv[2], lambda run: DftWorker(run, Parts(), sys.argv[2], make=make)))

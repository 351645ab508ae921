"""The dft-worker with each engine that the configuration knows, from a task file to a result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from worker_parts import NOW, Parts

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.daemons.dft_worker import DftWorker
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.engines.calculators.settings import AseSettings
from mlip_autopipec.engines.gpaw.settings import GpawNode, GpawSettings
from mlip_autopipec.engines.vasp.settings import VaspNode, VaspSettings
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task
from vasp_parts import fake_vasp

COPPER = bulk("Cu", cubic=True, a=3.7)
COPPER.rattle(0.1, seed=8)


def labelled(root: Path, settings: dict[str, Any], node: NodeSettings) -> dict[str, Any]:
    """Publish copper, let a worker label it, and return the result's record."""
    run = RunDirectory(root)
    run.create()
    results = Results(run.results)
    queue = TaskQueue(run.queue / "dft", results, worker="test", attempts=run.attempts)
    task = Task.new(COPPER, [1, 1, 1, 0], settings, priority=3.0, origin={}, config_type="test", created=NOW)
    assert queue.publish(task)
    worker = DftWorker(run, Parts(node=node), "dft-0", max_tasks=1)
    worker.start()
    try:
        deadline = time.monotonic() + 300
        while worker.step(time.monotonic()) is not Outcome.DONE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        worker.close()
    return dict(results.read(task.id))


def settings_of(model: Any) -> dict[str, Any]:
    return dict(model.model_dump(mode="json"))


def emt_energy() -> float:
    atoms = COPPER.copy()
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


def energy_of(record: dict[str, Any]) -> float:
    return float(record["energy"])


def test_any_calculator_of_ase(tmp_path: Path) -> None:
    record = labelled(tmp_path, settings_of(AseSettings(calculator="ase.calculators.emt.EMT")), NodeSettings())
    assert energy_of(record) == pytest.approx(emt_energy(), abs=1e-9)


def test_vasp(tmp_path: Path) -> None:
    node = NodeSettings(vasp=fake_vasp(tmp_path / "vasp", "Cu"))
    record = labelled(tmp_path / "run", settings_of(VaspSettings()), node)
    assert energy_of(record) == pytest.approx(emt_energy(), abs=1e-6)


@pytest.mark.usefixtures("gpaw")
def test_gpaw(tmp_path: Path) -> None:
    settings = settings_of(GpawSettings(ecut_ev=150, kspacing=5, density_tolerance=1e-4))
    record = labelled(tmp_path, settings, NodeSettings())
    assert np.isfinite(energy_of(record))
    assert np.shape(record["forces"]) == (4, 3)
    (text,) = tmp_path.glob("attempts/*/*/gpaw.txt")
    assert "Free energy" in text.read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "gpow"}, "known are teacher, espresso, gpaw, vasp and ase"),
        ({"engine": "gpaw", "ecut_ev": "high"}, r"labeller\.ecut_ev"),
        ({"engine": "vasp", "incar": {"encut": 1}}, r"labeller\.incar"),
        ({"engine": "ase"}, r"labeller\.calculator"),
    ],
)
def test_tasks_with_settings_that_nobody_knows(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        make_labeller(settings, NodeSettings())


def test_a_node_without_the_program_says_so() -> None:
    with pytest.raises(ConfigError, match=r"node\.vasp\.command"):
        make_labeller({"engine": "vasp"}, NodeSettings(vasp=VaspNode(command="no-such-vasp")))


def test_all_engines_end_before_the_machine_does() -> None:
    node = NodeSettings(vasp=VaspNode(kill_grace_s=10.0), gpaw=GpawNode(max_seconds=20.0)).before(100.0)
    assert node.vasp.seconds_left(50.0) == 40.0
    assert node.gpaw.seconds_left(10.0) == 20.0
    assert node.espresso.seconds_left(50.0) < 50.0

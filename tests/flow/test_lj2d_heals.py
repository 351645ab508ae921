"""A defective two-dimensional Lennard-Jones potential heals itself (issue 2, first flow)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from running import autopipe, merged_events, processes_of, status

from mlip_autopipec.core.events import TASK_STORY
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.store.registry import Registry

pytestmark = pytest.mark.flow

THRESHOLD = 5.0
LJ = TeacherSettings(engine="teacher", model="lj", sigma=3.4, epsilon=0.0104, cutoff=8.5)


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which python-ace cannot be imported, and whose file `imported` tells who tried."""
    folder = tmp_path_factory.mktemp("trap")
    tell = f"open({str(folder / 'imported')!r}, 'a').write(' '.join(sys.argv) + '\\n')"
    (folder / "pyace.py").write_text(f"import sys\n{tell}\nraise ImportError('not in this test')\n")
    return folder


@pytest.fixture(scope="module")
def healed(tmp_path_factory: pytest.TempPathFactory, trap: Path) -> Path:
    """A run of the example, from init to the end, as on a machine without python-ace."""
    run = tmp_path_factory.mktemp("flow") / "lj2d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(trap))
        autopipe("init", run, "--example", "lj2d")
        done = autopipe("otf", "start", "-C", run, "--foreground")
    print(done.stdout, done.stderr)
    return run


def test_python_ace_was_never_needed(healed: Path, trap: Path) -> None:
    assert not (trap / "imported").exists()
    environment = {**os.environ, "PYTHONPATH": str(trap)}
    command = [sys.executable, "-c", "import pyace"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode != 0
    assert (trap / "imported").exists(), "the trap does not work"


def positions_of(events: list[dict[str, Any]], task: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, event in enumerate(events):
        if task in event.get("task_ids", ()):
            found.setdefault(event["event"], index)
    return found


def test_the_story_of_one_task_is_told_in_order(healed: Path) -> None:
    events = merged_events(healed)
    halted = [e["task_ids"][0] for e in events if e["event"] == "gamma_exceeded" and e["walker"] == "w00"]
    assert halted, "the collision was not noticed"
    found = positions_of(events, halted[0])
    assert [found[name] for name in TASK_STORY] == sorted(found[name] for name in TASK_STORY)
    assert max(i for i, e in enumerate(events) if e["event"] == "md_completed") > found["swapped"]
    assert not [e for e in events if e.get("late") or e.get("recovered")]


def test_the_run_is_over_and_left_nothing_behind(healed: Path) -> None:
    facts = status(healed)
    assert facts["workflow"]["phase"] == "done"
    assert [w["state"] for w in facts["walkers"]] == ["done", "done"]
    assert facts["queue"]["pending"] == facts["queue"]["running"] == facts["queue"]["failed"] == 0
    assert processes_of(healed) == []


@pytest.mark.usefixtures("python_ace")
def test_every_version_loads_in_python_ace(healed: Path) -> None:
    import pyace

    registry = Registry(healed / "potentials")
    for version in registry.versions():
        folder = registry.path(version)
        assert len(pyace.ACEBBasisSet(str(folder / "potential.yaml")).basis[0]) > 10
        assert pyace.ACECTildeBasisSet(str(folder / "potential.yace")).nelements == 1
        assert json.loads((folder / "manifest.json").read_text())["version"] == version


def test_healed_potential_repeats_the_collision_alone(healed: Path, tmp_path: Path) -> None:
    """At least 5 000 steps, no gamma above the threshold, NVE drift below 1e-3 of the kinetic energy."""
    registry = Registry(healed / "potentials")
    evaluator = make_evaluator(registry.path(registry.versions()[-1]))
    settings = MDSettings(ensemble="nve", timestep_fs=1.0, dimension=2)
    md = LammpsMD(evaluator, settings, log=tmp_path / "lammps.log")
    md.gamma_every = 5
    md.halt_above = float("inf")
    start: Atoms = ase.io.read(healed / "start" / "structure.extxyz")
    md.start(start)
    kinetic, total, gammas = [], [], []
    for _ in range(60):
        outcome = md.run(100)
        thermo = md.thermo()
        kinetic.append(thermo["kinetic_energy"])
        total.append(thermo["potential_energy"] + thermo["kinetic_energy"])
        gammas += [gamma for _, gamma in outcome.checks]
    md.close()
    drift = abs(np.mean(total[-10:]) - np.mean(total[:10])) / np.mean(kinetic)
    print(f"largest gamma {max(gammas):.2f}, drift {drift:.2e} of the kinetic energy over 6000 steps")
    assert max(gammas) <= THRESHOLD
    assert drift < 1e-3


def force_error(registry: Registry, version: str, frames: list[Atoms], truths: list[np.ndarray]) -> float:
    """RMS error of the force on atoms in a contact of 2.9-3.3 A, eV/A."""
    evaluator = make_evaluator(registry.path(version))
    squares = []
    for atoms, truth in zip(frames, truths, strict=True):
        found = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements)).forces
        squares.append(((found - truth)[:2] ** 2).sum(axis=1))
    return float(np.sqrt(np.mean(squares)))


def squeezed(frames: list[Atoms]) -> list[Atoms]:
    """Held-out liquid frames whose closest pair is put at 2.9 to 3.3 A, that pair's atoms first."""
    made = []
    for atoms, distance in zip(frames, np.linspace(2.9, 3.3, len(frames)), strict=True):
        distances = atoms.get_all_distances(mic=True) + 1e9 * np.eye(len(atoms))
        i, j = (int(k) for k in np.unravel_index(int(np.argmin(distances)), distances.shape))
        copy = atoms.copy()
        copy.set_distance(i, j, float(distance), fix=0.5, mic=True)
        others = [k for k in range(len(copy)) if k not in (i, j)]
        made.append(copy[[i, j, *others]])
    return made


def test_the_error_on_close_contacts_fell_at_least_tenfold(healed: Path, tmp_path: Path) -> None:
    frames = squeezed(ase.io.read(healed / "start" / "heldout.extxyz", index=":"))
    labeller = TeacherLabeller(LJ)
    truths = [labeller.label(atoms, tmp_path).forces for atoms in frames]
    registry = Registry(healed / "potentials")
    versions = registry.versions()
    before = force_error(registry, versions[0], frames, truths)
    after = force_error(registry, versions[-1], frames, truths)
    print(f"force error on pairs at 2.9-3.3 A: {versions[0]} {before:.4f}, {versions[-1]} {after:.5f} eV/A")
    assert after < before / 10


def test_labels_are_in_the_database_with_their_origin(healed: Path) -> None:
    from ase.db import connect

    rows = [row for row in connect(healed / "dataset.db").select() if row.config_type == "active_learning"]
    assert rows
    for row in rows:
        assert row.uncertainty_gamma > THRESHOLD
        assert set(np.unique(row.data["force_mask"])) <= {0, 1}
        assert row.data["origin"]["walker"] in ("w00", "w01")

"""Starting an SCF from the density of a close neighbour: the same label in fewer iterations, or no start at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.engines.espresso.inputs import Job, prepare
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.ladder import FIRST, NEAR
from mlip_autopipec.engines.espresso.neighbours import DensityMemory
from mlip_autopipec.engines.espresso.scratch import Scratch
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

SETTINGS = EspressoSettings(pseudopotentials={"Al": "Al.pz-vbc.UPF"}, ecutwfc_ry=12, kspacing=0.9)


def aluminium(moved: float = 0.0) -> Atoms:
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.positions[1] += [0, 0, moved]
    return atoms


def job(atoms: Atoms) -> Job:
    return prepare(atoms, SETTINGS)


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    found = Scratch(tmp_path, "./scratch")
    found.put_density({"charge-density.dat": b"density"})
    return found


def test_only_close_neighbours_of_the_same_cell_and_settings_are_a_start(scratch: Scratch) -> None:
    memory = DensityMemory(4)
    memory.keep(job(aluminium()), SETTINGS, scratch)
    scratch.clear()
    other = aluminium(0.05)
    wrapped = aluminium(0.05)
    wrapped.positions[2] += wrapped.cell[0]
    strained = aluminium()
    strained.set_cell(strained.cell[:] * 1.01, scale_atoms=True)
    tighter = SETTINGS.model_copy(update={"ecutwfc_ry": 14})
    for atoms, settings, expected in (
        (aluminium(0.2), SETTINGS, False), (strained, SETTINGS, False), (other, tighter, False),
        (aluminium()[[1, 0, 2, 3]], SETTINGS, False), (other, SETTINGS, True), (wrapped, SETTINGS, True),
    ):  # fmt: skip
        assert memory.lay(job(atoms), settings, scratch) is expected
        scratch.clear()


def test_memory_is_bounded_by_number_and_size(scratch: Scratch) -> None:
    jobs = [job(bulk("Al", a=4.0 + 0.1 * n)) for n in range(4)]
    for memory, left in ((DensityMemory(2), 2), (DensityMemory(9, limit=21), 3), (DensityMemory(9, limit=6), 0)):
        for each in jobs:
            scratch.put_density({"charge-density.dat": b"density"})
            memory.keep(each, SETTINGS, scratch)
        scratch.clear()
        found = []
        for each in jobs:
            found.append(memory.lay(each, SETTINGS, scratch))
            scratch.clear()
        assert found == [False] * (4 - left) + [True] * left


def test_spin_and_free_atoms_start_from_atoms() -> None:
    plain = job(aluminium())
    assert DensityMemory(1).takes(plain, 1)
    assert not DensityMemory(1).takes(plain, 2)
    assert not DensityMemory(0).takes(plain, 1)
    assert not DensityMemory(1).takes(Job(plain.atoms, None, magnetization=0.5), 1)


def test_a_neighbours_density_saves_iterations_and_changes_nothing(pw_x: str, tmp_path: Path) -> None:
    remembering = EspressoLabeller(SETTINGS, EspressoNode(remembered_densities=2))
    parent, near = aluminium(), aluminium(0.02)
    assert remembering.label(parent, tmp_path).info["rungs"][0]["rung"] == FIRST
    from_neighbour = remembering.label(near, tmp_path)
    from_atoms = EspressoLabeller(SETTINGS).label(near, tmp_path)
    assert from_neighbour.info["rungs"][0]["rung"] == NEAR
    assert len(from_neighbour.info["rungs"]) == 1
    assert from_neighbour.info["scf_iterations"] < from_atoms.info["scf_iterations"]
    assert from_neighbour.energy == pytest.approx(from_atoms.energy, abs=1e-6)
    np.testing.assert_allclose(from_neighbour.forces, from_atoms.forces, atol=1e-3)


def test_a_torn_density_of_a_neighbour_costs_only_a_run(pw_x: str, tmp_path: Path) -> None:
    remembering = EspressoLabeller(SETTINGS, EspressoNode(remembered_densities=2))
    torn = Scratch(tmp_path / "torn", "")
    torn.path.mkdir()
    torn.put_density({"charge-density.dat": b"torn"})
    remembering._memory.keep(job(aluminium()), SETTINGS, torn)
    label = remembering.label(aluminium(), tmp_path)
    assert [(run["rung"], run["end"]) for run in label.info["rungs"]] == [
        (NEAR, "lost density"), ("start anew", "converged"),
    ]  # fmt: skip

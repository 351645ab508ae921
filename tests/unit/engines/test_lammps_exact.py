"""Must show: halt + swap of an identical potential + resume is the uninterrupted run, after 1 000 further steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.stats import ks_2samp

from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from small_potentials import LennardJones, fit_emt

FURTHER = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return fit_emt(tmp_path_factory.mktemp("al"), ("Al",))


def crystal() -> Atoms:
    """A solid that is warm enough to move, and cool enough not to multiply rounding errors without end."""
    atoms = bulk("Al", a=4.0, cubic=True).repeat(2)
    atoms.positions += np.random.default_rng(2).normal(scale=0.03, size=atoms.positions.shape)
    return atoms


SETTINGS = {
    "nve": MDSettings(ensemble="nve", temperature_k=60, timestep_fs=1),
    "nvt": MDSettings(ensemble="nvt", temperature_k=60, timestep_fs=1, thermostat_damping_fs=100),
    "npt iso": MDSettings(ensemble="npt", temperature_k=60, timestep_fs=1, pressure_bar=500),
    "npt aniso": MDSettings(ensemble="npt", temperature_k=60, timestep_fs=1, pressure_coupling="aniso"),
    "npt tri": MDSettings(ensemble="npt", temperature_k=60, timestep_fs=1, pressure_coupling="tri"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_halt_swap_and_resume_are_the_uninterrupted_run(folder, tmp_path, name) -> None:
    settings = SETTINGS[name]
    with LammpsMD(make_evaluator(folder), settings) as md:
        md.gamma_every = 10
        md.start(crystal())
        looks = dict(md.run(60).checks)
        md.run(FURTHER)
        uninterrupted = md.frame()

    with LammpsMD(make_evaluator(folder), settings) as md:
        md.gamma_every = 10
        md.start(crystal())
        md.run(30)
        (tmp_path / "safe").write_bytes(md.snapshot())
        md.halt_above = min(looks[step] for step in (40, 50, 60)) - 1e-9
        outcome = md.run(500)
        assert outcome.halted
        halted_at = outcome.step
        assert 30 <= halted_at <= 60

    # Another process, as the walker after its wait: the safe snapshot, the new version, and on.
    with LammpsMD(make_evaluator(folder), settings) as md:
        md.gamma_every = 10
        md.restore(tmp_path / "safe")
        md.swap(make_evaluator(folder))
        md.run(60 - 30)
        md.run(FURTHER)
        resumed = md.frame()
    assert resumed.info["step"] == uninterrupted.info["step"] == 60 + FURTHER
    scaled = resumed.get_scaled_positions(wrap=False) - uninterrupted.get_scaled_positions(wrap=False)
    assert np.abs((scaled - np.round(scaled)) @ resumed.cell.array).max() < 1e-9
    assert np.abs(resumed.get_velocities() - uninterrupted.get_velocities()).max() < 1e-9
    assert np.abs(resumed.cell.array - uninterrupted.cell.array).max() < 1e-9
    moved = np.linalg.norm(uninterrupted.positions - crystal().positions, axis=1)
    assert moved.max() > 0.05


@pytest.mark.parametrize("name", ["nve", "nvt", "npt iso"])
def test_swapping_without_a_restore_is_the_uninterrupted_run(folder, name) -> None:
    frames = []
    for swapped in (False, True):
        with LammpsMD(make_evaluator(folder), SETTINGS[name]) as md:
            md.gamma_every = 10
            md.start(crystal())
            md.run(40)
            if swapped:
                md.swap(make_evaluator(folder))
            md.run(FURTHER)
            frames.append(md.frame())
    assert np.abs(frames[0].get_velocities() - frames[1].get_velocities()).max() < 1e-9
    scaled = frames[0].get_scaled_positions(wrap=False) - frames[1].get_scaled_positions(wrap=False)
    assert np.abs((scaled - np.round(scaled)) @ frames[0].cell.array).max() < 1e-9


def test_langevin_agrees_in_distribution(tmp_path) -> None:
    """Many swaps and resumes against none: velocities (Maxwell at 80 K) and potential energies."""
    settings = MDSettings(ensemble="langevin", temperature_k=80, timestep_fs=4, thermostat_damping_fs=60)
    atoms = bulk("Ar", a=5.3, cubic=True).repeat(2)
    velocities, energies = {}, {}
    for kind in ("uninterrupted", "resumed"):
        with LammpsMD(LennardJones(cutoff=6.0), settings) as md:
            md.gamma_every = 100
            md.start(atoms, velocity_seed=11 if kind == "resumed" else 12)
            md.run(300)
            found, told = [], []
            for number in range(120):
                if kind == "resumed":
                    (tmp_path / f"{number % 2}").write_bytes(md.snapshot())
                    md.restore(tmp_path / f"{number % 2}")
                    md.swap(LennardJones(cutoff=6.0))
                told.append(md.run(30).potential_energy)
                found.append(md.frame().get_velocities().ravel())
            velocities[kind], energies[kind] = np.array(found), np.array(told)
    for kind, found in velocities.items():
        temperature = 39.948 * (found**2).mean() / 8.617333262e-5 * 32 / 31  # u A^2 / (ASE's time)^2 = eV
        assert temperature == pytest.approx(80, rel=0.05), kind
    # 30 steps of 4 fs with 60 fs damping: thinned draws are independent enough for the test.
    assert ks_2samp(velocities["uninterrupted"][::4].ravel(), velocities["resumed"][::4].ravel()).pvalue > 1e-3
    spread = np.hypot(*(np.std(e) / np.sqrt(len(e) / 4) for e in energies.values()))
    assert abs(energies["uninterrupted"].mean() - energies["resumed"].mean()) < 4 * spread

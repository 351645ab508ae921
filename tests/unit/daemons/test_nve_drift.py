"""The potential of the quickstart conserves energy: 20 ps of NVE in LAMMPS with our own engine."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.cli.examples import write_example
from mlip_autopipec.config import load
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.store.rundir import RunDirectory


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """What the quickstart makes its first version of, fitted as it does."""
    run = RunDirectory(tmp_path / "run")
    run.create()
    write_example(run, "al")
    config = load(run)
    settings = config.labeller_settings()
    labeller = make_labeller(settings, config.node)
    frames = ase.io.read(run.start / "dataset.extxyz", ":")
    for atoms in frames:
        label = labeller.label(atoms, tmp_path)
        atoms.calc = SinglePointCalculator(atoms, energy=label.energy, forces=label.forces)
    intake = Intake(run, settings, force_limit=config.training.force_limit)
    intake.load()
    intake.take_frames(frames)
    fitter = Fitter(FitJob(run.root, config.training, settings, config.node, ("Al",)))
    return fitter(FitRequest(tuple(sorted(intake.labels)))).folder


def test_nve_keeps_its_energy(version: Path, record_property) -> None:
    atoms = bulk("Al", "fcc", a=4.02, cubic=True).repeat(3)
    settings = MDSettings(ensemble="nve", temperature_k=1200, timestep_fs=1.0)  # half of it becomes potential energy
    totals, temperatures = [], []
    with LammpsMD(make_evaluator(version), settings) as md:
        md.gamma_every = 1000
        md.start(atoms)
        for _ in range(200):
            md.run(100)
            now = md.thermo()
            totals.append((now["potential_energy"] + now["kinetic_energy"]) / len(atoms))
            temperatures.append(now["temperature"])
    drift = np.polyfit(np.linspace(0, 1, len(totals)), totals, 1)[0]
    record_property("nve_drift_eV_per_atom_in_20_ps", float(drift))
    print(f"drift {drift:.2e} eV/atom in 20 ps, spread {np.std(totals):.2e}, {np.mean(temperatures):.0f} K")
    assert 500 < np.mean(temperatures) < 700
    assert abs(drift) < 1e-5

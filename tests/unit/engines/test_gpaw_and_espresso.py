"""Two programs, two kinds of pseudopotentials, one physics: silicon with PBE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.interfaces import Labeller
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.settings import EspressoSettings
from mlip_autopipec.engines.gpaw.labeller import GpawLabeller
from mlip_autopipec.engines.gpaw.settings import GpawSettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("gpaw", "pw_x")]

WIDTH_RY = 0.007


def engines(kspacing: float) -> dict[str, Labeller]:
    """Both with PBE, the same k-points and the same smearing."""
    espresso = EspressoSettings(elements=["Si"], functional="PBE", kspacing=kspacing, degauss_ry=WIDTH_RY)
    gpaw = GpawSettings(functional="PBE", ecut_ev=350, kspacing=kspacing, width_ev=WIDTH_RY * 13.605693)
    return {"espresso": EspressoLabeller(espresso), "gpaw": GpawLabeller(gpaw)}


def lattice_constant(labeller: Labeller, folder: Path) -> float:
    """Return a, A, where the parabola through the energies has its bottom."""
    edges = np.linspace(5.38, 5.58, 5)
    energies = [labeller.label(bulk("Si", a=a), folder).energy for a in edges]
    curvature, slope, _ = np.polyfit(edges, energies, 2)
    return float(-slope / (2 * curvature))


def rattled() -> Atoms:
    atoms = bulk("Si", cubic=True, a=5.47)
    atoms.rattle(0.15, seed=6)
    return atoms


def test_lattice_constants_agree(tmp_path: Path) -> None:
    found = {name: lattice_constant(engine, tmp_path) for name, engine in engines(0.35).items()}
    print("\nlattice constant of Si with PBE, A:", found)
    assert found["gpaw"] == pytest.approx(found["espresso"], rel=0.01)
    # The all-electron value of PBE: 5.47 A (doi:10.1103/PhysRevB.79.085104).
    assert found["gpaw"] == pytest.approx(5.47, rel=0.01)


def test_forces_agree(tmp_path: Path) -> None:
    labels = {name: engine.label(rattled(), tmp_path) for name, engine in engines(0.6).items()}
    forces = {name: label.forces for name, label in labels.items()}
    size = np.sqrt(np.mean(forces["espresso"] ** 2))
    deviation = np.sqrt(np.mean((forces["gpaw"] - forces["espresso"]) ** 2))
    pressures = {name: label.stress[:3].mean() for name, label in labels.items() if label.stress is not None}
    print(f"\nforces of rattled Si8: RMS {size:.3f} eV/A, RMS deviation {deviation:.4f} eV/A, pressures {pressures}")
    assert size > 0.5
    assert deviation < 0.05 * size

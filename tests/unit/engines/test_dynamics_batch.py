"""Trajectories that are moved together: each as ASE moves it alone, its ensemble, its checkpoint, its end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.engines.dynamics.batch import LangevinBatch
from mlip_autopipec.engines.dynamics.checkpoint import Checkpoint
from mlip_autopipec.engines.dynamics.langevin import BAR, LangevinRun
from mlip_autopipec.engines.dynamics.phase import Ensembles, Phase
from mlip_autopipec.engines.dynamics.track import FRAMES, Conditions, Ended, Track


class EmtBatch:
    """A `BatchForces` that computes one structure after the other; ends its process' work after so many steps."""

    def __init__(self, calls: int = 1_000_000) -> None:
        self.calls = calls
        self.sizes: list[int] = []

    def check_elements(self, symbols: Collection[str]) -> None:
        pass

    def begin(self, structures: Sequence[Atoms]) -> None:
        self.structures = [atoms.copy() for atoms in structures]
        self.sizes.append(len(structures))

    def compute(
        self, positions: FloatArray, cells: FloatArray, *, stress: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        energies, forces, stresses, first = [], [], np.zeros((len(cells), 3, 3)), 0
        for k, atoms in enumerate(self.structures):
            moved = Atoms(atoms.numbers, positions=positions[first : first + len(atoms)], cell=cells[k], pbc=atoms.pbc)
            first += len(atoms)
            moved.calc = EMT()
            energies.append(moved.get_potential_energy())
            forces.append(moved.get_forces())
            if stress and atoms.pbc.all():
                stresses[k] = moved.get_stress(voigt=False)
        return np.array(energies), np.concatenate(forces), stresses


def conditions(**changes: Any) -> Conditions:
    values: dict[str, Any] = {
        "temperature": 500.0, "pressure_bar": None, "steps": 40, "stride": 5, "timestep_fs": 2.0, "seed": 4
    }  # fmt: skip
    return Conditions(**{**values, **changes})


def cases() -> dict[str, tuple[Atoms, Conditions]]:
    """Trajectories that differ in all that they may differ in."""
    copper = bulk("Cu", a=3.61, cubic=True)
    slab = fcc111("Al", (2, 2, 3), vacuum=6.0)
    slab.pbc = (True, True, False)
    vacancy = bulk("Al", a=4.05, cubic=True) * (2, 1, 1)
    del vacancy[3]
    return {
        "cold": (copper, conditions(temperature=100.0)),
        "pressed": (copper, conditions(pressure_bar=50_000.0, seed=7)),
        "slab": (slab, conditions(temperature=300.0, timestep_fs=3.0, seed=9)),
        "vacancy": (vacancy, conditions(pressure_bar=0.0, stride=4, steps=30, seed=11)),
    }


def tracks(root: Path, names: Sequence[str], **options: Any) -> list[Track]:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
    return [Track(*cases()[name], root / name, **{"checkpoint_s": 0.0, **options}) for name in names]


def assert_same(one: Path, other: Path) -> None:
    for a, b in zip(*(ase.io.read(folder / FRAMES, ":") for folder in (one, other)), strict=True):
        assert a.info["step"] == b.info["step"]
        assert np.allclose(a.positions, b.positions, rtol=0, atol=3e-8)
    a, b = Checkpoint.read(one), Checkpoint.read(other)
    assert a is not None
    assert b is not None
    assert a.rng == b.rng
    for name in ("positions", "momenta", "cell", "barostat", "volume"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=1e-9), name
    if a.cell_force is None or b.cell_force is None:
        assert a.cell_force is b.cell_force
    else:
        assert a.cell_force == pytest.approx(b.cell_force, abs=1e-8)


def test_each_moves_as_ase_moves_it_alone(tmp_path: Path) -> None:
    names = list(cases())
    alone = [LangevinRun(track, EMT()).run() for track in tracks(tmp_path / "alone", names)]
    assert LangevinBatch(tracks(tmp_path / "batch", names), EmtBatch()).run() == alone
    assert [ended.step for ended in alone] == [40, 40, 40, 30]
    for name in names:
        assert_same(tmp_path / "alone" / name, tmp_path / "batch" / name)


def test_mates_change_nothing(tmp_path: Path) -> None:
    """To the last bit: what is computed of one does not depend on the others."""
    LangevinBatch(tracks(tmp_path / "one", ["pressed"]), EmtBatch()).run()
    LangevinBatch(tracks(tmp_path / "all", list(cases())), EmtBatch()).run()
    one, other = (tmp_path / kind / "pressed" / FRAMES for kind in ("one", "all"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("before", ["batch", "alone"])
def test_what_was_cut_off_goes_on_wherever_it_is_taken_up(tmp_path: Path, before: str) -> None:
    """In a batch or by ASE, whatever moved it before: a node with a GPU may go on where one without stopped."""
    names = list(cases())
    LangevinBatch(tracks(tmp_path / "whole", names), EmtBatch()).run()
    if before == "batch":
        with pytest.raises(KeyboardInterrupt):
            LangevinBatch(tracks(tmp_path / "cut", names), EmtBatch(23)).run()
    else:
        shorter = {name: Conditions(**{**vars(given), "steps": 20}) for name, (_, given) in cases().items()}
        for name, track in zip(names, tracks(tmp_path / "cut", names), strict=True):
            track.conditions = shorter[name]
            LangevinRun(track, EMT()).run()
    saved = [Checkpoint.read(tmp_path / "cut" / name) for name in names]
    assert [0 if found is None else found.step for found in saved] == [20, 20, 20, 20]
    first, *rest = tracks(tmp_path / "cut", names)
    LangevinRun(first, EMT()).run()
    LangevinBatch(rest, EmtBatch()).run()
    for name in names:
        assert_same(tmp_path / "whole" / name, tmp_path / "cut" / name)


def test_what_blows_up_leaves_the_others_alone(tmp_path: Path) -> None:
    forces, mates = EmtBatch(), tracks(tmp_path, ["cold", "pressed"])
    (tmp_path / "hot").mkdir()
    hot = Track(bulk("Cu", cubic=True), conditions(timestep_fs=40.0, temperature=9000.0), tmp_path / "hot")
    ended = LangevinBatch([mates[0], hot, mates[1]], forces).run()
    assert [isinstance(end, Ended) and end.complaint == "" for end in ended] == [True, False, True]
    assert isinstance(ended[1], Ended)
    assert ended[1].step < 40
    assert forces.sizes == [3, 3, 2]
    LangevinBatch(tracks(tmp_path / "without", ["cold", "pressed"]), EmtBatch()).run()
    for name in ("cold", "pressed"):
        assert_same(tmp_path / name, tmp_path / "without" / name)


def test_a_start_that_is_no_physics_is_refused_alone(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.positions[1] = atoms.positions[0] + [0.2, 0.0, 0.0]
    (tmp_path / "bad").mkdir()
    ended = LangevinBatch([Track(atoms, conditions(), tmp_path / "bad"), *tracks(tmp_path, ["cold"])], EmtBatch()).run()
    assert isinstance(ended[0], DataError)
    assert "at the start" in str(ended[0])
    assert ended[1] == Ended(40, 8, "")
    assert LangevinBatch([], EmtBatch()).run() == []


def oscillators(temperatures: FloatArray, atoms: int) -> tuple[Phase, FloatArray]:
    """Return independent structures of atoms on springs of 2 eV/A^2, and the spring constant."""
    rng, n = np.random.default_rng(5), len(temperatures)
    kt, masses = temperatures * units.kB, np.full((n * atoms, 1), 40.0)
    ensembles = Ensembles(
        np.full(n, atoms), masses, np.full(n, 8.0 * units.fs), kt, np.full(n, np.nan)
    )  # fmt: skip
    own = np.repeat(kt, atoms)[:, None]
    positions = rng.normal(size=(n * atoms, 3)) * np.sqrt(own / 2.0)
    momenta = np.zeros_like(positions)
    cells = np.tile(100.0 * np.eye(3), (n, 1, 1))
    return Phase(ensembles, positions, momenta, cells, -2.0 * positions, np.zeros(n), np.zeros(n)), kt


def test_each_structure_has_the_temperature_that_is_asked_for_in_distribution() -> None:
    """Kinetic energies and squares of positions follow the gamma distribution of 3 N degrees of freedom."""
    n, atoms = 60, 10
    phase, kt = oscillators(np.repeat([100.0, 500.0, 2000.0], n // 3), atoms)
    rngs = [np.random.default_rng(k) for k in range(n)]
    kinetic, springs, stress = [], [], np.zeros((n, 3, 3))
    for step in range(900):
        phase.move(rngs)
        phase.accept(-2.0 * phase.positions, stress)
        if step >= 100 and step % 20 == 0:
            kinetic.append((phase.momenta**2 / 40.0).reshape(n, -1).sum(axis=1) / kt)
            springs.append((2.0 * phase.positions**2).reshape(n, -1).sum(axis=1) / kt)
    freedom = 3 * atoms
    for found in (np.array(kinetic), np.array(springs)):
        for group in np.split(found, 3, axis=1):
            # A mean of 30 with a standard deviation of sqrt(60), some 500 independent looks.
            assert group.mean() == pytest.approx(freedom, rel=0.05)
            assert group.var() == pytest.approx(2 * freedom, rel=0.25)


def test_volumes_of_ideal_gases_follow_their_law() -> None:
    """Without forces, p(V) is V^N exp(-P V / kT): mean (N + 1) kT / P, variance (N + 1) (kT / P)^2."""
    n, atoms, kt, pressure = 250, 8, 300.0 * units.kB, 100.0 * BAR
    mean = (atoms + 1) * kt / pressure
    rng, masses = np.random.default_rng(6), np.full((n * atoms, 1), 40.0)
    ensembles = Ensembles(
        np.full(n, atoms), masses, np.full(n, 20.0 * units.fs), np.full(n, kt), np.full(n, pressure)
    )  # fmt: skip
    cells = np.tile(mean ** (1 / 3) * np.eye(3), (n, 1, 1))
    momenta = rng.normal(size=(n * atoms, 3)) * np.sqrt(masses * kt)
    nothing, none = np.zeros((n * atoms, 3)), np.zeros((n, 3, 3))
    phase = Phase(ensembles, nothing.copy(), momenta, cells, nothing, np.zeros(n), np.zeros(n))
    phase.cell_force = phase.cell_forces(none)
    rngs, volumes = [np.random.default_rng(k) for k in range(n)], []
    for step in range(1500):
        phase.move(rngs)
        phase.accept(nothing, none)
        if step >= 700 and step % 50 == 0:
            volumes.append(np.linalg.det(phase.cells))
    found = np.array(volumes) / (kt / pressure)
    # Nine, not the eight of a barostat that forgets the volume of phase space.
    assert found.mean() == pytest.approx(atoms + 1, rel=0.04)
    assert found.var() == pytest.approx(atoms + 1, rel=0.2)

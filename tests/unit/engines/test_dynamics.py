"""Langevin MD for exploration: its ensembles, its checkpoints, and what stops it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.engines.dynamics.checkpoint import NAME, Checkpoint
from mlip_autopipec.engines.dynamics.langevin import LangevinRun
from mlip_autopipec.engines.dynamics.track import FRAMES, Conditions, Track

K = 2.0


class Springs(Calculator):
    """Every atom on a spring of its own, and the cell on one: temperature and volume have known means."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, places: np.ndarray, cell: np.ndarray) -> None:
        super().__init__()
        self.places = np.linalg.solve(cell.T, places.T).T

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        vectors = atoms.positions - self.places @ atoms.cell.array
        self.results = {"energy": 0.5 * K * (vectors**2).sum(), "forces": -K * vectors, "stress": np.zeros(6)}


class Limited(EMT):
    """EMT that ends its process' work after so many computations, as a kill would."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)


def conditions(**changes: Any) -> Conditions:
    values: dict[str, Any] = {
        "temperature": 500.0, "pressure_bar": None, "steps": 40, "stride": 5, "timestep_fs": 2.0, "seed": 4
    }  # fmt: skip
    return Conditions(**{**values, **changes})


def copper() -> Atoms:
    return bulk("Cu", a=3.61, cubic=True)


def test_the_thermostat_keeps_the_temperature(tmp_path: Path) -> None:
    atoms = Atoms("Ar27", positions=10.0 * np.indices((3, 3, 3)).reshape(3, -1).T, cell=[30.0] * 3, pbc=True)
    found: list[float] = []
    given = conditions(steps=1500, timestep_fs=8.0)
    track = Track(atoms, given, tmp_path, told=lambda step: found.append(track.atoms.get_temperature()))
    assert LangevinRun(track, Springs(atoms.positions, atoms.cell.array)).run().complaint == ""
    # 81 degrees of freedom, some hundred independent looks: 500 K within 1.6 % (one sigma).
    assert np.mean(found[50:]) == pytest.approx(500.0, rel=0.06)


def test_pressure_makes_a_crystal_smaller_and_bears_its_sign(tmp_path: Path) -> None:
    volumes = {}
    for pressure in (-20_000.0, 60_000.0):
        folder = tmp_path / str(pressure)
        folder.mkdir()
        given = conditions(pressure_bar=pressure, temperature=100.0, steps=250, stride=50, timestep_fs=3.0)
        assert LangevinRun(Track(copper(), given, folder), EMT()).run().complaint == ""
        volumes[pressure] = ase.io.read(folder / FRAMES, -1).get_volume() / copper().get_volume()
    assert 0.85 < volumes[60_000.0] < 0.98 < 1.0 < volumes[-20_000.0] < 1.1


@pytest.mark.parametrize("pressure", [None, 1000.0])
def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path, pressure: float | None) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    given = conditions(pressure_bar=pressure)
    ended = LangevinRun(Track(copper(), given, whole, checkpoint_s=0.0), EMT()).run()
    with pytest.raises(KeyboardInterrupt):
        LangevinRun(Track(copper(), given, cut, checkpoint_s=0.0), Limited(33)).run()
    saved = Checkpoint.read(cut)
    assert saved is not None
    assert 0 < saved.step < 40
    with (cut / FRAMES).open("a") as frames:
        frames.write("4\nhalf a fra")
    assert LangevinRun(Track(copper(), given, cut, checkpoint_s=0.0), EMT()).run() == ended
    for one, other in zip(*(ase.io.read(folder / FRAMES, ":") for folder in (whole, cut)), strict=True):
        assert one.info["step"] == other.info["step"]
        # EMT's neighbour list is made anew: the last digits differ.
        assert np.allclose(one.cell, other.cell, atol=1e-9)
        assert np.allclose(one.positions, other.positions, atol=3e-8)
    assert (ended.step, ended.frames, ended.complaint) == (40, 8, "")
    last, again = Checkpoint.read(whole), Checkpoint.read(cut)
    assert last is not None
    assert again is not None
    for name in ("positions", "momenta", "cell", "barostat"):
        assert np.allclose(getattr(last, name), getattr(again, name), rtol=0, atol=1e-10), name


def test_what_blows_up_is_stopped_and_its_frames_before_are_kept(tmp_path: Path) -> None:
    hot = conditions(timestep_fs=40.0, temperature=3000.0, steps=4000)
    ended = LangevinRun(Track(copper(), hot, tmp_path), EMT()).run()
    assert ended.step < 4000
    assert ended.complaint
    kept = ase.io.read(tmp_path / FRAMES, ":") if ended.frames else []
    assert len(kept) == ended.frames
    assert all(np.isfinite(atoms.positions).all() for atoms in kept)


def test_a_start_that_is_no_physics_is_refused(tmp_path: Path) -> None:
    atoms = copper()
    atoms.positions[1] = atoms.positions[0] + [0.2, 0.0, 0.0]
    with pytest.raises(DataError, match="at the start"):
        LangevinRun(Track(atoms, conditions(), tmp_path), EMT()).run()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    LangevinRun(Track(copper(), conditions(), tmp_path, checkpoint_s=0.0), EMT()).run()
    shutil.copy(tmp_path / FRAMES, tmp_path / NAME)
    with pytest.raises(DataError, match=NAME):
        Track(copper(), conditions(), tmp_path)

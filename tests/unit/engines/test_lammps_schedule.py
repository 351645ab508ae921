"""Schedules: set-points as a function of the step, and MD that follows them through chunks, snapshots and swaps."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.schedule import Course, Schedule, SetPoints, deform_command
from mlip_autopipec.engines.lammps.settings import MDSettings
from small_potentials import LennardJones

START = SetPoints(300.0, 0.0)


def schedule(*segments: dict, cycles: int = 1) -> Schedule:
    return Schedule.model_validate({"segments": list(segments), "cycles": cycles})


def argon() -> Atoms:
    atoms = bulk("Ar", a=5.3, cubic=True).repeat(2)
    atoms.positions += np.random.default_rng(1).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def settings(**options) -> MDSettings:
    return MDSettings(
        **{"ensemble": "nvt", "temperature_k": 50, "timestep_fs": 2, "thermostat_damping_fs": 50} | options
    )


def walk(chunks: list[int], md_settings: MDSettings, *, save_after: int | None = None, path=None) -> Atoms:
    with LammpsMD(LennardJones(cutoff=6.0), md_settings) as md:
        md.start(argon())
        for number, steps in enumerate(chunks):
            md.run(steps)
            if number == save_after:
                path.write_bytes(md.snapshot())
        return md.frame()


def different(one: Atoms, two: Atoms) -> float:
    cell = np.abs(one.cell.array - two.cell.array).max()
    fractions = one.get_scaled_positions(wrap=False) - two.get_scaled_positions(wrap=False)
    apart = np.abs((fractions - np.round(fractions)) @ one.cell.array).max()
    return max(cell, apart, np.abs(one.get_velocities() - two.get_velocities()).max())


# --- set-points ---------------------------------------------------------------------------------------------------


def test_without_a_schedule_everything_stays() -> None:
    course = Course(None, START)
    assert [course.at(step) for step in (0, 7, 10**9)] == [START] * 3
    assert course.leg(5).window == ""


def test_ramps_hold_and_what_is_left_out_stays() -> None:
    given = schedule(
        {"steps": 100, "temperature": [300, 500]},
        {"steps": 50, "pressure": [0, 1000]},
        {"steps": 10, "temperature": 100},
    )
    course = Course(given, START)
    found = [(course.at(s).temperature, course.at(s).pressure) for s in (0, 50, 100, 125, 150, 159, 160, 10_000)]
    assert found == [(300, 0), (400, 0), (500, 0), (500, 500), (100, 1000), (100, 1000), (100, 1000), (100, 1000)]
    assert given.steps == 160


def test_cycles_go_on_from_where_the_last_one_ended() -> None:
    given = schedule(
        {"steps": 10, "strain": {"zz": 0.1}}, {"steps": 10, "temperature": [1000, 200]},
        {"steps": 10, "strain": {"zz": 0.0}}, cycles=2,
    )  # fmt: skip
    course = Course(given, START)
    assert [course.at(s).temperature for s in (0, 9, 10, 20, 35)] == [300, 300, 1000, 200, 200]
    assert [course.at(s).strain[2] for s in (5, 10, 19, 25, 30, 35, 60)] == pytest.approx(
        [0.05, 0.1, 0.1, 0.05, 0.0, 0.05, 0.0]
    )


def test_strain_becomes_targets_of_the_box() -> None:
    cell = np.array([[4.0, 0, 0], [1.0, 5.0, 0], [0, 0, 6.0]])
    leg = Course(schedule({"steps": 10, "strain": {"xx": 0.5, "xy": 0.2}}), START).leg(3)
    assert leg.window == " start 0 stop 10"
    # b = (1, 5, 0) becomes (1 * 1.5 + 5 * 0.2, 5, 0)
    assert deform_command(leg, cell, (-1.0, 0.0, 0.0), 3) == (
        "fix strain0 all deform 1 x final -1.0 5.0 xy final 2.5 remap x units box flip no"
    )
    assert deform_command(Course(None, START).leg(0), cell, (0.0, 0.0, 0.0), 3) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "nve", "schedule": schedule({"steps": 1, "temperature": 300})}, "nve has no thermostat"),
        ({"schedule": schedule({"steps": 1, "temperature": [300, 0]})}, "too cold"),
        ({"schedule": schedule({"steps": 1, "pressure": 3})}, "nvt has no barostat"),
        ({"ensemble": "npt", "schedule": schedule({"steps": 1, "strain": {"xx": 0.1}})}, "pressure_coupling aniso"),
        ({"dimension": 2, "schedule": schedule({"steps": 1, "strain": {"xz": 0.1}})}, "no z"),
        ({"density_bounds": (3, 2)}, "density_bounds"),
        ({"density_bounds": (2, 3), "dimension": 2}, "two-dimensional"),
        ({"ensemble": "nve", "monte_carlo": {"swaps": 1}}, "needs a temperature"),
    ],
)
def test_what_does_not_fit_is_refused(options, message) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**options)
    all_axes = schedule({"steps": 1, "strain": {"xx": 0.1, "yy": 0.1, "zz": 0.1}})
    with pytest.raises(ValidationError, match="nothing is left"):
        settings(ensemble="npt", pressure_coupling="aniso", schedule=all_axes)


@pytest.mark.parametrize(
    "bad", [{"temperature": True}, {"temperature": [1, 2, 3]}, {"strain": {"zz": 10}}, {"step": 3}]
)
def test_a_bad_segment_is_refused(bad) -> None:
    with pytest.raises(ValidationError):
        schedule({"steps": 5} | bad)


def test_strain_needs_the_axes_of_lammps() -> None:
    turned = argon()
    turned.rotate(30, "z", rotate_cell=True)
    strained = settings(schedule=schedule({"steps": 10, "strain": {"xx": 0.01}}))
    with LammpsMD(LennardJones(cutoff=6.0), strained) as md, pytest.raises(ConfigError, match="a along x"):
        md.start(turned)
    slab = argon()
    slab.pbc = [False, True, True]
    with LammpsMD(LennardJones(cutoff=6.0), strained) as md, pytest.raises(ConfigError, match="strain xx"):
        md.start(slab)


# --- MD that follows ----------------------------------------------------------------------------------------------

QUENCH = schedule(
    {"steps": 40, "temperature": [50, 120]}, {"steps": 25, "temperature": 120}, {"steps": 35, "temperature": [120, 30]}
)
PULL = schedule({"steps": 30}, {"steps": 40, "strain": {"zz": 0.05, "xy": 0.03}}, {"steps": 20, "temperature": 80})
SQUEEZE = schedule({"steps": 50, "pressure": [0, 3000]}, {"steps": 40, "strain": {"zz": -0.04}})
CASES = {
    "nvt": settings(schedule=QUENCH),
    "nvt, strained": settings(schedule=PULL),
    "npt, strained": settings(ensemble="npt", pressure_coupling="aniso", schedule=SQUEEZE, barostat_damping_fs=500),
    "npt, tri": settings(ensemble="npt", pressure_coupling="tri", schedule=QUENCH, barostat_damping_fs=500),
    "langevin": settings(ensemble="langevin", schedule=QUENCH),
}


@pytest.mark.parametrize("name", CASES)
def test_chunks_are_bit_identical_to_one_run(name) -> None:
    assert different(walk([110], CASES[name]), walk([1, 39, 7, 18, 30, 15], CASES[name])) == 0.0


@pytest.mark.parametrize("name", [name for name in CASES if name != "langevin"])
@pytest.mark.parametrize("chunks", [[20, 90], [33, 77], [40, 70], [50, 60]])
def test_a_resumed_walker_follows_the_same_schedule(name, chunks, tmp_path) -> None:
    """Amid a leg and at its borders; beside it the run that was saved at the same step, and was never killed."""
    saved = walk(chunks, CASES[name], save_after=0, path=tmp_path / "state")
    with LammpsMD(LennardJones(cutoff=6.0), CASES[name]) as other:
        other.restore(tmp_path / "state")
        other.swap(LennardJones(cutoff=6.0))
        other.run(chunks[1])
        assert different(saved, other.frame()) < 1e-9
    # Elsewhere a set-up amid a leg leaves a trace: LAMMPS asks for forces after the cell was strained, not before,
    # and gives the barostat the mass that belongs to the temperature of the moment. Walkers save at fixed steps.
    if name == "nvt":
        assert different(saved, walk([110], CASES[name])) < 1e-9


def test_the_cell_has_the_strain_that_was_asked_for() -> None:
    with LammpsMD(LennardJones(cutoff=6.0), CASES["nvt, strained"]) as md:
        start = argon()
        md.start(start)
        for steps in (30, 17, 23, 20):
            md.run(steps)
            expected = start.cell.array @ md.set_points().deformation()
            assert np.abs(md.frame().cell.array - expected).max() < 1e-12
        assert md.frame().cell[2, 2] == pytest.approx(1.05 * start.cell[2, 2])


def test_the_barostat_leaves_strained_axes_alone() -> None:
    with LammpsMD(LennardJones(cutoff=6.0), CASES["npt, strained"]) as md:
        start = argon()
        md.start(start)
        md.run(50)
        squeezed = md.frame().cell.array
        assert squeezed[2, 2] == pytest.approx(start.cell[2, 2], abs=1e-13)
        assert abs(squeezed[0, 0] - start.cell[0, 0]) > 1e-4
        md.run(40)
        assert md.frame().cell[2, 2] == pytest.approx(0.96 * start.cell[2, 2], abs=1e-12)


@pytest.mark.parametrize("ensemble", ["nvt", "langevin"])
def test_the_temperature_follows_a_ramp(ensemble) -> None:
    ramp = schedule({"steps": 3000, "temperature": 40}, {"steps": 3000, "temperature": [40, 120]})
    hot = settings(ensemble=ensemble, timestep_fs=4, schedule=ramp, thermostat_damping_fs=100)
    with LammpsMD(LennardJones(cutoff=6.0), hot) as md:
        md.start(argon())
        found, wanted = [], []
        for _ in range(300):
            found.append(md.run(20).temperature)
            wanted.append(md.set_points().temperature)
    for part in (slice(75, 150), slice(200, 250), slice(250, 300)):
        assert np.mean(found[part]) == pytest.approx(np.mean(wanted[part]), rel=0.12)


def test_reseeding_draws_at_the_temperature_of_the_moment() -> None:
    ramp = settings(schedule=schedule({"steps": 100, "temperature": [50, 250]}))
    with LammpsMD(LennardJones(cutoff=6.0), ramp) as md:
        md.start(argon())
        assert md.run(0).temperature == pytest.approx(50)
        md.run(50)
        md.reseed(9)
        assert md.run(0).temperature == pytest.approx(150)


def test_halts_are_exact_in_every_leg() -> None:
    """The thresholds are taken from a run without them, around the borders of legs."""
    with LammpsMD(LennardJones(cutoff=6.0), CASES["nvt"]) as free:
        free.start(argon())
        gamma = dict(free.run(110).checks)
    for halt in (40, 52, 65):
        with LammpsMD(LennardJones(cutoff=6.0), CASES["nvt"]) as md:
            md.start(argon())
            md.run(halt - 1)
            md.halt_above = gamma[halt] - 1e-10
            outcome = md.run(200)
            if gamma[halt - 1] > md.halt_above:  # a set-up would see it first; chunks do not look again
                assert outcome.step in (halt, halt - 1)
                continue
            assert (outcome.step, outcome.halted) == (halt, True)
            assert outcome.gamma_max == pytest.approx(gamma[halt], rel=1e-12)
            md.halt_above = np.inf
            assert md.run(5).step == halt + 5


# --- density ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_md_ends_where_the_density_leaves_its_bounds(chunk) -> None:
    pressed = settings(
        ensemble="npt", pressure_bar=4000, barostat_damping_fs=1000, density_bounds=(1.0, 1.9), density_every=5
    )
    with LammpsMD(LennardJones(cutoff=6.0), pressed) as md:
        md.start(argon())
        outcome = md.run(chunk)
        while not outcome.escaped and md.step < 500:
            outcome = md.run(chunk)
        frame = md.frame()
        grams = frame.get_masses().sum() / frame.get_volume() * 1.66053906660
        assert 0 < outcome.step < 500
        assert outcome.step % 5 == 0
        assert 1.9 < grams < 1.93
        assert outcome.escaped == f"density {grams:.4g} g/cm^3 at step {outcome.step}, outside [1, 1.9]"
        test_md_ends_where_the_density_leaves_its_bounds.steps.add(outcome.step)  # type: ignore[attr-defined]
    assert len(test_md_ends_where_the_density_leaves_its_bounds.steps) == 1  # type: ignore[attr-defined]


test_md_ends_where_the_density_leaves_its_bounds.steps = set()  # type: ignore[attr-defined]

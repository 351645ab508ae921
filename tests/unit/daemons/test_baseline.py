"""What `training.baseline: zbl` guarantees: pairs repel all the way in, whatever the fit does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from ase.data import atomic_numbers
from ase.md.langevin import Langevin
from scipy.spatial.distance import pdist
from test_poison import Loop, aluminium

from mlip_autopipec.ace import ACECalculator
from mlip_autopipec.ace.baseline import inner_cutoffs, with_zbl
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.growing import GrowingRows
from mlip_autopipec.ace.radial import radial_basis
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.daemons.gate import evaluation_by
from mlip_autopipec.daemons.squeezing import ShortestPairs, squeezed_pushes
from mlip_autopipec.engines.lammps.library import open_lammps
from mlip_autopipec.stages.baseline import put_core
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.gate import repulsive_core
from mlip_autopipec.stages.train import TrainingSettings, train
from mlip_autopipec.store.dataset import Dataset, DatasetRow

TRAINING = {"cutoff": 5.0, "nradmax_by_orders": [8, 3], "lmax_by_orders": [0, 3]}
ISOLATED = {element: float(EMT().get_potential_energy(Atoms(element))) for element in ("Al", "Cu")}


def alloys(count: int) -> list[DatasetRow]:
    """Cold and molten alloys, labelled by EMT."""
    rng = np.random.default_rng(7)
    rows = []
    for number in range(count):
        atoms = bulk("Al", "fcc", a=3.85 * rng.uniform(0.97, 1.05), cubic=True) * (2, 2, 1)
        atoms.symbols = rng.choice(["Al", "Cu"], len(atoms))
        atoms.rattle(0.05 if number % 2 else 0.17, rng=rng)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        rows.append(DatasetRow(str(number), atoms.copy(), energy, forces, None, (1,) * len(atoms), "alloy"))
    return rows


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Return a function: strength of the regularisation -> work folder of a fit without a core."""
    rows = alloys(24)
    basis = make_basis(TrainingSettings.model_validate(TRAINING), ("Al", "Cu"))
    design_of = cache(lambda number: basis.design(rows[number].atoms))
    growing = GrowingRows(basis.n_coefficients)

    def fit(ridge: float) -> Path:
        folder = tmp_path_factory.mktemp("fit")
        settings = TrainingSettings.model_validate({**TRAINING, "ridge": ridge})
        train(rows, basis, settings, ISOLATED, folder, design_of=lambda r: design_of(int(r.task_id)), growing=growing)
        return folder

    return rows, fit


OTHERS = [pytest.param(ridge, marks=pytest.mark.slow) for ridge in (1e-11, 1e-8, 1e-5)]


@pytest.mark.parametrize("ridge", [1e-14, *OTHERS, 1e-3])
def test_pairs_repel_from_the_shortest_trained_distance_to_0_3_angstrom(fitted, ridge):
    rows, fit = fitted
    shortest = ShortestPairs().of(rows)
    folder = fit(ridge)
    put_core(folder, shortest, ISOLATED)
    evaluate = evaluation_by("ace")
    for name, frames in (("potential.yaml", rows[:20]), ("potential.yace", rows[:1])):
        pushed = list(
            squeezed_pushes(frames, shortest, lambda a, name=name: evaluate(folder / name, None, a), first=1.0)
        )
        assert {p["pair"] for p in pushed} == {"Al-Al", "Al-Cu", "Cu-Cu"}
        check = repulsive_core(pushed)
        assert check.passed, check.told
        assert len(pushed) > len(frames) * 2 * 16


def test_a_trained_structure_is_as_the_fit_said(fitted):
    rows, fit = fitted
    plain, cored = fit(1e-8), fit(1e-8)
    put_core(cored, ShortestPairs().of(rows), ISOLATED)
    evaluate = evaluation_by("ace")
    for row in rows[:6]:
        one, other = (evaluate(folder / "potential.yaml", None, row.atoms) for folder in (plain, cored))
        assert other.forces == pytest.approx(one.forces, abs=1e-11)
        assert other.energy == pytest.approx(one.energy, abs=1e-11)


def test_a_holed_potential_lets_a_hot_cluster_collapse_and_the_core_does_not(fitted, tmp_path):
    """5 000 K: the nearest two of 13 atoms, over 0.5 ps."""
    rows, fit = fitted
    bare, cored = fit(1e-8), fit(1e-8)
    for folder in (bare, cored):
        dig_hole(folder / "potential.yaml")
    put_core(cored, ShortestPairs().of(rows), ISOLATED)
    assert nearest_in_md(bare / "potential.yaml") < 0.5
    assert nearest_in_md(cored / "potential.yaml") > 0.5


def dig_hole(potential: Path) -> None:
    """Add a hole to the pair functions of Al: -300 eV per pair at no distance, -11 eV at 2 A."""
    configuration = read_yaml(potential)
    block = configuration.blocks[0]
    assert block.elements == ("Al",)
    r = np.linspace(0.3, 4.9, 400)
    g, _ = radial_basis(block.bond, r)
    hole, *_ = np.linalg.lstsq(g, -150.0 * np.exp(-((r / 1.1) ** 2)), rcond=None)
    functions = tuple(
        replace(f, coefficients=(f.coefficients[0] + float(hole[f.ns[0] - 1]),)) if len(f.ns) == 1 else f
        for f in block.functions
    )
    blocks = (replace(block, functions=functions), *configuration.blocks[1:])
    write_yaml(replace(configuration, blocks=blocks), potential)


def nearest_in_md(potential: Path) -> float:
    """Return the shortest distance of any two atoms in 2 000 steps, A; stops once they have collapsed."""
    atoms = Icosahedron("Al", 2, 3.2)  # pressed: 2.3 A between neighbours
    atoms.calc = ACECalculator(potential, threads=1)
    rng = np.random.default_rng(1)
    atoms.set_velocities(rng.normal(0, np.sqrt(5000 * units.kB / atoms.get_masses()[0]), (len(atoms), 3)))
    md = Langevin(atoms, 0.25 * units.fs, temperature_K=5000, friction=0.02 / units.fs, fixcm=False, rng=rng)
    nearest = np.inf
    for _ in md.irun(2000):
        nearest = min(nearest, float(pdist(atoms.positions).min()))
        if nearest < 0.5:
            break
    return nearest


def test_the_core_is_that_of_lammps(fitted, tmp_path):
    """Where ACE is off, against `pair_style zbl` between the same inner and outer cutoff."""
    _, fit = fitted
    configuration = read_yaml(fit(1e-8) / "potential.yaml")
    cutoff, width = configuration.blocks[0].bond.rcut, configuration.blocks[0].bond.dcut
    cutoffs = dict.fromkeys(inner_cutoffs(("Al", "Cu"), {}), (cutoff, 0.1))
    write_yaml(with_zbl(configuration, cutoffs), tmp_path / "potential.yaml")
    evaluator = load_evaluator(tmp_path / "potential.yaml")
    for pair in (("Al", "Al"), ("Al", "Cu"), ("Cu", "Cu")):
        for distance in (0.3, 0.5, 0.9, 1.5, 2.2, 3.5, 4.5):
            atoms = Atoms(pair, positions=[[0, 0, 0], [distance, 0, 0]])
            ours = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements))
            energy, force = zbl_of_lammps(pair, distance, (cutoff - width, cutoff))
            assert ours.energy == pytest.approx(energy, rel=1e-5)
            assert ours.forces[1, 0] == pytest.approx(force, rel=1e-5)


def zbl_of_lammps(pair: tuple[str, str], distance: float, cutoffs: tuple[float, float]) -> tuple[float, float]:
    """Return the energy of a pair (eV) and the force on its second atom (eV/A)."""
    charges = [atomic_numbers[element] for element in pair]
    lmp = open_lammps()
    try:
        lmp.commands_string(
            f"""
            units metal
            atom_modify map yes
            region box block -10 10 -10 10 -10 10
            create_box 2 box
            mass * 1.0
            create_atoms 1 single 0 0 0
            create_atoms 2 single {distance} 0 0
            pair_style zbl {cutoffs[0]} {cutoffs[1]}
            pair_coeff 1 1 {charges[0]} {charges[0]}
            pair_coeff 2 2 {charges[1]} {charges[1]}
            pair_coeff 1 2 {charges[0]} {charges[1]}
            run 0
            """
        )
        return lmp.get_thermo("pe"), lmp.gather_atoms("f", 1, 3)[3]
    finally:
        lmp.close()


def test_a_version_with_a_core_passes_the_gate_and_says_what_was_chosen(tmp_path):
    world = aluminium(tmp_path)
    training = world.config.training.model_copy(update={"baseline": "zbl"})
    world.config = world.config.model_copy(update={"training": training})
    loop = Loop(world)
    loop.intake.take_frames(read_structures(world.run.start / "dataset.extxyz", "start.dataset"))
    assert "candidate" not in loop.fit().facts
    folder = loop.registry.path(loop.registry.current().version)
    checks = {check["name"]: check["passed"] for check in read_json(folder / "gate.json")["checks"]}
    assert checks["repulsive_core"] is True
    assert checks["squeezed_pairs"] is True
    r_in, width = read_mapping(folder / "train_config.yaml")["baseline"]["inner_cutoffs"]["Al-Al"]
    bond = read_yaml(folder / "potential.yaml").blocks[0].bond
    assert (bond.inner_cutoff_type, bond.r_in, bond.delta_in) == ("zbl", r_in, width)
    trained = loop.registry.labels(loop.registry.current().version)
    shortest = min(
        float(row.atoms.get_all_distances(mic=True)[np.triu_indices(len(row.atoms), 1)].min())
        for row in Dataset(world.run.dataset).rows()
        if row.task_id in trained
    )
    assert 0.78 * shortest < r_in < 0.8 * shortest


def test_the_energy_does_not_jump_where_another_pair_takes_over(fitted, tmp_path):
    """Al between another Al and a Cu whose inner cutoffs differ: who decides changes on the way."""
    _, fit = fitted
    cutoffs = inner_cutoffs(("Al", "Cu"), {("Al", "Al"): 2.6, ("Al", "Cu"): 1.8, ("Cu", "Cu"): 2.2})
    write_yaml(with_zbl(read_yaml(fit(1e-8) / "potential.yaml"), cutoffs), tmp_path / "potential.yaml")
    evaluator = load_evaluator(tmp_path / "potential.yaml")

    def largest_step(points: int) -> float:
        energies = []
        for x in np.linspace(1.5, 2.1, points):
            atoms = Atoms("AlAlCu", positions=[[x, 0, 0], [0, 0, 0], [3.2, 0, 0]])
            energies.append(evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements)).energy)
        return float(np.abs(np.diff(energies)).max())

    assert largest_step(1001) < 0.2 * largest_step(101)  # a jump would stay as large


def test_a_push_that_is_no_number_fails_the_check():
    pushed = [{"pair": "Al-Al", "distance": d, "push": push} for d, push in ((2.0, 5.0), (1.0, np.nan))]
    for found in (pushed, pushed[::-1]):
        check = repulsive_core(found)
        assert check.passed is False
        assert check.numbers["weakest"]["push"] is None


def test_attraction_anywhere_fails_the_check():
    pushed = [{"pair": "Al-Al", "distance": d, "push": push} for d, push in ((2.0, 5.0), (1.0, -0.1), (0.5, 99.0))]
    check = repulsive_core(pushed)
    assert check.passed is False
    assert "1.00 A" in check.told
    assert repulsive_core([]).passed is None

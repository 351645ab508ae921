"""From labels to a version: a flat Lennard-Jones liquid without close contacts, its grades, and what the gate stops."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from mlip_autopipec.ace.growing import GrowingSet
from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.ace.rowblocks import RowBlocks
from mlip_autopipec.cli.liquid2d import SIGMA, liquid_frames
from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.gate import evaluation_by, samples
from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.stages.publish import check, read_grades, write_grades
from mlip_autopipec.stages.train import (
    UNCERTAINTY,
    TrainingSettings,
    active_rows,
    predict,
    train,
)
from mlip_autopipec.store.dataset import DatasetRow

SETTINGS = TrainingSettings(cutoff=8.5, nradmax_by_orders=(8, 3, 2), lmax_by_orders=(0, 2, 2))
ISOLATED = {"Ar": 0.0}


def distances(atoms):
    found = atoms.get_all_distances(mic=True)
    np.fill_diagonal(found, np.inf)
    return found


def squeezed(atoms, distance):
    """Bring the closest pair to `distance`, A, along their connection."""
    atoms = atoms.copy()
    i, j = np.unravel_index(distances(atoms).argmin(), (len(atoms),) * 2)
    vector = atoms.get_distance(i, j, mic=True, vector=True)
    shift = (np.linalg.norm(vector) - distance) / 2 * vector / np.linalg.norm(vector)
    atoms.positions[i] += shift
    atoms.positions[j] -= shift
    return atoms


def labelled_row(number, atoms, mask=None, config_type="liquid"):
    truth = TeacherLabeller(TeacherSettings(model="lj")).label(atoms, Path())
    mask = tuple(mask or [1] * len(atoms))
    return DatasetRow(f"{number:020x}", atoms, truth.energy, truth.forces, truth.stress, mask, config_type)


@pytest.fixture(scope="module")
def basis():
    return make_basis(SETTINGS, ["Ar"])


@pytest.fixture(scope="module")
def design_of(basis):
    known = {}

    def compute(row):
        if row.task_id not in known:
            known[row.task_id] = basis.design(row.atoms)
        return known[row.task_id]

    return compute


@pytest.fixture(scope="module")
def calm():
    """Liquid frames in which no pair is closer than 0.99 sigma."""
    frames = [f for f in liquid_frames(300, seed=1) if distances(f).min() >= 0.99 * SIGMA]
    assert len(frames) >= 50
    return frames


@pytest.fixture(scope="module")
def rows(calm):
    return [labelled_row(number, atoms) for number, atoms in enumerate(calm[:40])]


@pytest.fixture(scope="module")
def made(rows, basis, design_of, tmp_path_factory):
    """(folder, trained, active sets) of a fit to the calm liquid."""
    folder = tmp_path_factory.mktemp("work")
    trained = train(rows, basis, SETTINGS, ISOLATED, folder, design_of=design_of)
    sets = graded(folder, active_rows(rows, basis, SETTINGS, design_of))
    return folder, trained, {element: found.active for element, found in sets.items()}


def graded(folder, rows):
    sets = {element: GrowingSet().of(None, blocks) for element, blocks in rows.items()}
    write_grades(folder, sets)
    return sets


def test_the_calm_liquid_is_learned(made, calm, basis):
    _, trained, _ = made
    differences = []
    for number, atoms in enumerate(calm[40:50]):
        row = labelled_row(1000 + number, atoms)
        differences.append(predict(basis.design(atoms), trained.fit.coefficients).forces - row.forces)
    assert np.sqrt(np.mean(np.square(differences))) < 2e-4


def test_gamma_rises_as_a_pair_is_squeezed_beyond_what_was_seen(made, calm, basis):
    _, _, active = made
    shown = [
        active["Ar"].gamma(basis.projections(squeezed(calm[45], r))["Ar"][1]).max() for r in (3.5, 3.2, 3.1, 2.9, 2.5)
    ]
    assert shown[0] < 1.5
    assert shown[1] > 1.2
    assert shown[3] > 5
    assert shown == sorted(shown)


def test_a_flat_world_sees_the_third_dimension(made, calm, basis):
    _, _, active = made
    lifted = calm[45].copy()
    lifted.positions[7, 2] += 0.1
    assert active["Ar"].gamma(basis.projections(lifted)["Ar"][1]).max() > 2
    noisy = calm[45].copy()
    noisy.positions[:, 2] += 1e-9
    assert active["Ar"].gamma(basis.projections(noisy)["Ar"][1]).max() < 1.5


def test_files_and_numbers_of_a_fit(made, rows):
    folder, trained, _ = made
    metrics = read_json(folder / "metrics.json")
    assert metrics["structures"] == 40
    assert metrics["learned_atoms"] == 40 * 36
    expected = np.concatenate([(trained.predictions[r.task_id].forces - r.forces).ravel() for r in rows])
    assert metrics["force_rmse"] == pytest.approx(np.sqrt(np.mean(expected**2)))
    assert metrics["groups"]["liquid"]["energy_mae_mev"] < 0.1
    chosen = read_mapping(folder / "train_config.yaml")
    assert chosen["functions"]["total"] == len(trained.fit.coefficients)
    assert chosen["settings"]["cutoff"] == 8.5


def test_the_uncertainty_of_the_coefficients_is_kept(made, rows, basis, design_of):
    folder, trained, _ = made
    with np.load(folder / UNCERTAINTY) as kept:
        root = kept["noise"] * kept["influence"]
    energies = [np.linalg.norm(design_of(row).energy @ root) / len(row.atoms) for row in rows]
    lonely = basis.design(squeezed(rows[0].atoms, 2.4)).energy
    # What was trained is known better than what nobody has seen.
    assert max(energies) < 0.4 * np.linalg.norm(lonely @ root) / len(rows[0].atoms)
    assert root == pytest.approx(trained.fit.report.noise * trained.fit.influence, rel=1e-6)


def test_a_group_of_larger_weight_is_fitted_better(rows, basis, design_of, tmp_path):
    groups = [replace(row, config_type="a" if k % 2 else "b") for k, row in enumerate(rows[:12])]
    found = []
    for factor in (1.0, 1e4):
        settings = SETTINGS.model_copy(update={"group_weights": {"a": factor}})
        train(groups, basis, settings, ISOLATED, tmp_path, design_of=design_of)
        found.append(read_json(tmp_path / "metrics.json")["groups"])
    assert found[1]["a"]["force_rmse"] < found[0]["a"]["force_rmse"]
    assert found[1]["b"]["force_rmse"] > found[0]["b"]["force_rmse"]


def test_carved_cells_teach_forces_of_learned_atoms_only(rows, basis, design_of, tmp_path):
    mask = [1] * 9 + [0] * 27
    carved = [replace(r, task_id=f"c{i:019x}", force_mask=tuple(mask)) for i, r in enumerate(rows[:10])]
    fits = []
    for poison in (0.0, 1e6):
        data = [
            replace(r, forces=np.where(r.learned[:, None], r.forces, poison), energy=r.energy + poison) for r in carved
        ]
        fits.append(train(data, basis, SETTINGS, ISOLATED, tmp_path, design_of=design_of))
    assert (fits[0].fit.coefficients == fits[1].fit.coefficients).all()
    assert fits[0].fit.report.n_rows == 10 * 9 * 3
    blocks = active_rows(carved, basis, SETTINGS, design_of)["Ar"]
    assert (blocks.n_rows, [len(block) for block in blocks]) == (10 * 9, [9] * 10)
    assert read_json(tmp_path / "metrics.json")["energy_rmse_mev"] is None
    weighted = SETTINGS.model_copy(update={"masked_energy_weight": 1.0})
    train(carved, basis, weighted, ISOLATED, tmp_path, design_of=design_of)
    assert active_rows(carved, basis, weighted, design_of)["Ar"].n_rows == 10 * 36


def test_energies_count_from_isolated_atoms(rows, basis, design_of, tmp_path):
    lifted = [replace(r, energy=r.energy + 36 * 5.5) for r in rows]
    trained = train(lifted, basis, SETTINGS, {"Ar": 5.5}, tmp_path, design_of=design_of)
    assert trained.predictions[rows[0].task_id].energy == pytest.approx(rows[0].energy, abs=0.01)
    assert re.search(r"^E0: \[5\.5\]$", (tmp_path / "potential.yace").read_text(), re.MULTILINE)


def test_an_element_without_labels_or_reference_is_named(rows, design_of, tmp_path):
    wide = make_basis(SETTINGS, ["Ar", "Kr"])
    with pytest.raises(DataError, match="Kr"):
        train(rows, wide, SETTINGS, {"Ar": 0.0, "Kr": 0.0}, tmp_path, design_of=design_of)
    narrow = make_basis(SETTINGS, ["Ar"])
    with pytest.raises(DataError, match="isolated Ar"):
        train(rows, narrow, SETTINGS, {}, tmp_path, design_of=design_of)


def test_the_gate_lets_a_sound_version_pass(made, rows):
    folder, trained, _ = made
    check(folder, samples(rows, trained.predictions, forces_entered=True), ISOLATED, evaluation_by("ace"))


@pytest.fixture
def copy(made, tmp_path):
    for file in made[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_the_gate_stops_a_yace_that_differs(copy, made, rows):
    text = (copy / "potential.yace").read_text()
    assert "E0: [0]" in text
    (copy / "potential.yace").write_text(text.replace("E0: [0]", "E0: [0.1]"))
    with pytest.raises(ModelError, match=r"\.yaml and \.yace"):
        check(copy, samples(rows, made[1].predictions, forces_entered=True), ISOLATED, evaluation_by("ace"))


def test_the_gate_stops_an_active_set_of_other_rows(copy, made, rows, basis, design_of):
    own = active_rows(rows, basis, SETTINGS, design_of)["Ar"]
    graded(copy, {"Ar": RowBlocks([own.n_rows], lambda _: 0.1 * np.concatenate(list(own)))})
    with pytest.raises(ModelError, match="trained on"):
        check(copy, samples(rows, made[1].predictions, forces_entered=True), ISOLATED, evaluation_by("ace"))


def test_active_sets_are_read_as_they_were_written(made, copy):
    found = read_grades(copy)["Ar"]
    active = made[2]["Ar"]
    assert (found.n_seen, found.n_selected) == (40 * 36, 40 * 36)
    assert found.active.rows.tobytes() == active.rows.tobytes()
    assert found.active.inverse.tobytes() == active.inverse.tobytes()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", None])
def test_without_its_rows_an_active_set_is_selected_anew(copy, damage):
    path = copy / "active_rows.npz"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert read_grades(copy) == {}


def test_the_gate_stops_a_trainer_that_says_something_else(made, rows):
    chosen = samples(rows, made[1].predictions, forces_entered=True)
    wrong = [replace(s, forces=s.forces + 1e-3) for s in chosen]
    with pytest.raises(ModelError, match="forces of trainer"):
        check(made[0], wrong, ISOLATED, evaluation_by("ace"))


def test_a_perfect_crystal_has_a_finite_grade():
    """One environment, seen many times: noise must not become a direction, a rattled cell must be far outside."""
    settings = TrainingSettings(cutoff=5.0)
    basis = make_basis(settings, ["Al"])
    crystal = bulk("Al", cubic=True, a=4.05) * (2, 2, 2)
    projections = basis.projections(crystal)["Al"][1]
    active = active_set(projections)
    assert len(active.indices) == 1
    turned = crystal.copy()
    turned.rotate(33.0, (1, 2, 3), rotate_cell=True)
    assert active.gamma(basis.projections(turned)["Al"][1]).max() == pytest.approx(1.0, abs=1e-3)
    rattled = crystal.copy()
    rattled.rattle(0.05, seed=1)
    assert 10 < active.gamma(basis.projections(rattled)["Al"][1]).max() < 1e6


def test_one_atom_is_enough_for_a_fit(basis, tmp_path, design_of):
    pair = Atoms("Ar2", positions=[[0, 0, 0], [3.6, 0, 0]])
    row = labelled_row(9999, pair)
    trained = train([row], basis, SETTINGS, ISOLATED, tmp_path, design_of=design_of)
    np.testing.assert_allclose(trained.predictions[row.task_id].forces, row.forces, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nradmax_by_orders": (5, 2)},
        {"nradmax_by_orders": (0, 2, 1)},
        {"lmax_by_orders": (0, 11, 1)},
        {"lmax_by_orders": (1, 2, 1)},
        {"cutoff": 0.5},
        {"unknown": 1},
        {"group_weights": {"liquid": 0.0}},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TrainingSettings(**wrong)

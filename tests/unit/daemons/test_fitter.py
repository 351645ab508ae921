"""The fitter: complete work folders, masks, given potentials, structures that cannot take part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from trainer_parts import NOW, World, frame, label, labelled

from mlip_autopipec.ace.fitting import AceBasis
from mlip_autopipec.ace.formats.asi import write_asi
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.designs import DesignCache
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import LEFT_OUT, Intake
from mlip_autopipec.stages.label import LabellingSettings
from mlip_autopipec.stages.publish import read_grades
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.stages.watch import Engine
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.references import References, reference_energies, write_references
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.results import make_result

WIDE = TrainingSettings(cutoff=5.0, nradmax_by_orders=[4, 2], lmax_by_orders=[0, 1])


def fitter(
    world: World, elements: tuple[str, ...] = ("Ar",), potential: Path | None = None, engine: Engine = "ace"
) -> Fitter:
    config = world.config
    labeller = config.labeller_settings()
    return Fitter(FitJob(world.run.root, config.training, labeller, config.node, elements, potential, engine))


def take_in(world: World, frames=()) -> tuple[str, ...]:
    intake = Intake(world.run, world.config.labeller_settings(), force_limit=1e5)
    intake.load()
    intake.take_frames(frames)
    intake.take_results()
    return tuple(sorted(intake.labels))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, [])


def test_labels_with_stress_of_whole_cells_are_counted(world):
    """npt walkers wait for them."""
    frames = [labelled(s) for s in range(6)]
    assert fitter(world)(FitRequest(take_in(world, frames))).facts["stress_labels"] == 0
    for atoms in frames[:2]:
        results = atoms.calc.results
        atoms.pbc = True
        atoms.positions[0, 0] += 0.01  # another structure, so another label
        atoms.calc = SinglePointCalculator(atoms, **results, stress=np.full(6, 1e-3))
    assert fitter(world)(FitRequest(take_in(world, frames))).facts["stress_labels"] == 2


def test_a_fit_makes_all_files_but_the_manifest_and_publishes_nothing(world):
    ids = take_in(world, [labelled(s) for s in range(6)])
    answer = fitter(world)(FitRequest(ids))
    assert {p.name for p in answer.folder.iterdir()} == {*FILES, "active_rows.npz", "uncertainty.npz", "gate.json"}
    assert set(answer.facts["task_ids"]) == set(ids)
    assert answer.facts["active_set"]["Ar"] > 5
    assert Registry(world.run.potentials).versions() == []


@pytest.mark.usefixtures("python_ace")
def test_python_ace_fits_the_same_potential(world):
    """And the walkers of either engine accept the versions of the other: each gate is passed with the other's eyes."""
    ids = take_in(world, [labelled(s) for s in range(6)])
    good = world.config
    found = {}
    for trainer, walker in (("ace", "pyace"), ("pyace", "ace")):
        training = good.training.model_copy(update={"engine": trainer, "ridge": 1e-10})
        world.config = good.model_copy(update={"training": training})
        folder = fitter(world, engine=walker)(FitRequest(ids)).folder
        atoms = frame(99)
        for engine in ("ace", "pyace"):
            evaluator = make_evaluator(folder, engine)
            found[trainer, engine] = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, ("Ar",)), gamma=True)
    truth = found["ace", "ace"]
    for said in found.values():
        assert said.energy == pytest.approx(truth.energy, abs=1e-7)
        assert np.abs(said.forces - truth.forces).max() < 1e-7
        assert np.abs(said.gamma - truth.gamma).max() < 1e-4 * truth.gamma.max()


@pytest.mark.usefixtures("python_ace")
@pytest.mark.parametrize("engine", ["ace", "pyace"])
def test_a_given_potential_passes_the_gate_of_either_engine(world, engine):
    ids = take_in(world, [labelled(s) for s in range(6)])
    made = fitter(world)(FitRequest(ids)).folder
    given = (made / "potential.yaml", made / "potential.asi")
    answer = fitter(world, potential=given[0], engine=engine)(FitRequest(ids, given))
    assert read_json(answer.folder / "metrics.json")["structures"] == 6


def test_only_the_requested_rows_take_part(world):
    ids = take_in(world, [labelled(s) for s in range(6)])
    answer = fitter(world)(FitRequest(ids[:4]))
    assert set(answer.facts["task_ids"]) == set(ids[:4])
    assert read_json(answer.folder / "metrics.json")["structures"] == 4


def test_masked_forces_leave_every_file_the_same(tmp_path):
    mask = [1, 1, 0, 1, 0, 1, 1, 1, 0]
    contents = []
    for name, poison in (("clean", None), ("poisoned", 1e6)):
        world = World(tmp_path / name, [])
        for seed in (10, 11):
            world.give(world.task(seed, mask), force=poison)
        answer = fitter(world)(FitRequest(take_in(world, [labelled(s) for s in range(4)])))
        names = ("potential.yaml", "potential.yace", "metrics.json")
        contents.append([(answer.folder / n).read_bytes() for n in names] + [arrays(answer.folder / "potential.asi")])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("mask", "force", "more"), [("radius", None, 0), ("sane", None, 2), ("sane", 1e6, 0)])
def test_masked_atoms_teach_if_they_are_sane_and_that_is_wanted(tmp_path, mask, force, more):
    world = World(tmp_path, [], train_mask=mask)
    world.give(world.task(10, [1, 1, 0, 1, 0, 1, 1, 1, 1]), force=force)
    answer = fitter(world)(FitRequest(take_in(world, [labelled(s) for s in range(6)])))
    assert read_json(answer.folder / "metrics.json")["learned_atoms"] == 6 * 9 + 7 + more
    limits = answer.facts["train_mask"]["limits"]
    assert (limits is None) == (mask == "radius")
    with np.load(answer.folder / "active_rows.npz") as kept:
        assert kept["Ar.counts"][0] == 6 * 9 + 7 + more


def arrays(path: Path) -> bytes:
    with np.load(path) as archive:
        return b"".join(archive[key].tobytes() for key in sorted(archive.files))


def test_a_refit_with_kept_design_rows_is_the_fit_from_scratch(world):
    frames = [labelled(s) for s in range(8)]
    first = take_in(world, frames[:5])
    kept = fitter(world)
    kept(FitRequest(first))
    ids = take_in(world, frames)
    again, cold = kept(FitRequest(ids)), fitter(world)(FitRequest(ids))
    assert (again.folder / "potential.yaml").read_bytes() == (cold.folder / "potential.yaml").read_bytes()


def test_a_version_does_not_depend_on_whether_its_trainer_was_restarted(world):
    """The active set goes on from the parent's files, the coefficients have the bits of a fit from scratch."""
    frames = [labelled(s) for s in range(12)]
    registry = Registry(world.run.potentials)
    living, parent, made = fitter(world), None, []
    for n in (7, 9, 12):
        ids = take_in(world, frames[:n])
        answers = [one(FitRequest(ids, parent=parent)) for one in (living, fitter(world))]
        one, other = (answer.folder for answer in answers)
        assert (one / "potential.yaml").read_bytes() == (other / "potential.yaml").read_bytes()
        assert arrays(one / "potential.asi") == arrays(other / "potential.asi")
        made.append(read_grades(one)["Ar"])
        parent = registry.publish(one, {"parent": parent, **answers[0].facts})
    assert [(found.n_seen, found.n_selected) for found in made] == [(63, 63), (81, 63), (108, 63)]
    anew = read_grades(living(FitRequest(ids, parent=None)).folder)["Ar"]
    assert (anew.n_seen, anew.n_selected) == (108, 108)


def test_an_active_set_is_extended_only_for_the_labels_that_it_saw(world):
    ids = take_in(world, [labelled(s) for s in range(8)])
    registry = Registry(world.run.potentials)
    answer = fitter(world)(FitRequest(ids))
    parent = registry.publish(answer.folder, answer.facts)
    fewer = read_grades(fitter(world)(FitRequest(ids[1:], parent=parent)).folder)["Ar"]
    assert (fewer.n_seen, fewer.n_selected) == (63, 63)
    good = world.config
    heavier = good.training.model_copy(update={"force_weight": 2.0})
    world.config = good.model_copy(update={"training": heavier})
    other = read_grades(fitter(world)(FitRequest(ids, parent=parent)).folder)["Ar"]
    assert (other.n_seen, other.n_selected) == (72, 72)


def test_a_structure_without_design_rows_does_not_stop_the_others(world):
    overlapping = frame(50)
    overlapping.positions[1] = overlapping.positions[0] + [0, 0, 1e-5]
    overlapping.calc = SinglePointCalculator(overlapping, energy=0.0, forces=np.zeros((9, 3)))
    ids = take_in(world, [*[labelled(s) for s in range(5)], overlapping])
    answer = fitter(world)(FitRequest(ids))
    (reason,) = answer.unusable.values()
    assert "one place" in reason
    assert len(answer.facts["task_ids"]) == 5


def test_a_given_potential_is_published_as_it_is(world, tmp_path):
    ids = take_in(world, [labelled(s) for s in range(6)])
    made = fitter(world)(FitRequest(ids)).folder
    given = (made / "potential.yaml", made / "potential.asi")
    write_references(Registry(world.run.potentials), References({"Ar": -0.5}))
    answer = fitter(world)(FitRequest(ids[:3], given))
    for file in given:
        assert (answer.folder / file.name).read_bytes() == file.read_bytes()
    assert read_yace(answer.folder / "potential.yace").isolated_energies == (-0.5,)
    metrics = read_json(answer.folder / "metrics.json")
    assert (metrics["structures"], metrics["force_rmse"] < 0.02) == (3, True)
    assert len(answer.facts["task_ids"]) == 3
    assert {p.name for p in answer.folder.iterdir()} == set(FILES)


def test_a_given_potential_must_know_all_elements(world):
    ids = take_in(world, [labelled(s) for s in range(6)])
    made = fitter(world)(FitRequest(ids)).folder
    strange = frame(7)
    strange.symbols[0] = "Kr"
    strange.calc = SinglePointCalculator(strange, energy=0.0, forces=np.zeros((9, 3)))
    ids = take_in(world, [strange])
    write_references(Registry(world.run.potentials), References({"Ar": 0.0, "Kr": 0.0}))
    with pytest.raises(ModelError, match="Kr"):
        fitter(world)(FitRequest(ids, (made / "potential.yaml", made / "potential.asi")))


@pytest.fixture
def wide(world, tmp_path):
    """A given potential (.yaml, .asi) that knows more elements than the data, with a basis of its own."""
    folder = tmp_path / "wide"
    folder.mkdir()
    basis = make_basis(WIDE, ["Ar", "Kr"])
    coefficients = np.random.default_rng(1).normal(0, 0.01, basis.n_coefficients)
    basis.write(coefficients, {"Ar": 0.0, "Kr": 0.0}, folder)
    size = basis.n_coefficients // 2
    write_asi({element: np.eye(size) for element in basis.elements}, folder / "potential.asi")
    return folder / "potential.yaml", folder / "potential.asi"


@pytest.mark.parametrize("labels", [0, 3])
def test_a_given_potential_may_know_more_than_the_data(world, wide, labels):
    ids = take_in(world, [labelled(s) for s in range(labels)])
    answer = fitter(world, potential=wide[0])(FitRequest(ids, wide))
    metrics = read_json(answer.folder / "metrics.json")
    assert metrics["structures"] == labels
    assert (metrics["force_rmse"] is None) == (labels == 0)
    assert read_yace(answer.folder / "potential.yace").isolated_energies == (0.0, 0.0)
    assert reference_energies(Registry(world.run.potentials)) == {"Ar": 0.0, "Kr": 0.0}


def test_an_active_set_of_another_potential_is_refused_without_any_label(world, wide):
    write_asi({"Ar": np.eye(3), "Kr": np.eye(3)}, wide[1])
    with pytest.raises(ModelError, match=r"potential\.asi"):
        fitter(world, potential=wide[0])(FitRequest((), wide))


def test_refits_keep_the_functions_of_a_given_potential(world, wide):
    ids = take_in(world, [labelled(s) for s in range(6)])
    answer = fitter(world, potential=wide[0])(FitRequest(ids))
    fitted = AceBasis(read_yaml(answer.folder / "potential.yaml"))
    alone = make_basis(WIDE, ["Ar"])
    assert fitted.elements == ("Ar",)
    assert fitted.cutoff == WIDE.cutoff != world.config.training.cutoff
    assert fitted.ranks == alone.ranks
    assert answer.facts["basis_of"] == str(wide[0])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("  parameters: [1, 1]", "  parameters: [1, 0.5]", "embedding"),
        ("core-repulsion: [0, 0]", "core-repulsion: [10, 2]", "core repulsion"),
    ],
)
def test_a_given_potential_that_is_not_linear_is_refused(world, wide, old, new, reason):
    text = wide[0].read_text()
    assert old in text
    wide[0].write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=reason):
        fitter(world, potential=wide[0])


def test_isolated_atoms_are_computed_once(world, monkeypatch):
    ids = take_in(world, [labelled(s) for s in range(6)])
    fitter(world)(FitRequest(ids))
    assert reference_energies(Registry(world.run.potentials)) == {"Ar": 0.0}
    monkeypatch.setattr("mlip_autopipec.daemons.isolated.make_labeller", None)
    fitter(world)(FitRequest(ids))


def test_energies_given_by_hand_are_forgotten_when_they_are_taken_back(world):
    ids = take_in(world, [labelled(s) for s in range(6)])
    registry = Registry(world.run.potentials)
    good = world.config
    by_hand = good.training.model_copy(update={"reference_energies": {"Ar": -5.0}})
    for training, energy in ((by_hand, -5.0), (good.training, 0.0)):
        world.config = good.model_copy(update={"training": training})
        answer = fitter(world)(FitRequest(ids))
        assert reference_energies(registry) == {"Ar": energy}
        assert read_yace(answer.folder / "potential.yace").isolated_energies == (energy,)


def test_reference_energies_of_an_older_layout_are_computed_again(world):
    write_json(world.run.potentials / "reference_energies.json", {"Ar": -5.0})
    fitter(world)(FitRequest(take_in(world, [labelled(s) for s in range(6)])))
    assert reference_energies(Registry(world.run.potentials)) == {"Ar": 0.0}


def test_a_failed_fit_leaves_no_folder(world):
    ids = take_in(world, [labelled(s) for s in range(6)])
    write_references(Registry(world.run.potentials), References({"Ar": 0.0, "Kr": 0.0}))
    with pytest.raises(DataError, match="Kr"):
        fitter(world, ("Ar", "Kr"))(FitRequest(ids))
    assert not list(world.run.potentials.glob(".work-*"))


def test_the_cache_keeps_what_fits(world):
    take_in(world, [labelled(s) for s in range(3)])
    rows = list(Dataset(world.run.dataset).rows())
    basis = make_basis(world.config.training, ["Ar"])
    roomy, tight = DesignCache(basis), DesignCache(basis, limit=1)
    assert roomy(rows[0]) is roomy(replace(rows[0]))
    first = tight(rows[0])
    again = tight(rows[0])
    assert again is not first
    np.testing.assert_array_equal(again.forces, first.forces)
    for_one = DesignCache(basis, limit=basis.design(rows[0].atoms).forces.nbytes * 3 // 2)
    kept = [for_one(row) for row in rows]
    # Rows are read in turn, so what came first must stay.
    assert [for_one(row) is one for row, one in zip(rows, kept, strict=True)] == [True, False, False]


def judged(world: World, window: tuple[float, float] = (-20.0, 20.0), **training: object) -> Fitter:
    config = world.config
    settings = config.training.model_copy(update=training)
    labelling = LabellingSettings(energy_window=window)
    job = FitJob(
        world.run.root, settings, config.labeller_settings(), config.node, ("Ar",), None, "ace", labelling=labelling
    )
    return Fitter(job)


def test_a_label_with_an_impossible_energy_is_left_out(world):
    frames = [labelled(s) for s in range(6)]
    lost = frames[2].get_potential_energy() + 9 * 25.0
    frames[2].calc = SinglePointCalculator(frames[2], energy=lost, forces=frames[2].get_forces())
    ids = take_in(world, frames)
    answer = judged(world)(FitRequest(ids))
    ((task_id, reason),) = answer.unusable.items()
    assert reason.startswith(f"{LEFT_OUT}label {task_id}: 24.")
    assert "labelling.energy_window [-20, 20] eV" in reason
    assert task_id not in answer.facts["task_ids"]
    # A wider window takes it in again.
    assert judged(world, (-20.0, 30.0))(FitRequest(ids)).unusable == {}


def test_a_window_that_leaves_nothing_says_so(world):
    ids = take_in(world, [labelled(s) for s in range(4)])
    with pytest.raises(DataError, match=r"all 4 labels are left out, e\.g\. .*energy_window \[5, 6\]"):
        judged(world, (5.0, 6.0))(FitRequest(ids))


def test_labels_of_a_changed_smearing_can_be_left_out(world):
    task = world.task(20)
    truth = label(task.atoms())
    flags = {"changed_smearing": "made with a smearing of 0.03 Ry"}
    world.results.write_once(task.id, make_result(task, replace(truth, info={"flags": flags}), "test", NOW))
    ids = take_in(world, [labelled(s) for s in range(4)])
    assert task.id in judged(world)(FitRequest(ids)).facts["task_ids"]
    answer = judged(world, use_changed_smearing=False)(FitRequest(ids))
    assert "0.03 Ry, and training.use_changed_smearing is false" in answer.unusable[task.id]


def test_a_version_says_what_its_labels_say(world):
    frames = [labelled(s) for s in range(5)]
    folder = judged(world)(FitRequest(take_in(world, frames))).folder
    seen = read_json(folder / "metrics.json")["label_range"]
    energies = [atoms.get_potential_energy() / len(atoms) for atoms in frames]
    forces = [np.linalg.norm(atoms.get_forces(), axis=1).max() for atoms in frames]
    assert seen == pytest.approx(
        {"lowest": min(energies), "highest": max(energies), "largest_force": max(forces)}, abs=1e-9
    )

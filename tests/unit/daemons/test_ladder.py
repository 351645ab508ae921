"""Functions that labels decide: cutoff by their density, ever more functions as they come, the same ones in between."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from test_poison import Loop, aluminium, hot

from mlip_autopipec.ace.basis_size import LONGEST_CUTOFF, NEIGHBOURS, ROWS_PER_FUNCTION
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.fitjob import FitRequest
from mlip_autopipec.daemons.forceerrors import basis_of, regraded
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.stages.train.functions import Functions, carried, chosen_functions
from mlip_autopipec.store.dataset import Dataset, DatasetRow

LADDER = {"functions": "ladder", "cutoff": None}


def rows_of(count: int, a: float = 4.05, element: str = "Al") -> list[DatasetRow]:
    rows = []
    for seed in range(count):
        atoms = bulk("Al", "fcc", a=a, cubic=True) * (2, 2, 1)
        atoms.symbols[0] = element
        atoms.rattle(0.05, seed=seed)
        rows.append(DatasetRow(str(seed), atoms, 0.0, np.zeros((16, 3)), None, (1,) * 16, "solid"))
    return rows


def world_with(tmp_path, solids: int, **training):
    world = aluminium(tmp_path, solids)
    changed = world.config.training.model_copy(update=training)
    world.config = world.config.model_copy(update={"training": changed})
    loop = Loop(world)
    loop.intake.take_frames(read_structures(world.run.start / "dataset.extxyz", "start.dataset"))
    return loop


def give(loop: Loop, seeds) -> None:
    for seed in seeds:
        loop.give(loop.task(hot(seed)))


def test_the_cutoff_follows_the_density_unless_it_is_given():
    settings = TrainingSettings(cutoff=None)
    dense, loose = (chosen_functions(settings, rows_of(3, a), ("Al",), None) for a in (4.05, 5.0))
    assert loose.told["cutoff"] == pytest.approx(dense.told["cutoff"] * 5.0 / 4.05, abs=0.15)
    counts = [len(neighbourhood(row.atoms, dense.told["cutoff"], ("Al",)).neighbours) / 16 for row in rows_of(3)]
    assert np.median(counts) == pytest.approx(NEIGHBOURS, abs=3)
    assert {block.bond.rcut for block in dense.configuration.blocks} == {dense.told["cutoff"]}
    assert f"{NEIGHBOURS} neighbours" in dense.told["why"]["cutoff"]
    given = chosen_functions(TrainingSettings(cutoff=4.4, functions="ladder"), rows_of(3), ("Al",), None)
    assert (given.told["cutoff"], given.told["why"]["cutoff"]) == (4.4, "training.cutoff")
    assert chosen_functions(settings, rows_of(3, 9.0), ("Al",), None).told["cutoff"] == LONGEST_CUTOFF


def test_a_chosen_cutoff_stays_when_denser_labels_come():
    settings = TrainingSettings(cutoff=None)
    first = chosen_functions(settings, rows_of(3), ("Al",), None)
    assert chosen_functions(settings, rows_of(9, 3.7), ("Al",), first) is first
    assert chosen_functions(TrainingSettings(cutoff=5.0), rows_of(3), ("Al",), None).told["cutoff"] == 5.0


def test_the_element_with_the_fewest_learned_atoms_limits_the_functions():
    mixed = rows_of(30, element="Cu")
    assert carried(mixed, ("Al", "Cu")) == 2 * 3 * 30 // ROWS_PER_FUNCTION
    masked = [replace(row, force_mask=(1,) * 8 + (0,) * 8) for row in mixed]
    assert carried(masked, ("Al",)) == 3 * 30 * 7 // ROWS_PER_FUNCTION
    few, many = (chosen_functions(TrainingSettings(**LADDER), rows_of(n), ("Al",), None) for n in (12, 48))
    assert few.told["functions"] <= carried(rows_of(12), ("Al",)) < many.told["functions"]
    assert many.told["functions"] <= carried(rows_of(48), ("Al",))


def test_the_rung_changes_only_beyond_a_margin_and_falls_where_labels_are_too_few():
    settings, seen = TrainingSettings(**LADDER), []
    before: Functions | None = None
    counts = range(12, 45, 3)
    for count in counts:
        before = chosen_functions(settings, rows_of(count), ("Al",), before)
        assert before.told["functions"] <= carried(rows_of(count), ("Al",))
        seen.append(before.told["rung"])
    assert seen == sorted(seen)
    assert 3 <= len(set(seen)) < len(seen) / 2
    # Where it has just risen, a few labels less do not take it back.
    place = next(k for k in range(1, len(seen)) if seen[k] > seen[k - 1])
    risen = chosen_functions(settings, rows_of(counts[place]), ("Al",), None)
    assert chosen_functions(settings, rows_of(counts[place] - 1), ("Al",), risen) is risen
    assert chosen_functions(settings, rows_of(12), ("Al",), before).told["rung"] == seen[0]
    # Other settings choose anew.
    assert chosen_functions(TrainingSettings(**LADDER, largest_rung=2), rows_of(48), ("Al",), before).told["rung"] == 2


def test_versions_of_a_run_get_more_functions_as_labels_come(tmp_path):
    loop = world_with(tmp_path, 6, **LADDER)
    loop.fit()
    give(loop, range(1))
    loop.fit()
    give(loop, range(1, 6))
    loop.fit()
    first, second, third = (loop.registry.path(version) for version in loop.registry.versions())
    manifests = [read_json(folder / "manifest.json") for folder in (first, second, third)]
    told = [manifest["functions"] for manifest in manifests]
    assert told[0] == told[1]
    assert (told[0]["rung"], told[2]["rung"]) == (0, 2)
    assert told[0]["functions"] < told[2]["functions"]
    assert (first / "basis.yaml").read_bytes() == (second / "basis.yaml").read_bytes()
    assert "the labels carry 76 functions" in read_mapping(third / "train_config.yaml")["basis"]["why"]["functions"]
    # gammas of old and new functions do not compare, and it is known that they do not.
    assert basis_of(manifests[0]) == basis_of(manifests[1]) != basis_of(manifests[2])
    assert 0 < manifests[0]["active_set"]["Al"] < manifests[2]["active_set"]["Al"] <= told[2]["functions"]
    checks = {check["name"]: check["passed"] for check in read_json(third / "gate.json")["checks"]}
    assert checks["squeezed_pairs"] is True
    evaluator = make_evaluator(third)
    trained = Dataset(loop.world.run.dataset).rows()
    assert max(evaluator.evaluate(neighbourhood(r.atoms, 8.0, ("Al",)), gamma=True).gamma.max() for r in trained) < 1.05
    assert read_json(third / "gate.json")["against"] == "v0002"
    # A trainer that begins here makes the same version, whatever it saw before.
    anew = Loop(loop.world)
    request = FitRequest(tuple(sorted(loop.intake.trainable)), None, "v0002", (), "v0002")
    answer = anew.fitter(request)
    assert (answer.folder / "potential.yaml").read_bytes() == (third / "potential.yaml").read_bytes()
    # Without the labels that it grew by, it shrinks again.
    fewer = anew.fitter(FitRequest(tuple(manifests[0]["task_ids"]), None, "v0003", (), "v0003"))
    assert fewer.facts["functions"]["rung"] == 0


def test_gamma_of_an_earlier_version_is_graded_in_the_functions_of_a_later_one_with_a_baseline(tmp_path):
    loop = world_with(tmp_path, 6, **LADDER, baseline="lj")
    loop.fit()
    give(loop, range(6))
    loop.fit()
    first, second = (loop.registry.path(version) for version in loop.registry.versions())
    checks = {check["name"]: check["passed"] for check in read_json(second / "gate.json")["checks"]}
    assert checks["repulsive_core"] is True
    training = loop.world.config.training
    rows = {row.task_id: row for row in Dataset(loop.world.run.dataset).rows()}
    basis = make_basis(training, ("Al",), second / "potential.yaml", baseline=True)
    assert basis.n_coefficients == read_json(second / "manifest.json")["functions"]["functions"]
    assert read_yaml(second / "potential.yaml").overlay is not None
    known = set(loop.registry.labels("v0001"))
    unseen = next(row for task, row in rows.items() if task not in known)
    contained = [row for task, row in rows.items() if task in known]
    pair = regraded(unseen, make_evaluator(first), contained, basis, training, version="v0001", name="new")
    assert pair.gamma > 1.0
    assert pair.error < 5.0

"""The automatic choice of a cell, by a real ACE potential: faithful, small, never the same twice, or refused."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.stages.carve import (
    EmbeddingSettings,
    NoFaithfulCell,
    carve_task,
    choose_cell,
)
from mlip_autopipec.stages.wholecells import is_chosen, whole_cell_task
from mlip_autopipec.structures.fidelity import evaluate, force_errors, gamma_ratio, measure
from small_potentials import fit_emt

LABELLER = {"engine": "teacher", "model": "emt"}
CREATED = "2026-11-22T00:00:00+00:00"


@pytest.fixture(scope="module")
def ace(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    folder = fit_emt(tmp_path_factory.mktemp("ace"), ["Al"])
    return load_evaluator(folder / "potential.yaml", folder / "potential.asi")


def melt(repeat: int = 5) -> Atoms:
    """Hot aluminium: strongly rattled, and expanded a little."""
    atoms = bulk("Al", a=4.1, cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.25, seed=3)
    return atoms


def chosen(frame: Atoms, center: int, ace: Evaluator, more_than: int = 0, **changes: Any) -> Any:
    settings = EmbeddingSettings(**changes)
    return choose_cell(frame, center, settings, potential_cutoff=ace.cutoff, evaluator=ace, more_than=more_than)


@pytest.mark.parametrize("center", [3, 250])
def test_the_smallest_faithful_cell_is_taken(ace: Evaluator, center: int) -> None:
    frame = melt()
    cell = chosen(frame, center, ace)
    assert cell.fidelity.force_error <= 0.07
    assert 0.9 <= cell.fidelity.gamma_ratio <= 1.1
    assert len(cell.carved.atoms) <= 100
    # The one before is measured here by other means, and is not good enough.
    before = chosen(frame, center, ace, buffer_size=cell.buffer_size - 0.25, max_core_force_error=None)
    said, parent = evaluate(ace, before.carved.atoms), evaluate(ace, frame)
    error, _ = force_errors(before.carved, said.forces, parent.forces)
    ratio = said.gamma[before.carved.center] / parent.gamma[center]
    assert error > 0.07 or not 0.9 <= ratio <= 1.1
    assert before.fidelity.force_error == pytest.approx(error)
    assert before.fidelity.gamma_ratio == pytest.approx(ratio)


def test_what_the_potential_tells_is_what_the_teacher_finds(ace: Evaluator) -> None:
    frame = melt()
    cell = chosen(frame, 77, ace)
    forces = []
    for atoms in (cell.carved.atoms, frame):
        copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        copy.calc = EMT()
        forces.append(copy.get_forces())
    assert force_errors(cell.carved, *forces)[0] < 0.1


@pytest.mark.parametrize("mode", ["dodecahedron", "box", "sphere", "snap"])
def test_a_frame_that_is_small_is_the_last_resort(ace: Evaluator, mode: str) -> None:
    frame = melt(2)
    cell = chosen(frame, 5, ace, mode=mode, max_core_force_error=1e-6)
    assert len(cell.carved.atoms) == 32
    assert cell.fidelity.force_error < 1e-6
    only = chosen(frame, 5, ace, mode="cell")
    assert only.carved.force_mask.all()
    assert only.fidelity.largest_force_error < 1e-9
    assert only.fidelity.gamma_ratio == pytest.approx(1.0)


def test_a_refusal_says_what_was_best_and_what_to_do(ace: Evaluator) -> None:
    with pytest.raises(
        NoFaithfulCell, match=r"atom 3: no cell of up to 40 atoms .* core-force error 0\.\d+ eV/A"
    ) as told:
        chosen(melt(), 3, ace, max_atoms=40)
    assert "embedding.max_atoms" in told.value.hint
    with pytest.raises(NoFaithfulCell, match=r"the smallest has more than embedding\.max_atoms 5"):
        chosen(melt(), 3, ace, max_atoms=5)
    with pytest.raises(NoFaithfulCell, match="up to 100 atoms"):
        chosen(melt(), 3, ace, mode="cell")


def test_the_best_of_the_poor_is_taken_where_one_is_wanted_in_any_case(ace: Evaluator) -> None:
    frame, settings = melt(), EmbeddingSettings(max_core_force_error=1e-9)
    best = choose_cell(frame, 3, settings, potential_cutoff=ace.cutoff, evaluator=ace, or_best=True)
    assert len(best.carved.atoms) <= settings.max_atoms
    first = chosen(frame, 3, ace, max_core_force_error=None)
    assert 1e-9 < best.fidelity.force_error < first.fidelity.force_error
    with pytest.raises(NoFaithfulCell, match=f"the best one has {len(best.carved.atoms)} atoms"):
        chosen(frame, 3, ace, max_core_force_error=1e-9)
    good = EmbeddingSettings()
    lenient = choose_cell(frame, 3, good, potential_cutoff=ace.cutoff, evaluator=ace, or_best=True)
    assert lenient.carved.atoms == chosen(frame, 3, ace).carved.atoms
    tiny = EmbeddingSettings(max_atoms=5)
    with pytest.raises(NoFaithfulCell, match="the smallest has more"):
        choose_cell(frame, 3, tiny, potential_cutoff=ace.cutoff, evaluator=ace, or_best=True)


def test_null_asks_and_refuses_nothing(ace: Evaluator) -> None:
    cell = chosen(melt(), 3, ace, buffer_size=0.5, max_core_force_error=None, max_atoms=10)
    assert cell.fidelity.force_error > 0.07
    assert cell.buffer_size == 0.5
    blind = choose_cell(melt(), 3, EmbeddingSettings(buffer_size=0.5), potential_cutoff=5.0)
    assert blind.fidelity is None
    assert np.array_equal(blind.carved.parent_indices, cell.carved.parent_indices)


def task(ace: Evaluator, **changes: Any) -> Any:
    frame = melt()
    frame.arrays["gamma"] = np.linspace(1, 9, len(frame))
    arguments: dict[str, Any] = {"settings": EmbeddingSettings(), "evaluator": ace} | changes
    return carve_task(
        frame, 250, potential_cutoff=5.0, labeller=LABELLER, origin={"walker": "w00"}, created=CREATED, **arguments
    ).task


def test_the_choice_is_in_the_task_and_repeats(ace: Evaluator) -> None:
    one, two = task(ace), task(ace)
    assert one == two
    told = one.origin["embedding"]
    assert set(told) == {
        "mode", "buffer_size", "atoms", "contacts", "largest_move", "force_error", "largest_force_error", "gamma_ratio",
    }  # fmt: skip
    assert told["atoms"] == len(one.force_mask)
    assert told["largest_force_error"] >= told["force_error"] > 0.0


def test_never_the_same_carve_twice(ace: Evaluator) -> None:
    first = task(ace)
    second = task(ace, is_known={first.id}.__contains__)
    assert second.id != first.id
    assert len(second.force_mask) > len(first.force_mask)
    assert len(task(ace, more_than=len(second.force_mask)).force_mask) > len(second.force_mask)


def test_a_grade_that_is_beyond_all_measure_is_no_number_in_the_file(ace: Evaluator) -> None:
    assert gamma_ratio(float("inf"), 1e9) == 1.0
    assert gamma_ratio(float("inf"), 2.0) == float("inf")
    assert gamma_ratio(3.0, 2.0) == 1.5
    cell = chosen(melt(), 3, ace, max_core_force_error=None)
    said, parent = evaluate(ace, cell.carved.atoms), evaluate(ace, melt())
    said.gamma[cell.carved.center] = np.inf
    said.forces[cell.carved.center] = np.nan
    worst = measure(cell.carved, said, parent)
    assert worst.force_error == worst.gamma_ratio == float("inf")
    facts = type(cell)(cell.carved, "box", 2.0, worst).to_dict()
    assert facts["gamma_ratio"] is facts["force_error"] is None


def test_whole_cells_are_a_share_of_all() -> None:
    ids = [hashlib.sha256(str(n).encode()).hexdigest()[:20] for n in range(4000)]
    whole = sum(is_chosen(task_id, 0.1) for task_id in ids)
    assert whole / (whole + len(ids)) == pytest.approx(0.1, abs=0.012)
    assert not any(is_chosen(task_id, 0.0) for task_id in ids)


def test_a_whole_cell_task_masks_nothing(ace: Evaluator) -> None:
    arguments: dict[str, Any] = {
        "n_atoms": 32,
        "oxidation_states": None,
        "labeller": LABELLER,
        "origin": {"source": "whole_cell"},
        "seed": 4,
        "created": CREATED,
    }
    made = whole_cell_task(melt(), **arguments)
    assert made == whole_cell_task(melt(), **arguments)
    assert (made.config_type, made.force_mask) == ("whole_cell", [1] * 32)
    gamma = evaluate(ace, made.atoms()).gamma
    assert gamma is not None
    assert gamma.max() < 5.0 * evaluate(ace, melt()).gamma.max()


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="'Xx' is no element"):
        EmbeddingSettings(oxidation_states={"Xx": 1.0})


def test_a_cell_that_cannot_be_neutral_is_told(ace: Evaluator) -> None:
    """And it is one that is not sent, which a walker survives."""
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 4
    salt.numbers[:] = np.where(salt.numbers == 11, 11, 17)
    with pytest.raises(NoFaithfulCell, match="oxidation_states"):
        choose_cell(
            salt, 0, EmbeddingSettings(oxidation_states={"Na": 1, "Cl": 1}), potential_cutoff=5.0, evaluator=None
        )

"""Moments of neighbouring labels: jumps are flagged, heat is not."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlip_autopipec.daemons.moments import FLAG, MomentWatch
from mlip_autopipec.store.dataset import Dataset, DatasetRow


def row(
    number: int, moments: list[float] | None, step: int, walker: str = "w00", symbols: str = "NiNiOO"
) -> DatasetRow:
    atoms = Atoms(symbols, positions=np.eye(4, 3) * 2, cell=[9, 9, 9], pbc=True)
    return DatasetRow(
        task_id=f"{number:020x}",
        atoms=atoms,
        energy=-1.0,
        forces=np.zeros((4, 3)),
        stress=None,
        force_mask=(1, 1, 1, 1),
        config_type="active_learning",
        origin={"walker": walker, "step": step},
        moments=None if moments is None else np.array(moments),
    )


def flags(rows: list[DatasetRow]) -> dict[str, dict[str, str]]:
    return {r.task_id[-1]: r.flags for r in MomentWatch(0.5).judged(rows) if r.flags}


AFM = [1.6, -1.6, 0.0, 0.0]


def test_a_spin_transition_is_flagged_on_the_later_label() -> None:
    found = flags([row(1, AFM, 10), row(2, [1.5, -1.7, 0.1, 0.1], 20), row(3, [0.4, -0.3, 0.0, 0.0], 30)])
    assert set(found) == {"3"}
    assert found["3"][FLAG].startswith("moment of Ni 0.35 instead of 1.60 Bohr magnetons per atom (label ")
    assert found["3"][FLAG].endswith("2, step 20)")


def test_another_magnetic_order_is_flagged_though_the_sizes_stay() -> None:
    found = flags([row(1, AFM, 10), row(2, [1.6, 1.6, 0.0, 0.0], 20)])
    assert "net moment of Ni 1.60 instead of 0.00" in found["2"][FLAG]


def test_only_labels_of_one_walker_and_the_same_elements_are_neighbours() -> None:
    assert not flags([row(1, AFM, 10), row(2, [0.0] * 4, 20, walker="w01"), row(3, [0.0] * 4, 20, symbols="NiNiNiNi")])
    assert not flags([row(1, AFM, 10), row(2, None, 20)])


def test_a_turned_sign_of_all_moments_is_the_same_state() -> None:
    assert not flags([row(1, AFM, 10), row(2, [-1.6, 1.6, 0.0, 0.0], 20)])


def test_moments_and_flags_survive_in_the_dataset(tmp_path) -> None:
    dataset = Dataset(tmp_path / "dataset.db")
    first = row(1, AFM, 10)
    dataset.ingest([first, row(7, None, 15)])
    watch = MomentWatch(0.5)
    watch.load(Dataset(tmp_path / "dataset.db").magnetic())
    dataset.ingest(watch.judged([row(2, [0.0] * 4, 20)]))
    assert set(dataset.flags()) == {f"{2:020x}"}
    read = {r.task_id: r for r in dataset.rows()}
    np.testing.assert_array_equal(read[first.task_id].moments, AFM)
    assert read[f"{7:020x}"].moments is None
    assert list(read[f"{2:020x}"].flags) == [FLAG]
    # What users search by: `ase db dataset.db mean_moment>0.5`, `ase db dataset.db flags=moment_jump`.
    assert [r.task for r in dataset._db.select("mean_moment>0.5")] == [f"task-{first.task_id}"]
    assert [r.task for r in dataset._db.select(flags=FLAG)] == [f"task-{2:020x}"]

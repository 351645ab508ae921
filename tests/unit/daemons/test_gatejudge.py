"""Which old versions the gate may ask by memory, on which labels, and whom the held-out labels hold back."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.interfaces import Design, Evaluation
from mlip_autopipec.daemons.gatejudge import GateJudge, NewVersion
from mlip_autopipec.stages.train import Prediction
from mlip_autopipec.store.dataset import DatasetRow
from mlip_autopipec.store.registry import FILES, Registry


def row(number: int) -> DatasetRow:
    """One atom whose forces are 1 eV/A."""
    return DatasetRow(f"t{number}", Atoms("Ar"), 0.0, np.ones((1, 3)), None, (1,), "any")


HELD = [row(number) for number in range(6)]


def design(scale: float) -> Design:
    """Of one function, with forces of `scale`."""
    return Design(np.zeros(1), np.full((1, 3, 1), scale), {})


def by_file(potential, active_set, atoms):
    """What the files of every version say: forces that are wrong by 0.1 eV/A."""
    return Evaluation(0.0, np.zeros(1), np.full((1, 3), 1.1), np.zeros(6), None)


class Gate:
    def __init__(self, root) -> None:
        self.registry = Registry(root / "potentials")
        self.registry.folder.mkdir()
        self.judge = GateJudge(self.registry, by_file, level=5.0, tolerance=0.25)

    def asked(self, coefficient: float, current: str | None, *, say=None, scale: float = 1.0, **manifest):
        """Judge and publish a version; return its name, what the gate says of held-out labels, and the reasons."""
        work = self.registry.new_work_folder()
        for name in FILES:
            (work / name).write_text(f"{coefficient}")
        new = NewVersion(work, [], np.array([coefficient]), {}, say)
        reasons = self.judge.judge(new, HELD, {"Ar": 0.0}, current, lambda row: design(scale))
        checks = {check["name"]: check for check in read_json(work / "gate.json")["checks"]}
        return self.registry.publish(work, {"task_ids": [], **manifest}), checks["held_out"], reasons


@pytest.fixture
def gate(tmp_path, monkeypatch) -> Gate:
    monkeypatch.setattr("mlip_autopipec.daemons.gatejudge._graded", lambda *_: iter(()))
    return Gate(tmp_path)


def test_a_linear_version_is_remembered(gate):
    first, _, _ = gate.asked(1.3, None)
    _, held_out, _ = gate.asked(1.2, first)
    assert held_out["numbers"]["any"]["force_rmse_current"] == pytest.approx(0.3)


def test_old_coefficients_do_not_meet_rows_of_other_functions(gate):
    first, _, _ = gate.asked(1.3, None)
    _, held_out, _ = gate.asked(1.2, first, say=lambda row: Prediction(0.0, np.full((1, 3), 1.05)), scale=7.0)
    assert held_out["numbers"]["any"]["force_rmse_current"] == pytest.approx(0.1)
    assert held_out["numbers"]["any"]["force_rmse"] == pytest.approx(0.05)


@pytest.mark.parametrize("trainer", ["pacemaker", "linear"])
def test_a_refined_version_holds_no_linear_one_back(gate, trainer):
    said = (lambda row: Prediction(0.0, np.full((1, 3), 1.1))) if trainer == "pacemaker" else None
    first, _, _ = gate.asked(1.1, None, say=said, trainer=trainer)
    _, held_out, reasons = gate.asked(1.5, first)
    assert "RMSE 0.5, of the current version 0.1" in held_out["told"]
    assert bool(reasons) == (trainer == "linear")
    assert ("holds nothing back" in held_out["told"]) == (trainer == "pacemaker")


def test_a_refined_version_holds_a_refined_one_back(gate):
    first, _, _ = gate.asked(1.1, None, trainer="pacemaker")
    assert gate.asked(1.5, first, say=lambda row: Prediction(0.0, np.full((1, 3), 1.5)))[2]


def test_labels_that_the_current_version_has_learned_do_not_compare_it(gate):
    first, _, _ = gate.asked(1.1, None, task_ids=["t0", "t1"])
    assert gate.asked(1.2, first)[1]["numbers"]["any"]["structures"] == 4

"""The same labels, fitted with each training mask."""

from __future__ import annotations

from typing import Any, get_args

from lab import Lab, Point

from mlip_autopipec.ace.linear import RowReducer, solve
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.daemons.isolated import isolated_energies
from mlip_autopipec.stages.masking import Masking, TrainMask
from mlip_autopipec.stages.train import Weighting, labelled_design, stiffness


def compared(lab: Lab) -> list[dict[str, Any]]:
    """Return one row for each mask: atoms that teach, and force RMSE by system."""
    training = lab.config.training
    rows = [row for row in lab.intake.dataset.rows() if row.task_id in lab.intake.trainable]
    elements = sorted({symbol for row in rows for symbol in row.atoms.get_chemical_symbols()})
    isolated = isolated_energies(
        lab.run, elements, training.reference_energies, lab.config.labeller_settings(), lab.config.node
    )
    basis = make_basis(training, elements)
    designs = {row.task_id: basis.design(row.atoms) for row in rows}
    found = []
    for kind in get_args(TrainMask):
        masked, _ = Masking(kind, training.force_limit).masked(rows)
        weighting = Weighting(masked, training, isolated)
        reducer = RowReducer(basis.n_coefficients)
        for row in masked:
            reducer.add(*labelled_design(row, designs[row.task_id], weighting.of(row), isolated).rows())
        fit = solve(reducer.triangle(), stiffness(basis, training), ridge=training.ridge)
        folder = lab.run.root / f"mask-{kind}"
        folder.mkdir()
        basis.write(fit.coefficients, isolated, folder)
        errors = lab.judge(load_evaluator(folder / "potential.yaml"))
        point = Point(len(lab.sizes), 0.0, errors)
        taught = sum(int(row.learned.sum()) for row in masked)
        found.append({"mask": kind, "labels": point.labels, "taught": taught, "rmse": point.rmse, **errors})
    return found

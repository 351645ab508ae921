"""A potential that the user brought, as a version of the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.files import write_json, write_text
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.gate import evaluation_by, samples
from mlip_autopipec.stages.publish import check
from mlip_autopipec.stages.train import Prediction, errors
from mlip_autopipec.stages.watch import Engine
from mlip_autopipec.store.dataset import DatasetRow
from mlip_autopipec.store.labelrange import KEY, label_range


def known_elements(potential: Path) -> tuple[str, ...]:
    """Return the elements that a `.yaml` potential knows."""
    return read_yaml(potential).elements


def adopt(
    rows: Sequence[DatasetRow],
    isolated: Mapping[str, float],
    potential: Path,
    active_set: Path,
    folder: Path,
    engine: Engine = "ace",
) -> dict[str, Any]:
    """Make a work folder of `potential` (.yaml) and `active_set` (.asi) as they are; return facts for the manifest.

    Parameters
    ----------
    rows
        All labels, perhaps none; the potential's errors on them are its metrics.
    isolated
        Energy of one free atom per element, eV, for the `.yace`.
    engine
        That walkers use.

    Raises
    ------
    ModelError
        A file is unreadable, they do not belong together, or they do not know an element.
    """
    basis = make_basis(read_yaml(potential))
    elements = basis.elements
    write_yace(to_products(basis, isolated), folder / "potential.yace")
    shutil.copyfile(potential, folder / "potential.yaml")
    shutil.copyfile(active_set, folder / "potential.asi")
    make_evaluator(folder, engine)  # do the two belong together? There may be no rows to try them on
    evaluate = evaluation_by(engine)
    said = {}
    for row in rows:
        if unknown := sorted(row.composition.keys() - set(elements)):
            raise ModelError(f"{potential}: does not know {unknown[0]}, which start.dataset contains")
        result = evaluate(folder / "potential.yaml", folder / "potential.asi", row.atoms)
        said[row.task_id] = Prediction(result.energy, result.forces)
    check(folder, samples(rows, said, forces_entered=False), isolated, evaluate)
    seen = label_range(rows, isolated)
    write_json(folder / "metrics.json", {**errors(rows, said, isolated), KEY: seen and seen.to_dict()})
    origin = {"trainer": "given", "potential": str(potential), "active_set": str(active_set)}
    energies = {element: float(isolated[element]) for element in elements}
    write_text(folder / "train_config.yaml", dump_mapping({**origin, "isolated_atom_energies": energies}))
    return {"task_ids": [row.task_id for row in rows], **origin}

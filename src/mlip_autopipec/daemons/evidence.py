"""What the labels of a run told, by kind of seed: what the policy of the next run goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.stages.policy import Evidence
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.structures.seeds.configtypes import CONFIG_TYPES

# Beyond, a structure is news; that a pair in vacuum is so by a thousand times does not make it worth more.
_NEWS: Final = 10.0

Projections = Mapping[str, FloatArray]


def evidence_of(run: RunDirectory, training: TrainingSettings) -> dict[str, Evidence]:
    """Return what the labels of each kind of seed told of a run.

    Seeds are labelled before there is a potential that could grade them, so they are graded afterwards: by the active
    set of all labels of other kinds. What these would have known, too, was not worth much.

    Parameters
    ----------
    training
        The run's, for its basis.

    Raises
    ------
    NotFoundError
        The run has no label of a seed.
    """
    rows = list(Dataset(run.dataset).rows()) if run.dataset.exists() else []
    kinds = [row.config_type for row in rows]
    told = sorted(set(kinds) & set(CONFIG_TYPES))
    if not told:
        raise NotFoundError(
            f"{run.root}: no label of a seed", "give a run that autopipe init made, and that has labels"
        )
    basis = make_basis(training, sorted({symbol for row in rows for symbol in row.composition}))
    found: list[Projections] = [
        {element: values for element, (_, values) in basis.projections(row.atoms).items()} for row in rows
    ]
    return {
        kind: _evidence(
            [one for one, name in zip(found, kinds, strict=True) if name == kind],
            [one for one, name in zip(found, kinds, strict=True) if name != kind],
        )
        for kind in told
    }


def _evidence(mine: Sequence[Projections], others: Sequence[Projections]) -> Evidence:
    grades = np.zeros(len(mine))
    for element in sorted({element for one in mine for element in one}):
        known = [one[element] for one in others if element in one]
        seen = active_set(known) if known else None
        for place, one in enumerate(mine):
            if element in one:
                news = _NEWS if seen is None else float(seen.gamma(one[element]).max(initial=0.0))
                grades[place] = max(grades[place], news)
    return Evidence(len(mine), float(np.minimum(grades, _NEWS).mean()))

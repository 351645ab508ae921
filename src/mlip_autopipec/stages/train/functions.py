"""Which functions a fit has where its labels decide: cutoff by their density, number by how many there are.

The choice stands in a version's folder (`basis.yaml`, and its reason in the manifest), and the next fit goes on from
it: functions change only where the labels have become enough for clearly more of them, or too few for these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlip_autopipec.ace.basis_size import (
    LONGEST_CUTOFF,
    NEIGHBOURS,
    ROWS_PER_FUNCTION,
    RUNGS,
    SHORTEST_CUTOFF,
    choose_basis,
    count_functions,
    dense_cutoff,
    highest_rung,
)
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml, yaml_text
from mlip_autopipec.ace.records import Configuration
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.stages.train.settings import TrainingSettings
from mlip_autopipec.store.dataset import DatasetRow

FILE: Final = "basis.yaml"
# Labels that come by tens must not bring another basis each time: so much more than the next rung needs.
_MARGIN: Final = 1.25


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions that were chosen for labels.

    Attributes
    ----------
    configuration : all coefficients zero
    told : what was chosen and why; JSON-ready
    """

    configuration: Configuration
    told: dict[str, Any]

    @property
    def text(self) -> str:
        """The `.yaml` of the functions; equal functions, equal text."""
        return yaml_text(self.configuration)

    def write(self, folder: Path) -> None:
        """Keep them in a version's folder."""
        write_yaml(self.configuration, folder / FILE)


def kept_functions(folder: Path, manifest: Mapping[str, Any]) -> Functions | None:
    """Return the functions of an earlier version; None if its labels did not choose them, or they are damaged."""
    told = manifest.get("functions")
    if not isinstance(told, dict):
        return None
    try:
        return Functions(read_yaml(folder / FILE), told)
    except (AutopipeError, OSError):
        return None


def chosen_functions(
    settings: TrainingSettings, rows: Sequence[DatasetRow], elements: Sequence[str], before: Functions | None
) -> Functions:
    """Choose the functions of a fit.

    Parameters
    ----------
    before
        Those of the last version, which stay unless the labels want others.

    Raises
    ------
    DataError
        No atom has a neighbour.
    """
    wish: dict[str, Any] = {"elements": sorted(elements), "settings": settings.basis.model_dump(mode="json")}
    if settings.functions == "ladder":
        wish |= {"largest_rung": settings.largest_rung}
    if before is not None and any(before.told.get(key) != value for key, value in wish.items()):
        before = None
    rung = None if settings.functions == "given" else _rung(settings, rows, elements, before)
    if before is not None and before.told.get("rung") == rung:
        return before
    cutoff = float(before.told["cutoff"]) if before is not None else settings.cutoff
    return _made(settings, rows, elements, rung, cutoff, wish)


def carried(rows: Sequence[DatasetRow], elements: Sequence[str]) -> int:
    """Return how many functions labels can carry: the element with the fewest learned atoms decides for each."""
    learned = np.concatenate([np.asarray(row.atoms.symbols)[row.learned] for row in rows] or [np.zeros(0, dtype=str)])
    fewest = min(int((learned == element).sum()) for element in elements)
    return 3 * fewest * len(elements) // ROWS_PER_FUNCTION


def _rung(
    settings: TrainingSettings, rows: Sequence[DatasetRow], elements: Sequence[str], before: Functions | None
) -> int:
    most, top = carried(rows, elements), settings.largest_rung
    possible = highest_rung(elements, LONGEST_CUTOFF, most, top)
    if before is None or possible <= before.told["rung"]:
        return possible
    return max(int(before.told["rung"]), highest_rung(elements, LONGEST_CUTOFF, int(most / _MARGIN), top))


def _made(
    settings: TrainingSettings,
    rows: Sequence[DatasetRow],
    elements: Sequence[str],
    rung: int | None,
    cutoff: float | None,
    wish: Mapping[str, Any],
) -> Functions:
    structures = [row.atoms for row in rows]
    why = "training.cutoff"
    if settings.cutoff is None:
        why = (
            f"half of the atoms of the first fit's labels had {NEIGHBOURS} neighbours within it; {SHORTEST_CUTOFF:g} A "
            f"at least, {LONGEST_CUTOFF:g} at most"
        )
    if rung is None:
        cutoff = cutoff or dense_cutoff(structures)
        configuration = settings.configuration(elements, cutoff)
        number = "training.nradmax_by_orders and lmax_by_orders"
    else:
        most = carried(rows, elements)
        choice = choose_basis(structures, most * ROWS_PER_FUNCTION, rung=rung, lowest=RUNGS[0], cutoff=cutoff)
        configuration, cutoff = choice.configuration, choice.cutoff
        number = (
            f"rung {rung} of at most {settings.largest_rung}: the labels carry {most} functions, one for "
            f"{ROWS_PER_FUNCTION} force components of the element with the fewest learned atoms"
        )
    told = {
        **wish, "rung": rung, "cutoff": cutoff, "functions": count_functions(configuration),
        "why": {"cutoff": why, "functions": number},
    }  # fmt: skip
    return Functions(configuration, told)

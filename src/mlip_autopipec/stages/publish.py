"""potential -> publish: active set (.asi), gate checks -> potentials/v0007/, atomic `current`.

Reads: the work folder of `train`. Writes: `potential.asi` and `active_rows.npz` into it; `potentials/vNNNN/`,
`potentials/current.json`. Next: `swap`.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.formats.asi import read_asi, write_asi
from mlip_autopipec.ace.growing import GrownSet
from mlip_autopipec.ace.maxvol import ActiveSet
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluation, FloatArray
from mlip_autopipec.store.registry import Registry

# ``evaluate(potential, active_set or None, atoms)``: what the MD engine will compute; gamma if there is an active set.
Evaluate = Callable[[Path, Path | None, Atoms], Evaluation]

logger = logging.getLogger(__name__)

_ACTIVE_ROWS = "active_rows.npz"
# Relative to the size of what is compared: coefficients of 1e6 that cancel cost some of the 16 digits.
_AGREEMENT = 1e-6
# MaxVol stops at 1.001; the rest is rounding through an ill-conditioned inverse.
_LARGEST_TRAINING_GAMMA = 1.05


@dataclass(frozen=True)
class Sample:
    """A structure with what the trainer says about it.

    Attributes
    ----------
    name : for messages
    atoms : the structure
    energy : eV, relative to isolated atoms
    forces : (N, 3) eV/A
    entered : (N,) bool, atoms whose rows are in the active set's training rows
    """

    name: str
    atoms: Atoms
    energy: float
    forces: FloatArray
    entered: np.ndarray[Any, np.dtype[np.bool_]]


def write_grades(folder: Path, sets: Mapping[str, GrownSet]) -> None:
    """Write `potential.asi`, and into `active_rows.npz` what the next version's active sets can begin with."""
    write_asi({element: found.active.inverse for element, found in sets.items()}, folder / "potential.asi")
    arrays: dict[str, Any] = {}
    for element, found in sets.items():
        counts = np.array([found.n_seen, found.n_selected])
        named = {"rows": found.active.rows, "indices": found.active.indices, "counts": counts}
        arrays |= {f"{element}.{name}": array for name, array in named.items()}
    np.savez(folder / _ACTIVE_ROWS, **arrays)


def read_grades(folder: Path) -> dict[str, GrownSet]:
    """Return what `write_grades` wrote; nothing if a file is missing or damaged: then all is selected anew."""
    try:
        inverses = read_asi(folder / "potential.asi")
        with (folder / _ACTIVE_ROWS).open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            found = {}
            for element, inverse in inverses.items():
                indices, rows, counts = (archive[f"{element}.{name}"] for name in ("indices", "rows", "counts"))
                found[element] = GrownSet(ActiveSet(indices, inverse, rows), *map(int, counts))
    except (ModelError, OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        logger.info("%s: active set is selected anew: %s", folder, error)
        return {}
    return found


def check(folder: Path, samples: Sequence[Sample], isolated: Mapping[str, float], evaluate: Evaluate) -> None:
    """The gate: the files load, say the same as the trainer and each other, and grade training rows as known.

    Raises
    ------
    ModelError
        What is wrong; the version must not be published.
    """
    for sample in samples:
        full = evaluate(folder / "potential.yaml", folder / "potential.asi", sample.atoms)
        fast = evaluate(folder / "potential.yace", None, sample.atoms)
        free = sum(isolated[symbol] for symbol in sample.atoms.get_chemical_symbols())
        size = max(1.0, float(np.abs(full.energies).max(initial=0.0))) * len(sample.atoms)
        _agree(sample.name, "energy of trainer and .yaml", sample.energy, full.energy, size)
        _agree(sample.name, "energy of .yaml and .yace", full.energy + free, fast.energy, size)
        largest = max(1.0, float(np.abs(sample.forces).max(initial=0.0)))
        _agree(sample.name, "forces of trainer and .yaml", sample.forces, full.forces, largest)
        _agree(sample.name, "forces of .yaml and .yace", full.forces, fast.forces, largest)
        if full.gamma is None or not np.isfinite(full.gamma).all():
            raise ModelError(f"gate: {sample.name}: gamma is missing or not finite")
        worst = float(full.gamma[sample.entered].max(initial=0.0))
        if worst > _LARGEST_TRAINING_GAMMA:
            raise ModelError(f"gate: {sample.name}: gamma {worst:.3g} on atoms that were trained on")


def _agree(name: str, what: str, one: float | FloatArray, other: float | FloatArray, size: float) -> None:
    difference = float(np.abs(np.asarray(one) - np.asarray(other)).max(initial=0.0))
    if not difference <= _AGREEMENT * size:
        raise ModelError(f"gate: {name}: {what} differ by {difference:.3g}", "a larger training.ridge tames the fit")


def publish(registry: Registry, folder: Path, manifest: Mapping[str, Any]) -> str:
    """Make the checked work folder the next version, which all walkers then see; return its name."""
    return registry.publish(folder, manifest)

"""Labels as the pickled dataframe that pacemaker reads, also that of another environment with an older pandas."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import EngineError, OutputUnreadable
from mlip_autopipec.core.interfaces import FloatArray

_NUMBERS: Final = ("energy", "energy_corrected", "w_energy")
# The newest that Python 3.7 and pandas 1 can read.
_PROTOCOL: Final = 4
# A, more than any cutoff.
_VACUUM: Final = 16.0


@dataclass(frozen=True)
class Labelled:
    """One row.

    Attributes
    ----------
    name : task id
    atoms : without calculator
    energy : eV, as labelled
    energy_corrected : eV, minus that of its atoms one by one
    forces : (N, 3) eV/A
    energy_weight : dimensionless, of the squared error of the energy per atom
    force_weights : (N,) dimensionless, of squared errors of the components; 0 for masked atoms
    """

    name: str
    atoms: Atoms
    energy: float
    energy_corrected: float
    forces: FloatArray
    energy_weight: float
    force_weights: FloatArray


def write_dataframe(rows: Sequence[Labelled], path: Path) -> None:
    """Write `rows` as a gzipped pickle: ase_atoms, energy, energy_corrected, forces, w_energy, w_forces, name.

    The weights of energies, and those of forces, are scaled so that their sum is 1, as pacemaker does it.

    Raises
    ------
    EngineError
        pandas, which comes with python-ace, is not installed.
    """
    pandas = require_pandas()
    energies = np.array([row.energy_weight for row in rows], dtype=float)
    forces = float(sum(row.force_weights.sum() for row in rows))
    columns: dict[str, list[Any]] = {
        "ase_atoms": [periodic(row.atoms) for row in rows],
        "energy": [float(row.energy) for row in rows],
        "energy_corrected": [float(row.energy_corrected) for row in rows],
        "forces": [np.asarray(row.forces, dtype=float) for row in rows],
        "w_energy": (energies / (energies.sum() or 1.0)).tolist(),
        "w_forces": [row.force_weights / (forces or 1.0) for row in rows],
        "name": [row.name for row in rows],
    }
    # Plain objects throughout: pandas 3 makes string columns (and names) that pandas 2 cannot unpickle.
    frame = pandas.DataFrame(
        {key: pandas.Series(values, dtype=float if key in _NUMBERS else object) for key, values in columns.items()}
    )
    frame.columns = pandas.Index(list(columns), dtype=object)
    part = path.with_name(f"{path.name}.part")
    frame.to_pickle(part, compression="gzip", protocol=_PROTOCOL)
    os.replace(part, path)


def periodic(atoms: Atoms) -> Atoms:
    """Return a copy with vacuum in place of directions without period, since python-ace refuses slabs."""
    copy: Atoms = atoms.copy()
    copy.info, copy.calc = {}, None
    for axis in np.flatnonzero(~copy.pbc):
        copy.center(vacuum=_VACUUM / 2, axis=int(axis))
    copy.pbc = True
    return copy


def read_predictions(path: Path) -> dict[str, tuple[float, FloatArray]]:
    """Return name -> energy (eV, relative to isolated atoms) and forces (N, 3) eV/A that pacemaker wrote.

    Raises
    ------
    OutputUnreadable
        The file is missing, damaged, or has no predictions.
    """
    try:
        frame = require_pandas().read_pickle(path, compression="gzip")
        return {
            str(row["name"]): (float(row["energy_pred"]), np.asarray(row["forces_pred"], dtype=float))
            for _, row in frame.iterrows()
        }
    except (OSError, EOFError, KeyError, ValueError, AttributeError, ImportError, pickle.UnpicklingError) as error:
        raise OutputUnreadable(f"{path}: pacemaker's predictions cannot be read: {error}") from error


def force_share(rows: Sequence[Labelled]) -> float:
    """Return pacemaker's kappa for which its loss is ours: sum of weights of forces over that of all."""
    energies = sum(row.energy_weight for row in rows)
    forces = float(sum(row.force_weights.sum() for row in rows))
    return forces / (energies + forces) if energies + forces else 0.0


def require_pandas() -> Any:
    """Return the module pandas, which comes with python-ace; raise `EngineError` if it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise EngineError(
            f"pacemaker's dataframes need pandas: {error}", "pip install 'mlip-autopipec[pacemaker]'"
        ) from error
    return pandas

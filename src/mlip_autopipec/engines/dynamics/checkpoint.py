"""Where a trajectory stood: all that its next step depends on, to the bit."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import write_bytes
from mlip_autopipec.core.interfaces import FloatArray

NAME: Final = "checkpoint.npz"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One instant of a trajectory.

    Attributes
    ----------
    step : MD steps so far
    positions, momenta : (N, 3) ASE units
    cell : (3, 3) A
    barostat : momentum of the cell's volume, ASE units; 0 at constant volume
    rng : state of the random numbers
    frames, n_frames : bytes and number of the frames written so far
    volume : A^3 at the start of the trajectory
    cell_force : on the cell's volume, eV, of momenta half a step ago; None at constant volume
    """

    step: int
    positions: FloatArray
    momenta: FloatArray
    cell: FloatArray
    barostat: float
    rng: dict[str, Any]
    frames: int
    n_frames: int
    volume: float
    cell_force: float | None = None

    def write(self, folder: Path) -> None:
        """Replace the checkpoint of `folder`."""
        buffer = io.BytesIO()
        names = ("step", "barostat", "rng", "frames", "n_frames", "volume", "cell_force")
        rest = {name: getattr(self, name) for name in names}
        np.savez(
            buffer, rest=np.array(json.dumps(rest)), positions=self.positions, momenta=self.momenta, cell=self.cell
        )
        write_bytes(folder / NAME, buffer.getvalue())

    @classmethod
    def read(cls, folder: Path) -> Checkpoint | None:
        """Return the checkpoint of `folder`, None if it has none.

        Raises
        ------
        DataError
            The file is damaged.
        """
        path = folder / NAME
        try:
            with np.load(path, allow_pickle=False) as found:
                positions, momenta, cell = (np.array(found[name]) for name in ("positions", "momenta", "cell"))
                rest: dict[str, Any] = json.loads(str(found["rest"]))
                return cls(positions=positions, momenta=momenta, cell=cell, **rest)
        except FileNotFoundError:
            return None
        # A zip file that was damaged by a disk fails in any way.
        except Exception as error:
            raise DataError(f"{path}: no checkpoint: {error}", "remove it: the trajectory starts anew") from error

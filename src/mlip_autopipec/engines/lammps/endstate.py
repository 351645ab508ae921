"""What a LAMMPS that ran as a program left behind: its last frame, its log, its looks at gamma."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlip_autopipec.core.conventions import EV_PER_A3_IN_BAR, reorder_voigt
from mlip_autopipec.core.errors import OutputUnreadable
from mlip_autopipec.core.interfaces import Evaluation, FloatArray, IntArray

_HINT = "see log.lammps and lammps.out beside it"


@dataclass(frozen=True)
class EndState:
    """The last step of a block.

    Attributes
    ----------
    step : step number
    box : (3, 3) A, rows of a lower triangle
    types : (N,) LAMMPS' types, in the order of the atoms' ids
    positions, velocities : (N, 3) A and A/ps, in LAMMPS' orientation
    evaluation : with gamma if it was looked at in this step; energies per atom are not told (NaN)
    temperature, density : K, g/cm^3
    """

    step: int
    box: FloatArray
    types: IntArray
    positions: FloatArray
    velocities: FloatArray
    evaluation: Evaluation
    temperature: float
    density: float


def read_end(dump: Path, log: Path) -> EndState:
    """Read the last frame and the last line of the log.

    Raises
    ------
    OutputUnreadable
        They are incomplete, or do not belong together.
    """
    try:
        step, box, columns = read_dump(dump)
        said = last_thermo(log)
        if int(said["Step"]) != step:
            raise ValueError(f"the frame is of step {step}, the log ends at {said['Step']:.0f}")
        forces = np.column_stack([columns[f"f{k}"] for k in "xyz"])
        pressure = np.array([said[f"c_virial[{k}]"] for k in range(1, 7)])
        return EndState(
            step,
            box,
            columns["type"].astype(np.int32),
            np.column_stack([columns[k] for k in "xyz"]),
            np.column_stack([columns[f"v{k}"] for k in "xyz"]),
            Evaluation(
                energy=said["PotEng"],
                energies=np.full(len(forces), np.nan),
                forces=forces,
                virial=reorder_voigt(pressure * said["Volume"] / EV_PER_A3_IN_BAR),
                gamma=columns.get("f_grade"),
            ),
            said["Temp"],
            said["Density"],
        )
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise OutputUnreadable(f"{dump.parent}: LAMMPS left no readable end: {error}", _HINT) from error


def read_dump(path: Path) -> tuple[int, FloatArray, dict[str, FloatArray]]:
    """Return step, box (3, 3) and columns of the only frame of a dump that is sorted by id."""
    lines = path.read_text().splitlines()
    places = {line.split("ITEM: ", 1)[1]: i for i, line in enumerate(lines) if line.startswith("ITEM: ")}
    step, count = int(lines[places["TIMESTEP"] + 1]), int(lines[places["NUMBER OF ATOMS"] + 1])
    bounds = next(i for key, i in places.items() if key.startswith("BOX BOUNDS"))
    names = next(key.split()[1:] for key in places if key.startswith("ATOMS"))
    rows = lines[next(i for key, i in places.items() if key.startswith("ATOMS")) + 1 :]
    if len(rows) != count:
        raise ValueError(f"{path.name} has {len(rows)} of {count} atoms")
    table = np.array([row.split() for row in rows], dtype=float)
    box = _box(np.array([line.split() for line in lines[bounds + 1 : bounds + 4]], dtype=float))
    return step, box, {name: table[:, k] for k, name in enumerate(names)}


def _box(bounds: FloatArray) -> FloatArray:
    """Return box vectors of LAMMPS' bounds, which enclose the tilted box."""
    xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else np.zeros(3)
    low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    lx, ly, lz = high - low
    return np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])


def last_thermo(log: Path) -> dict[str, float]:
    """Return the last complete line of the last table in LAMMPS' log, by column."""
    names: list[str] = []
    found: dict[str, float] = {}
    for line in log.read_text(errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            names = words
        elif names and len(words) == len(names):
            try:
                found = {name: float(word) for name, word in zip(names, words, strict=True)}
            except ValueError:
                names = []  # a sentence of as many words
    if not found:
        raise ValueError(f"{log.name} has no table of steps")
    return found


def read_looks(path: Path) -> list[tuple[int, float, int]]:
    """Return (step, largest gamma, its atom id) of every look, each step once; an unfinished last line is left out."""
    looks: dict[int, tuple[int, float, int]] = {}
    if not path.exists():
        return []
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) == 3 and not line.startswith("#"):
            step, tag, gamma = int(words[0]), float(words[1]), float(words[2])
            looks[step] = (step, gamma, int(tag))
    return list(looks.values())

"""seeds -> trajectories: MD with a surrogate from each kind of seed, at a grid of temperatures and pressures.

Reads: the start structures. Writes: tasks in `queue/explore/pending`; what comes of them lies in `explored/`. Next:
`select`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.core.shares import divided
from mlip_autopipec.store.task import Task

logger = logging.getLogger(__name__)

ENGINE: Final = "surrogate-md"
# MD of a dimer says nothing that the dimer itself does not.
_FEWEST_ATOMS: Final = 4
_SETTINGS: Final = (
    "engine", "surrogate", "temperature", "pressure_bar", "steps", "stride", "timestep_fs", "seed", "number",
)  # fmt: skip


def kind_of(atoms: Atoms) -> str:
    """Return the `config_type` of a seed."""
    return str(atoms.info.get("config_type", "bootstrap"))


def shares_of_seeds(seeds: Sequence[Atoms], shares: Mapping[str, float]) -> tuple[dict[str, float], str]:
    """Return the shares of kinds that some seed is of, and a warning of those that were dropped (or nothing).

    Raises
    ------
    ConfigError
        None is left.
    """
    there = {kind_of(atoms) for atoms in seeds}
    kept = {name: share for name, share in shares.items() if name in there}
    missing = sorted(name for name, share in shares.items() if name not in there and share > 0)
    if not any(kept.values()):
        raise ConfigError(
            f"explore.shares.{(missing or sorted(shares))[0]}: no structure of start.dataset has this config_type, nor "
            "any other with a share",
            f"there are {', '.join(sorted(there))}; explore.shares: null goes by how many there are of each",
        )
    return kept, f"explore.shares: no seed is of {', '.join(missing)}: the others share" if missing else ""


def exploration_tasks(
    seeds: Sequence[Atoms],
    surrogate: Mapping[str, Any],
    *,
    temperatures: Sequence[float],
    pressures_bar: Sequence[float],
    steps: int,
    stride: int,
    timestep_fs: float,
    trajectories: int,
    shares: Mapping[str, float] | None,
    seed: int,
    created: str,
) -> Iterator[Task]:
    """Yield the trajectories of a run; the same for the same arguments.

    Parameters
    ----------
    surrogate
        As it stands in a task: nothing that depends on a node.
    temperatures, pressures_bar
        K and bar; trajectory after trajectory takes the next of the grid of temperatures and of the seed's own volume
        and, if it is periodic, pressures.
    trajectories
        How many, divided among the seeds' kinds by `shares`, or by how many seeds of a kind there are.

    Raises
    ------
    ConfigError
        No seed is of any kind that `shares` names.
    """
    groups: dict[str, list[int]] = {}
    for number, atoms in enumerate(seeds):
        if len(atoms) >= _FEWEST_ATOMS:
            groups.setdefault(kind_of(atoms), []).append(number)
    if shares is not None:
        shares, warning = shares_of_seeds(seeds, shares)
        if warning:
            logger.warning("%s", warning)
    weights = {name: (len(found) if shares is None else shares.get(name, 0.0)) for name, found in groups.items()}
    rng, run_number = np.random.default_rng(seed), 0
    for name, count in divided(trajectories, weights).items():
        order = rng.permutation(groups[name])
        for k in range(count):
            # The second time that it is a seed's turn, other conditions are.
            number = int(order[(k + k // len(order)) % len(order)])
            atoms = seeds[number]
            pressures = [None, *(pressures_bar if atoms.pbc.all() else ())]
            # By the number in the run, not within the kind: kinds of few trajectories would all begin alike.
            row, column = divmod(run_number, len(temperatures))
            temperature, pressure = temperatures[column], pressures[(row + column) % len(pressures)]
            settings = {
                "engine": ENGINE, "surrogate": dict(surrogate), "temperature": float(temperature),
                "pressure_bar": pressure, "steps": steps, "stride": stride, "timestep_fs": timestep_fs,
                "seed": seed + run_number, "number": number,
            }  # fmt: skip
            run_number += 1
            yield Task.new(
                atoms, [1] * len(atoms), settings,
                priority=0.0, origin={"source": "seed", "number": number}, config_type=name, created=created,
                kind="explore",
            )  # fmt: skip


def settings_of(task: Task) -> dict[str, Any]:
    """Return the settings of a trajectory's task.

    Raises
    ------
    DataError
        The task is of something else.
    """
    found = dict(task.labeller)
    if task.kind != "explore" or found.get("engine") != ENGINE or set(found) != set(_SETTINGS):
        raise DataError(
            f"task {task.id}: is no trajectory to explore", "move it to queue/dft/pending, if it is a label"
        )
    return found

"""The cost ledger: one line for each attempt at a label, in `costs/<worker>.jsonl`, each worker its own file.

Written when the attempt has ended, whatever became of the label: what was spent is spent. Only an attempt whose worker
was killed with it leaves no line.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.files import append_line

logger = logging.getLogger(__name__)

# How an attempt may end: with a label, or without one.
ENDS: Final = ("done", "reused", "failed", "retry", "given back", "cancelled", "lost")


@dataclass(frozen=True)
class Cost:
    """What one attempt took.

    Attributes
    ----------
    task : its id
    species : element -> number of atoms
    cores : that the engine used; 1 where it did not say
    seconds : s of wall time
    end : one of `ENDS`
    rungs : (name, seconds, how it ended) of each run of the engine
    """

    task: str
    species: dict[str, int]
    cores: int
    seconds: float
    end: str
    rungs: tuple[tuple[str, float, str], ...] = field(default=())

    @property
    def core_seconds(self) -> float:
        return self.cores * self.seconds

    @property
    def n_atoms(self) -> int:
        return sum(self.species.values())


class CostLedger:
    """Appends the costs of one worker.

    Parameters
    ----------
    folder
        The run's `costs/`.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self._path = folder / f"{worker}.jsonl"

    def add(self, cost: Cost) -> None:
        """Append one line. A ledger is for people: a full disk must not stop a label, so it is only logged."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, json.dumps(asdict(cost)))
        except OSError as error:
            logger.warning("cost of %s not written: %s", cost.task, error)


def read_costs(folder: Path) -> Iterator[Cost]:
    """Yield all lines of all workers; damaged ones are left out."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if (cost := _cost(line)) is not None:
                    yield cost


def label_costs(folder: Path) -> Iterator[tuple[int, float]]:
    """Yield (number of atoms, core-seconds) of the attempts that ended with a label computed."""
    for cost in read_costs(folder):
        if cost.end == "done":
            yield cost.n_atoms, cost.core_seconds


def _cost(line: str) -> Cost | None:
    try:
        content: Mapping[str, Any] = json.loads(line)
        return Cost(
            task=str(content["task"]),
            species={str(element): int(count) for element, count in content["species"].items()},
            cores=int(content["cores"]),
            seconds=float(content["seconds"]),
            end=str(content["end"]),
            rungs=_rungs(content["rungs"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _rungs(content: Sequence[Sequence[Any]]) -> tuple[tuple[str, float, str], ...]:
    return tuple((str(name), float(seconds), str(end)) for name, seconds, end in content)

"""What an attempt at a label took, read from what the engine left in its folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.store.costs import Cost
from mlip_autopipec.store.task import Task


def expense(task: Task, folder: Path, seconds: float, end: str) -> Cost:
    """Return the cost of an attempt.

    Parameters
    ----------
    folder
        Of the attempt; engines that run programs write `rungs.json` there.
    seconds
        s from claim to end.
    end
        One of `store.costs.ENDS`.
    """
    story = _story(folder)
    rungs = tuple((str(r["rung"]), float(r["seconds"]), str(r["end"])) for r in story.get("rungs", []))
    cores = story.get("cores")
    return Cost(
        task=task.id,
        species=dict(sorted(Counter(task.structure["species"]).items())),
        cores=cores if isinstance(cores, int) and cores > 0 else 1,
        seconds=round(seconds, 6),
        end=end,
        rungs=rungs,
    )


def _story(folder: Path) -> dict[str, Any]:
    try:
        story = read_json(folder / "rungs.json")
    except (OSError, DataError):
        return {}
    return story if isinstance(story, dict) else {}

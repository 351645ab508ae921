"""What finished labels cost: atoms and core-seconds, read from `results/`."""

from __future__ import annotations

from collections.abc import Iterator

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.task import is_finite_number

# More change the median of what one atom costs by little, and each is a file to read.
_ENOUGH = 40


class LabelCosts:
    """Gives (atoms, core-seconds) of some finished labels; reads each result once."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._known: dict[str, tuple[int, float]] = {}

    def __call__(self) -> Iterator[tuple[int, float]]:
        for task_id in self._results.ids():
            if len(self._known) >= _ENOUGH:
                break
            if task_id not in self._known:
                try:
                    record = self._results.read(task_id)
                except (AutopipeError, FileNotFoundError):  # moved or edited by hand
                    continue
                info = record["info"]
                seconds, cores = info.get("seconds", info.get("wall_s")), info.get("cores", 1)
                if is_finite_number(seconds) and is_finite_number(cores):
                    self._known[task_id] = (len(record["task"]["force_mask"]), float(seconds) * float(cores))
        yield from self._known.values()

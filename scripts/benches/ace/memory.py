"""Peak memory and time of one large task in a process of its own."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np


def large_frame() -> int:
    """Energy, forces and gamma of a crystal of more than 100 000 atoms, list building included."""
    from cases import basis, crystal

    from mlip_autopipec.ace.evaluator import AceEvaluator
    from mlip_autopipec.ace.terms import from_basis
    from mlip_autopipec.core.neighbours import neighbourhood

    potential = from_basis(basis(("Cu",), 7.0))
    atoms = crystal(("Cu",), 108_000)
    frame = neighbourhood(atoms, 7.0, ("Cu",))
    grades = {"Cu": np.eye(potential.n_functions[0])}
    AceEvaluator(potential, grades, threads=2).evaluate(frame, gamma=True)
    return len(atoms)


def write_rows() -> int:
    """Write rows that are strongly correlated and of very different sizes, as basis functions are."""
    path, n, k = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rng = np.random.default_rng(0)
    mixing = (np.eye(k) + 0.9 * rng.normal(size=(k, k))) * np.logspace(0, -6, k)
    rows = np.lib.format.open_memmap(path, "w+", dtype=float, shape=(n, k))
    for first in range(0, n, 5000):
        rows[first : first + 5000] = rng.normal(size=(min(5000, n - first), k)) @ mixing
    rows.flush()
    return n


def select_ours() -> int:
    """MaxVol on rows in memory."""
    from mlip_autopipec.ace.maxvol import active_set

    return len(active_set(np.load(sys.argv[2])).indices)


def select_blocks() -> int:
    """MaxVol on rows that are read from the file block by block."""
    from mlip_autopipec.ace.maxvol import active_set

    return len(active_set(_Blocks(sys.argv[2])).indices)


class _Blocks:
    """Rows of a file, read again on every pass; memory-mapped pages would count as ours."""

    def __init__(self, path: str) -> None:
        self._path, self._map = path, np.load(path, mmap_mode="r")

    def __iter__(self) -> Iterator[np.ndarray]:
        n, k = self._map.shape
        with open(self._path, "rb") as handle:
            handle.seek(self._map.offset)
            for first in range(0, n, 2000):
                count = min(2000, n - first)
                yield np.fromfile(handle, float, count * k).reshape(count, k)


def select_pyace() -> int:
    """python-ace's own selection on rows in memory."""
    from pyace.activelearning import compute_active_set

    return len(compute_active_set({0: np.load(sys.argv[2])}, tol=1.001, max_iters=300)[0])


TASKS: dict[str, Callable[[], int]] = {
    task.__name__: task for task in (large_frame, write_rows, select_ours, select_blocks, select_pyace)
}


def main() -> None:
    """Run the task named first; print JSON."""
    begin = time.perf_counter()
    count = TASKS[sys.argv[1]]()
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cpu = time.process_time()
    print(json.dumps({"task": sys.argv[1], "count": count, "seconds": seconds, "cpu_s": cpu, "peak_gib": peak}))


if __name__ == "__main__":
    main()

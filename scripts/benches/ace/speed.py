"""Microseconds per atom of one evaluation: ours and python-ace's in turn, on the same frames.

What runs on one thread is timed by that thread's own clock, so that other processes on the machine disturb less.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import CUTOFFS, ELEMENTS, SIZES, basis, crystal

from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import write_asi
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.jit import cpu_features, cpu_name
from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.interfaces import Neighbourhood
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.pacemaker.environment import environment

Run = Callable[[], object]
TWO_THREADS = "lanes, 2 threads"
# The caches of the processor are the competitor's after his turn.
IN_A_ROW = 3
PEERS = ("recursive", "product", "B-basis")


class Potential:
    """One potential in all evaluators."""

    def __init__(self, elements: tuple[str, ...], cutoff: float, folder: Path) -> None:
        import pyace

        own = basis(elements, cutoff)
        potential = from_basis(own)
        grades = self._active_set(potential, elements, cutoff)
        yaml, yace, asi = (str(folder / f"potential.{ending}") for ending in ("yaml", "yace", "asi"))
        write_yaml(own.configuration, yaml)
        write_yace(to_products(own), yace)
        write_asi(grades, asi)
        self.ours = {
            "lanes": AceEvaluator(potential, grades, threads=1),
            TWO_THREADS: AceEvaluator(potential, grades, threads=2),
            "reference": AceEvaluator(potential, grades, threads=1, path="reference"),
        }
        # pyace's evaluators keep bare pointers to their bases.
        self._bases = pyace.ACECTildeBasisSet(yace), pyace.ACEBBasisSet(yaml)
        recursive = pyace.evaluator.ACERecursiveEvaluator(self._bases[0])
        recursive.set_recursive(True)
        graded = pyace.ACEBEvaluator(self._bases[1])
        graded.load_active_set(asi)
        self._peers = {
            "recursive": recursive,
            "product": pyace.ACECTildeEvaluator(self._bases[0]),
            "B-basis": pyace.ACEBEvaluator(self._bases[1]),
            "gamma": graded,
        }

    @staticmethod
    def _active_set(potential: Any, elements: tuple[str, ...], cutoff: float) -> dict[str, Any]:
        evaluator = AceEvaluator(potential, threads=1)
        frames = [crystal(elements, 256, seed) for seed in range(2, 6)]
        values = [evaluator.projections(neighbourhood(atoms, cutoff, elements)) for atoms in frames]
        symbols = np.concatenate([np.asarray(atoms.get_chemical_symbols()) for atoms in frames])
        rows = np.concatenate(values)
        return {
            element: active_set(rows[symbols == element, :count]).inverse
            for element, count in zip(elements, potential.n_functions, strict=True)
        }

    def runs(self, frame: Neighbourhood, gamma: bool) -> dict[str, Run]:
        """Return what to time, by name; python-ace's environment is made here, so its lists are not counted."""
        import pyace

        result: dict[str, Run] = {
            name: lambda e=evaluator: e.evaluate(frame, gamma=gamma) for name, evaluator in self.ours.items()
        }
        target = environment(frame)
        for name in ("gamma",) if gamma else PEERS:
            calculator = pyace.ACECalculator()
            calculator.set_evaluator(self._peers[name])
            result[name] = lambda c=calculator: c.compute(target, compute_projections=gamma)
        return result


def best_times(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the best of `rounds` in seconds, all in turn in every round, each a few times in a row."""
    best = dict.fromkeys(runs, np.inf)
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            clock = time.perf_counter if name == TWO_THREADS else time.thread_time
            for _ in range(IN_A_ROW):
                begin = clock()
                run()
                best[name] = min(best[name], clock() - begin)
    return best


def measure(elements: tuple[str, ...], cutoff: float, sizes: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        potential = Potential(elements, cutoff, Path(scratch))
        for n_atoms in sizes:
            frame = neighbourhood(crystal(elements, n_atoms), cutoff, elements)
            for gamma in (False, True):
                best = best_times(potential.runs(frame, gamma), rounds * (4 if n_atoms < 1000 else 1))
                times = {name: 1e6 * value / n_atoms for name, value in best.items()}
                peer = min((name for name in times if name not in potential.ours), key=times.__getitem__)
                rows.append(
                    {
                        "elements": "-".join(elements),
                        "functions": len(basis(elements, cutoff).functions[0]),
                        "cutoff": cutoff,
                        "neighbours": len(frame.neighbours) / n_atoms,
                        "atoms": n_atoms,
                        "gamma": gamma,
                        "us_per_atom": times,
                        "peer": peer,
                        "ratio": times[peer] / times["lanes"],
                        "ratio_reference": times[peer] / times["reference"],
                        "gain_of_2_threads": times["lanes"] / times[TWO_THREADS],
                    }
                )
    return rows


def main() -> None:
    """Print the rows as JSON; arguments: rounds, and cases ("Cu", "7.0", "256") to keep only these."""
    rounds, kept = int(sys.argv[1]), set(sys.argv[2:])
    rows: list[dict[str, Any]] = []
    for elements in ELEMENTS:
        for cutoff in CUTOFFS:
            sizes = tuple(size for size in SIZES if not kept or str(size) in kept)
            if not kept or {"-".join(elements), str(cutoff)} <= kept:
                rows += measure(elements, cutoff, sizes, rounds)
    print(json.dumps({"cpu": cpu_name(), "avx512": "+avx512f" in cpu_features(), "rows": rows}))


if __name__ == "__main__":
    main()

"""Microseconds per atom of one evaluation: ours and python-ace's in turn, on the same frames.

What runs on one thread is timed by that thread's own clock, so that other processes on the machine disturb less. A
virtual machine loses time to its neighbours for minutes on end, which no clock inside tells: so all cases are measured
in turn, again and again, and the best time of each evaluator counts.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cases import CUTOFFS, ELEMENTS, SIZES, basis, crystal

from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import write_asi
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.compiled.jit import cpu_features, cpu_name
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


class Case:
    """One potential on one frame: the evaluators that are compared, and the best time of each, s."""

    def __init__(self, potential: Potential, elements: tuple[str, ...], cutoff: float, n_atoms: int, gamma: bool):
        frame = neighbourhood(crystal(elements, n_atoms), cutoff, elements)
        self._potential = potential  # pyace's evaluators do not keep their bases alive
        self.ours = tuple(potential.ours)
        self.runs = potential.runs(frame, gamma)
        self.n_atoms = n_atoms
        self.facts = {
            "elements": "-".join(elements),
            "functions": len(basis(elements, cutoff).functions[0]),
            "cutoff": cutoff,
            "neighbours": len(frame.neighbours) / n_atoms,
            "atoms": n_atoms,
            "gamma": gamma,
        }
        self.best = dict.fromkeys(self.runs, np.inf)
        for run in self.runs.values():
            run()

    def turn(self) -> None:
        """Time every evaluator a few times in a row."""
        for _ in range(max(1, 1024 // self.n_atoms)):
            for name, run in self.runs.items():
                clock = time.perf_counter if name == TWO_THREADS else time.thread_time
                for _ in range(IN_A_ROW):
                    begin = clock()
                    run()
                    self.best[name] = min(self.best[name], clock() - begin)

    def row(self) -> dict[str, Any]:
        times = {name: 1e6 * value / self.n_atoms for name, value in self.best.items()}
        peer = min((name for name in times if name not in self.ours), key=times.__getitem__)
        return self.facts | {
            "us_per_atom": times,
            "peer": peer,
            "ratio": times[peer] / times["lanes"],
            "ratio_reference": times[peer] / times["reference"],
            "gain_of_2_threads": times["lanes"] / times[TWO_THREADS],
        }


def main() -> None:
    """Print the rows as JSON; arguments: rounds, and which elements, cutoffs, sizes to keep ("Cu", "7.0", "256")."""
    rounds, kept = int(sys.argv[1]), set(sys.argv[2:])

    def wanted(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
        named = [value for value, name in zip(values, names, strict=True) if name in kept]
        return named or list(values)

    elements_kept = wanted(ELEMENTS, ["-".join(elements) for elements in ELEMENTS])
    cutoffs, sizes = wanted(CUTOFFS, list(map(str, CUTOFFS))), wanted(SIZES, list(map(str, SIZES)))
    with tempfile.TemporaryDirectory() as scratch:
        cases = []
        for elements, cutoff in product(elements_kept, cutoffs):
            folder = Path(scratch, f"{'-'.join(elements)}-{cutoff}")
            folder.mkdir()
            potential = Potential(elements, cutoff, folder)
            cases += [Case(potential, elements, cutoff, *case) for case in product(sizes, (False, True))]
        for _ in range(rounds):
            for case in cases:
                case.turn()
    rows = [case.row() for case in cases]
    print(json.dumps({"cpu": cpu_name(), "avx512": "+avx512f" in cpu_features(), "rows": rows}))


if __name__ == "__main__":
    main()

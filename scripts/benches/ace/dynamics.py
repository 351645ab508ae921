"""LAMMPS: a whole MD step with our engine beside the bare evaluation, and steps of its own SNAP on the same cells.

All on one thread and by its own clock, so that other processes on the machine disturb less.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cases import CUTOFFS, ELEMENTS, basis, crystal

from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.create import create_atoms
from mlip_autopipec.engines.lammps.library import open_lammps
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.engines.lammps.snapshot import Origin

_STEPS = 30
_TWOJMAX, _SNAP_FUNCTIONS = 8, 55


def whole_step(elements: tuple[str, ...], cutoff: float, n_atoms: int, rounds: int) -> dict[str, Any]:
    """Microseconds per atom of a step of NVE at 300 K, lists rebuilt as needed, and of one evaluation.

    The times are the best rounds; the ratio is the median over rounds of step and evaluation side by side.
    """
    # Atoms that hardly feel each other: with random coefficients a crystal would fly apart.
    evaluator = AceEvaluator(from_basis(basis(elements, cutoff, 1e-9)), threads=1)
    atoms = crystal(elements, n_atoms)
    frame = neighbourhood(atoms, cutoff, elements)
    rounds_us = []
    with LammpsMD(evaluator, MDSettings(ensemble="nve", timestep_fs=2.0, temperature_k=300.0)) as md:
        md.start(atoms, velocity_seed=1)
        md.run(2)
        md.timings(reset=True)
        for _ in range(rounds):
            # Side by side: the speed of a virtual machine changes within seconds, so only neighbours compare.
            begin = time.thread_time()
            for _ in range(_STEPS):
                evaluator.evaluate(frame)
            middle = time.thread_time()
            md.run(_STEPS)
            rounds_us.append((middle - begin, time.thread_time() - middle))
        parts = md.timings()
    scale = 1e6 / n_atoms
    pairs = scale / _STEPS * np.array(rounds_us)
    bare, step = pairs.min(axis=0)
    row = {"elements": "-".join(elements), "cutoff": cutoff, "atoms": n_atoms}
    row |= {"bare": bare, "step": step, "ratio": float(np.median(pairs[:, 1] / pairs[:, 0]))}
    steps = parts.pop("steps")
    return row | {f"mean_{name}": scale * value / steps for name, value in parts.items()}


def snap_step(elements: tuple[str, ...], cutoff: float, n_atoms: int, rounds: int) -> float:
    """Microseconds per atom of a step of `pair_style snap` (twojmax 8, the same cutoff), without list building."""
    atoms, rng = crystal(elements, n_atoms), np.random.default_rng(1)
    lmp = open_lammps()
    try:
        create_atoms(lmp, Origin(elements, BoxMap.of(atoms, 3)), atoms)
        with tempfile.TemporaryDirectory() as scratch:
            coefficients, parameters = Path(scratch, "snapcoeff"), Path(scratch, "snapparam")
            lines = ["# random", f"{len(elements)} {_SNAP_FUNCTIONS + 1}"]
            for element in elements:
                lines += [f"{element} 0.5 1.0", *(repr(float(c)) for c in 1e-9 * rng.normal(size=_SNAP_FUNCTIONS + 1))]
            coefficients.write_text("\n".join(lines) + "\n")
            parameters.write_text(f"rcutfac {cutoff}\ntwojmax {_TWOJMAX}\n")
            for command in (
                "pair_style snap",
                f"pair_coeff * * {coefficients} {parameters} {' '.join(elements)}",
                "neighbor 0.3 bin",
                "neigh_modify every 1000 delay 1000 check no",
                "timestep 1e-6",
                "fix move all nve",
                "run 0 post no",
            ):
                lmp.command(command)
            best = np.inf
            for _ in range(rounds):
                begin = time.thread_time()
                lmp.command("run 4 pre no post no")
                best = min(best, time.thread_time() - begin)
    finally:
        lmp.close()
    return 1e6 * best / 4 / n_atoms


def main() -> None:
    """Print JSON."""
    cases = [(elements, cutoff) for elements in ELEMENTS for cutoff in CUTOFFS]
    steps = [whole_step(elements, cutoff, 2048, rounds=20) for elements, cutoff in cases]
    snap = [
        {"elements": "-".join(elements), "cutoff": cutoff, "us_per_atom": snap_step(elements, cutoff, 256, rounds=5)}
        for elements, cutoff in cases
    ]
    print(json.dumps({"steps": steps, "snap": snap}))


if __name__ == "__main__":
    main()

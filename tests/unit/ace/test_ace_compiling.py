"""`python -m mlip_autopipec.ace` leaves nothing to compile for the first run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlip_autopipec.ace
from mlip_autopipec.core.compiled import jit

FIRST_RUN = """
import sys
import numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.evaluators import load_evaluator, make_evaluator
from small_potentials import distorted, fit_emt
folder = fit_emt(Path(sys.argv[2]), ("Al", "Cu"))
for evaluator in (make_evaluator(folder, threads=2), load_evaluator(folder / "potential.yace")):
    frame = neighbourhood(distorted(["Al", "Cu"], 3), evaluator.cutoff, evaluator.elements)
    evaluator.evaluate(frame)
    evaluator.evaluate(frame, gamma=evaluator.has_gamma)
"""


def machine_code() -> set[str]:
    room = Path(mlip_autopipec.ace.__file__).parent
    roots = {Path(jit._cache_root(str(file), "")) for file in room.rglob("*.py")}
    return {str(file) for root in roots for file in root.glob("kernels-*/*.nb?")}


def test_the_first_run_finds_all_kernels_compiled(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "mlip_autopipec.ace"], check=True)
    compiled = machine_code()
    assert compiled
    tests = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", FIRST_RUN, str(tests), str(tmp_path)], check=True)
    assert machine_code() == compiled

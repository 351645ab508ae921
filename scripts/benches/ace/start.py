"""What a process waits for before its first numbers: imports, reading a potential, compiling or loading kernels."""

from __future__ import annotations

import json
import sys
import time

begin = time.perf_counter()

from mlip_autopipec.ace.evaluator import AceEvaluator  # noqa: E402
from mlip_autopipec.ace.fitting import AceBasis  # noqa: E402
from mlip_autopipec.ace.formats.asi import read_asi  # noqa: E402  the import is what is timed
from mlip_autopipec.ace.formats.yaml_reading import read_yaml  # noqa: E402
from mlip_autopipec.ace.loading import load_potential  # noqa: E402


def main() -> None:
    """Print seconds as JSON; arguments: .yaml, .asi and the .yaml of a linear basis."""
    marks = {"imports": time.perf_counter()}
    from cases import crystal

    from mlip_autopipec.core.neighbours import neighbourhood

    grades = read_asi(sys.argv[2])
    evaluator = AceEvaluator(load_potential(sys.argv[1]), grades, threads=1)
    frame = neighbourhood(crystal(("Cu",), 32), evaluator.cutoff, evaluator.elements)
    marks["reading"] = time.perf_counter()
    evaluator.evaluate(frame, gamma=True)
    marks["energy, forces, gamma"] = time.perf_counter()
    AceBasis(read_yaml(sys.argv[3])).design(crystal(("Cu",), 4))
    marks["design rows"] = time.perf_counter()
    AceEvaluator(load_potential(sys.argv[1]), grades, threads=1, path="reference").evaluate(frame)
    marks["reference path"] = time.perf_counter()
    times = [begin, *marks.values()]
    print(json.dumps({name: times[k + 1] - times[k] for k, name in enumerate(marks)}))


if __name__ == "__main__":
    main()

"""Our ACE engine: speed beside python-ace and LAMMPS' SNAP, the whole MD step, compilation, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from mlip_autopipec.cli.tables import print_table

PARTS = Path(__file__).parent / "ace"
SMALL_CPU = "haswell"
"""AVX2 and FMA, no AVX-512."""
STARTERS = 4
# Of the issue: evaluations against python-ace's fastest evaluator, and the rest.
TARGETS = {"AVX-512": 12.0, "AVX2": 7.0, "reference": 3.0, "2 threads": 1.6, "MD step": 1.3, "start_s": 3.0}
FRAME_GIB, SELECTION_GIB = 4.0, 2.0
ENVIRONMENTS, FUNCTIONS = 200_000, 500
_PYACE_PATIENCE_S = 120.0


def part(name: str, *arguments: object, timeout_s: float | None = None, **environment: str) -> Any:
    """Run one part in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(PARTS / f"{name}.py"), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        check=True,
        timeout=timeout_s,
    )
    return json.loads(done.stdout.splitlines()[-1])


def starts() -> dict[str, Any]:
    """Seconds until the first numbers: kernels not compiled yet, compiled, and by several processes at once."""
    sys.path.insert(0, str(PARTS))
    import numpy as np
    from cases import basis

    from mlip_autopipec.ace.formats.asi import write_asi
    from mlip_autopipec.ace.formats.yaml_writing import write_yaml
    from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        own = basis(("Cu",), 5.5)
        write_yaml(own.configuration, folder / "potential.yaml")
        write_asi({"Cu": np.eye(len(own.functions[0]))}, folder / "potential.asi")
        limits, radial = FunctionLimits((3, 2), (0, 1)), RadialSettings(5.5)
        write_yaml(standard_configuration(BasisRecipe(("Cu",), {"ALL": limits}, {"ALL": radial})), folder / "l.yaml")
        files = [folder / name for name in ("potential.yaml", "potential.asi", "l.yaml")]

        def start(cache: str) -> dict[str, float]:
            begin = time.perf_counter()
            seconds = part("start", *files, NUMBA_CACHE_DIR=str(folder / cache))
            return {**seconds, "process": time.perf_counter() - begin}

        cold = start("one")
        warm = min((start("one") for _ in range(3)), key=lambda seconds: seconds["process"])
        begin = time.perf_counter()
        with ThreadPoolExecutor(STARTERS) as pool:
            crowd = list(pool.map(start, ["many"] * STARTERS))
        together = time.perf_counter() - begin
        kernels = [len(list((folder / cache).glob("**/*.nbc"))) for cache in ("one", "many")]
    return {"cold": cold, "warm": warm, "together_s": together, "starters": len(crowd), "kernels": kernels}


def memory() -> list[dict[str, Any]]:
    """Peak memory and time of the large tasks."""
    rows = [part("memory", "large_frame")]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.npy"
        part("memory", "write_rows", path, ENVIRONMENTS, FUNCTIONS)
        for task in ("select_ours", "select_blocks", "select_pyace"):
            patience = _PYACE_PATIENCE_S if task == "select_pyace" else None
            try:
                rows.append(part("memory", task, path, timeout_s=patience))
            except subprocess.TimeoutExpired:
                rows.append({"task": task, "count": None, "seconds": f"> {patience}", "cpu_s": None, "peak_gib": None})
    return rows


def show_speed(title: str, measured: dict[str, Any], snap: list[dict[str, Any]]) -> None:
    yardstick = {(row["elements"], row["cutoff"]): row["us_per_atom"] for row in snap}
    columns = ("elements", "functions", "cutoff", "neighbours", "atoms", "gamma", "ours", "2 threads", "reference",
               "python-ace", "which", "ratio", "2 threads / 1", "reference ratio", "SNAP")  # fmt: skip
    rows = []
    for row in measured["rows"]:
        times = row["us_per_atom"]
        rows.append(
            (
                *(row[name] for name in ("elements", "functions", "cutoff", "neighbours", "atoms")),
                "yes" if row["gamma"] else "no",
                times["lanes"],
                times["lanes, 2 threads"],
                times["reference"],
                times[row["peer"]],
                row["peer"],
                row["ratio"],
                row["gain_of_2_threads"],
                row["ratio_reference"],
                yardstick.get((row["elements"], row["cutoff"])),
            )
        )
    print_table(f"{title} ({measured['cpu']}): microseconds per atom, energy + forces + virial", columns, rows)


def show(result: dict[str, Any]) -> None:
    name = "AVX-512" if result["speed"]["avx512"] else "this machine, no AVX-512"
    show_speed(name, result["speed"], result["lammps"]["snap"])
    if result["avx2"]:
        show_speed("AVX2 forced", result["avx2"], result["lammps"]["snap"])
    columns = ("elements", "cutoff", "atoms", "bare", "step", "ratio")
    rows = result["lammps"]["steps"]
    title = "LAMMPS step, lists and all, beside the bare evaluation (us per atom)"
    print_table(title, columns, ([row[c] for c in columns] for row in rows))
    start = result["start"]
    columns = (*start["cold"],)
    rows = [("cold", *start["cold"].values()), ("from the cache", *start["warm"].values())]
    print_table("seconds of a process until its first numbers", ("kernels", *columns), rows)
    print(f"{start['starters']} processes at once, nothing compiled: {start['together_s']:.1f} s;"
          f" kernels on disk after one, after all: {start['kernels']}")  # fmt: skip
    columns = ("task", "count", "seconds", "cpu_s", "peak_gib")
    print_table("memory", columns, ([row[c] for c in columns] for row in result["memory"]))
    print_table("targets", ("what", "wanted", "worst found", "met"), verdicts(result))


def verdicts(result: dict[str, Any]) -> list[tuple[str, float, float | None, str]]:
    """Return (what, wanted, the worst that was found, whether it will do)."""
    own, small = result["speed"]["rows"], (result["avx2"] or result["speed"])["rows"]
    memory = {row["task"]: row["peak_gib"] for row in result["memory"]}
    gains = [row["gain_of_2_threads"] for row in own if row["atoms"] > 1000]
    plain = [row for row in own if not row["gamma"]]
    least = [
        ("ratio to python-ace, AVX-512", TARGETS["AVX-512"], min(r["ratio"] for r in own) if result["avx2"] else None),
        ("ratio to python-ace, AVX2", TARGETS["AVX2"], min(row["ratio"] for row in small)),
        ("reference path to python-ace", TARGETS["reference"], min(row["ratio_reference"] for row in plain)),
        ("2 threads to 1, 2048 atoms", TARGETS["2 threads"], min(gains, default=None)),
    ]
    most = [
        ("MD step to evaluation", TARGETS["MD step"], max(row["ratio"] for row in result["lammps"]["steps"])),
        ("start from the cache, s", TARGETS["start_s"], result["start"]["warm"]["process"]),
        ("108 000 atoms, GiB", FRAME_GIB, memory["large_frame"]),
        ("active set in memory, GiB", SELECTION_GIB, memory["select_ours"]),
        ("active set by blocks, GiB", SELECTION_GIB, memory["select_blocks"]),
    ]
    rows = [(what, wanted, found, found is not None and found >= wanted) for what, wanted, found in least]
    rows += [(what, wanted, found, found <= wanted) for what, wanted, found in most]
    return [
        (what, wanted, found, "not measured" if found is None else "yes" if met else "NO")
        for what, wanted, found, met in rows
    ]


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--rounds", default=12, show_default=True, help="How often all evaluations are repeated.")
@click.option("--case", "cases", multiple=True, help='Only e.g. "Cu", "5.5", "256"; may be repeated.')
def main(as_json: bool, rounds: int, cases: tuple[str, ...]) -> None:
    """Measure everything, one part after the other."""
    speed = part("speed", rounds, *cases)
    result = {
        "speed": speed,
        "avx2": part("speed", rounds, *cases, NUMBA_CPU_NAME=SMALL_CPU) if speed["avx512"] else None,
        "lammps": part("dynamics"),
        "start": starts(),
        "memory": memory(),
    }
    if as_json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()

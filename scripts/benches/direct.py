"""DIRECT: a million environments, time and memory; coverage beside maml's sampler, farthest and random rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from mlip_autopipec.cli.tables import print_table

PARTS = Path(__file__).parent / "direct"
# Its requirements (pymatgen, matminer and more) are not needed for its sampler, and are not installed.
MAML = "maml==2025.4.3"
TARGET_GIB = 2.0


def part(sampler: str, rows: int, sizes: str, folder: Path) -> dict[str, Any]:
    """Run one sampler in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(PARTS / "sampler.py"), sampler, str(rows), sizes, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def maml_folder() -> Path:
    """Return a folder with maml alone; installed once, beside the environment's own packages."""
    folder = Path(sys.prefix) / "maml"
    if not (folder / "maml").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), MAML]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return folder


def show(results: list[dict[str, Any]]) -> None:
    columns = ("sampler", "environments", "components", "seconds", "CPU s", "peak GiB", "stages (s)")
    rows = []
    for result in results:
        stages = ", ".join(f"{name} {seconds:.3g}" for name, seconds in result["stages_s"].items())
        rows.append((*(result[c] for c in ("sampler", "rows", "components", "seconds", "cpu_s", "peak_gib")), stages))
    print_table("one thread each", columns, rows)
    scores = [
        (name, result["rows"], n, value)
        for result in results
        for name, values in result["coverage"].items()
        for n, value in zip(result["sizes"], values, strict=True)
    ]
    print_table("coverage of the pool's bins", ("picks by", "environments", "picks", "coverage"), scores)
    print_table("targets", ("what", "wanted", "found", "met"), verdicts(results))


def verdicts(results: list[dict[str, Any]]) -> list[tuple[str, float, float, str]]:
    """Return (what, wanted, found, whether it will do)."""
    large, small, maml = results
    rows = [("peak memory, GiB, at most", TARGET_GIB, large["peak_gib"], large["peak_gib"] <= TARGET_GIB)]
    for k, n in enumerate(small["sizes"]):
        theirs, our = maml["coverage"]["maml"][k], small["coverage"]["coverage"][k]
        rows.append((f"coverage by {n} picks, at least maml's", theirs, our, our >= theirs))
    return [(what, wanted, found, "yes" if met else "NO") for what, wanted, found, met in rows]


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--rows", default=1_000_000, show_default=True, help="Environments of the large pool.")
@click.option("--shared-rows", default=30_000, show_default=True, help="Environments of the pool that maml gets too.")
@click.option("--picks", default="100,300", show_default=True, help="How many to pick.")
def main(as_json: bool, rows: int, shared_rows: int, picks: str) -> None:
    """Measure everything, one after the other."""
    folder = maml_folder()
    results = [
        part("ours", rows, picks, folder),
        *(part(name, shared_rows, picks, folder) for name in ("ours", "maml")),
    ]
    if as_json:
        print(json.dumps(results))
    else:
        show(results)


if __name__ == "__main__":
    main()

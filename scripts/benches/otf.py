"""OTF: a walker's MD step beside bare MD with the same evaluator, in turns; `version_published` to the first step."""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import click

from mlip_autopipec.cli.tables import print_table

sys.path.insert(0, str(Path(__file__).parent / "otf"))

import overhead
import swap
from parts import SIZES, fit_potentials, say

# Of the issue: a walker's step beside a bare one, and s from the event to the first step.
MOST = {500: 0.10, 4000: 0.05}
MOST_S = 1.0
# Of one turn: some tenths of a second, in whole intervals between snapshots.
STEPS = {500: 400, 4000: 100}


def show(result: dict[str, Any]) -> None:
    rows = result["overhead"]
    columns = ("atoms", "threads", "clock", "bare", "otf", "best / best", "median of turns", "wanted", "met")
    table = []
    for row in rows:
        for clock in overhead.CLOCKS:
            found = row[clock]
            wanted, median = MOST[row["atoms"]], found["overhead"]["median"]
            ratios = [f"{100 * found['overhead'][kind]:.1f} %" for kind in ("best", "median")]
            judged = ("yes" if median <= wanted else "NO") if clock == "wall" else None
            table.append((row["atoms"], row["threads"], clock, found["bare"]["best"], found["otf"]["best"], *ratios,
                          f"{100 * wanted:.0f} %", judged))  # fmt: skip
    print_table("us per atom and step (best turns), and what the walker adds", columns, table)
    parts = [(r["atoms"], r["threads"], kind, *(r["parts"][kind][p] for p in overhead.PARTS))
             for r in rows for kind in ("bare", "otf")]  # fmt: skip
    print_table("inside LAMMPS' run, us per atom and step (means)", ("atoms", "threads", "", *overhead.PARTS), parts)
    columns = tuple(rows[0]["pieces"])
    title = "ms of CPU of what a walker does beside MD, best of 20, and its share of a bare step's time"
    print_table(title, ("atoms", *columns), [(r["atoms"], *(r["pieces"][c] for c in columns)) for r in rows])
    columns = ("walker", "atoms", "swaps", "median s", "longest s", "wanted", "met")
    table = [(r["walker"], r["atoms"], len(r["seconds"]), r["median"], r["longest"], f"< {MOST_S:g} s",
              "yes" if r["longest"] < MOST_S else "NO") for r in result["swap"]["swaps"]]  # fmt: skip
    print_table("from version_published to the first step on the new version", columns, table)
    pieces = result["swap"]["pieces"]
    if not pieces:
        return
    table = [(name, *(1e3 * p[name] for p in pieces.values())) for name in next(iter(pieces.values()))]
    print_table("what a swap is made of, ms", ("", *(f"{n} atoms" for n in pieces)), table)


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--rounds", default=30, show_default=True, help="Turns of bare MD and of the walker.")
@click.option("--threads", "threads", multiple=True, type=int, default=(1,), show_default=True)
@click.option("--swaps", default=8, show_default=True, help="Of each kind and size; 0: none.")
@click.option("--atoms", "sizes", multiple=True, type=click.Choice([str(n) for n in SIZES]), help="Default: both.")
def main(as_json: bool, rounds: int, threads: tuple[int, ...], swaps: int, sizes: tuple[str, ...]) -> None:
    """Fit two potentials, then measure."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        say("two fits ...")
        potentials = fit_potentials(folder / "fits")
        rows = []
        for atoms, team in product(map(int, sizes) if sizes else SIZES, threads):
            place = folder / f"md{atoms}-{team}"
            rows.append(overhead.measure(place, potentials, atoms, team, rounds, STEPS[atoms]))
            say(json.dumps(rows[-1]))
        swaps_of = swap.measure(folder, potentials, swaps) if swaps else {"swaps": [], "pieces": {}}
    result = {"overhead": rows, "swap": swaps_of}
    print(json.dumps(result)) if as_json else show(result)


if __name__ == "__main__":
    main()

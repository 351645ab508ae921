"""Data efficiency: labels and core-seconds to a force error, against random frames and whole-cell active learning."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from mlip_autopipec.cli.tables import print_table

sys.path.insert(0, str(Path(__file__).parent / "efficiency"))

from lab import COST, Judge, Lab, Point
from masks import compared
from materials import MATERIALS, SYSTEMS, Material, folder_of, held_out, say
from strategies import RECIPE, WHOLE, frame_tasks, random_tasks

PLOT = Path(tempfile.gettempdir()) / "efficiency.png"
MOST_LABELS_SHARE, MOST_COST_RATIO = 1 / 3, 1.0
"""Targets: labels over those of random frames; core-seconds over those of whole-cell active learning."""
NEAR = 1.05
"""Within 5 %: how early random frames were nearly as good as at their last label."""
DISLOCATED = (*SYSTEMS, "dislocation")


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes
    ----------
    steps : of MD of each walker
    frames : held out, of each system
    effort : see `held_out`
    random : labels of the random baselines
    most : labels after which a strategy ends
    limit_s : s after which it ends
    """

    steps: int
    frames: int
    effort: float
    random: int
    most: int
    limit_s: float


FULL = Size(steps=1000, frames=3, effort=1.0, random=100, most=60, limit_s=300.0)
QUICK = Size(steps=100, frames=1, effort=0.2, random=5, most=4, limit_s=10.0)


def measured(material: Material, seed: int, size: Size, folder: Path, dislocated: bool) -> dict[str, Any]:
    """Return the curves of all strategies for one element and seed."""
    name = f"{material.symbol} seed {seed}"
    say(f"{name}: frames of the teacher ...")
    systems = DISLOCATED if dislocated else SYSTEMS
    judge = Judge({system: held_out(material, system, size.frames, 7 + seed, size.effort) for system in systems})

    def lab(kind: str, recipe: dict[str, Any], *, large: bool, walkers: Sequence[str] = SYSTEMS) -> Lab:
        return Lab(folder_of(folder, name, kind) / "run", material, walkers, judge, seed=seed, steps=size.steps,
                   large=large, more=recipe)  # fmt: skip

    def told(kind: str, found: Lab, why: str) -> None:
        last = found.points[-1]
        say(f"{name}: {kind}: {last.labels} labels {found.kinds}, {last.seconds:.3g} core-s, "
            f"{last.rmse:.4f} eV/A ({why}), {time.monotonic() - begin:.0f} s")  # fmt: skip

    begin = time.monotonic()
    ours = lab("carved", RECIPE, large=True)
    why = ours.grow(labels=size.most, limit_s=size.limit_s, enough=lambda: False)
    told("carved", ours, why)
    cells = lab("whole cells", WHOLE, large=False)
    why = cells.grow(labels=size.most, limit_s=size.limit_s, enough=lambda: False)
    told("whole cells", cells, why)
    labeller, at = ours.config.labeller_settings(), checkpoints(size.random)
    share = ours.kinds.get("whole_cell", 0) / max(1, len(ours.sizes))
    random_carved = lab("random carved", RECIPE, large=True)
    tasks = random_tasks(ours.visited(), size.random, ours.config.embedding, labeller, ours.evaluator(),
                         share_whole=share, seed=seed)  # fmt: skip
    random_carved.add(tasks, at)
    told("random carved", random_carved, "as many as wanted")
    random_cells = lab("random cells", WHOLE, large=False)
    random_cells.add(frame_tasks(cells.visited(), size.random, labeller, seed=seed), at)
    told("random cells", random_cells, "as many as there are")
    curves = {"carved": ours, "whole cells": cells, "random carved": random_carved, "random cells": random_cells}
    if dislocated:
        budget = min(cells.points[-1].seconds, ours.points[-1].seconds)
        slab = lab("carved, with the dislocation", RECIPE, large=True, walkers=DISLOCATED)
        why = slab.grow(labels=10**6, seconds=budget, limit_s=2 * size.limit_s, enough=lambda: False)
        told("carved, with the dislocation", slab, why)
        curves["carved, with the dislocation"] = slab
    return {
        "material": material.symbol, "seed": seed, "masks": compared(ours),
        "curves": {kind: [point_dict(p) for p in found.points] for kind, found in curves.items()},
        "sizes": {kind: found.sizes for kind, found in curves.items()},
        "whole": {kind: found.kinds.get("whole_cell", 0) for kind, found in curves.items()},
    }  # fmt: skip


def checkpoints(most: int) -> list[int]:
    """Return the numbers of labels at which a random baseline is fitted: ever wider apart."""
    return sorted({round(float(n)) for n in np.geomspace(3, most, 14)} | {most})


def point_dict(point: Point) -> dict[str, Any]:
    return {"labels": point.labels, "seconds": point.seconds, "rmse": point.rmse, "errors": point.errors}


def reached(curve: Sequence[dict[str, Any]], target: float, key: str) -> float:
    """Return labels or core-seconds of the first version from which the error is at most `target`; inf if never."""
    return next((float(p[key]) for p in curve if p["rmse"] <= target), float("inf"))


def ratio(ours: float, theirs: float) -> float:
    """Return `ours` over `theirs`; infinity where ours never came there, or theirs stood there at the start."""
    if not np.isfinite(ours) or theirs == 0:
        return 1.0 if ours == theirs == 0 else float("inf")
    return ours / theirs


def at_cost(curve: Sequence[dict[str, Any]], seconds: float, system: str) -> float:
    """Return the error of the last version that so many core-seconds paid for."""
    return float([p["errors"][system] for p in curve if p["seconds"] <= seconds][-1])


def verdict(found: dict[str, Any]) -> dict[str, Any]:
    """Return one row of the table."""
    curves = found["curves"]
    target = curves["random carved"][-1]["rmse"]
    n_random = curves["random carved"][-1]["labels"]
    row = {
        "material": found["material"], "seed": found["seed"], "target": target, "random": n_random,
        "random_cells": reached(curves["random cells"], target, "labels"),
        "labels": reached(curves["carved"], target, "labels"),
        "seconds": reached(curves["carved"], target, "seconds"),
        "cells_labels": reached(curves["whole cells"], target, "labels"),
        "cells_seconds": reached(curves["whole cells"], target, "seconds"),
    }  # fmt: skip
    # Where random frames stop getting better long before their last label, a share of their labels says little.
    row["random_near"] = reached(curves["random carved"], NEAR * target, "labels")
    row["share"] = row["labels"] / n_random
    row["cost_ratio"] = ratio(row["seconds"], row["cells_seconds"])
    if "carved, with the dislocation" in curves:
        ours = curves["carved, with the dislocation"]
        budget = min(ours[-1]["seconds"], curves["whole cells"][-1]["seconds"])
        row |= {
            "budget": budget,
            "dislocation": at_cost(ours, budget, "dislocation"),
            "cells_dislocation": at_cost(curves["whole cells"], budget, "dislocation"),
        }
    return row


def failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what misses its target: medians over the seeds of each element."""
    missed = []
    for symbol in dict.fromkeys(row["material"] for row in rows):
        mine = [row for row in rows if row["material"] == symbol]
        share, ratio = (float(np.median([row[key] for row in mine])) for key in ("share", "cost_ratio"))
        if not share <= MOST_LABELS_SHARE:
            missed.append(f"{symbol}: {share:.2f} of the labels of random frames, at most {MOST_LABELS_SHARE:.2f}")
        if not ratio <= MOST_COST_RATIO:
            missed.append(f"{symbol}: {ratio:.2f} of the core-seconds of whole cells, at most {MOST_COST_RATIO:g}")
        worse = [row["seed"] for row in mine if row.get("dislocation", 0.0) > row.get("cells_dislocation", 0.0)]
        if worse:
            missed.append(f"{symbol}: dislocation: error not below that of whole cells at equal cost, seeds {worse}")
    return missed


def show(results: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
    """Print the tables."""
    columns = ("material", "seed", "target", "random", "random_near", "random_cells", "labels", "share", "seconds",
               "cells_labels", "cells_seconds", "cost_ratio", "dislocation", "cells_dislocation")  # fmt: skip
    print_table(
        "force RMSE of random carved cells (eV/A), and the labels with which they were within 5 % of it; labels and "
        "estimated core-seconds of each strategy to that error; RMSE at the dislocation's core at equal cost",
        columns,
        ([row.get(c) for c in columns] for row in rows),
    )
    masks = [{"material": r["material"], "seed": r["seed"], **m} for r in results for m in r["masks"]]
    columns = ("material", "seed", "mask", "labels", "taught", "rmse", *SYSTEMS)
    print_table("the same labels by train_mask (force RMSE, eV/A)", columns, ([m[c] for c in columns] for m in masks))


def plot(results: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw error over labels, and over core-seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    symbols = list(dict.fromkeys(r["material"] for r in results))
    figure, axes = pyplot.subplots(len(symbols), 2, figsize=(12, 4.5 * len(symbols)), squeeze=False)
    kinds = ["carved", "random carved", "random cells", "whole cells"]
    for row, symbol in zip(axes, symbols, strict=True):
        for axis, key in zip(row, ("labels", "seconds"), strict=True):
            for number, kind in enumerate(kinds):
                for place, found in enumerate(r for r in results if r["material"] == symbol):
                    curve = [p for p in found["curves"][kind] if p["labels"]]
                    axis.plot([p[key] for p in curve], [p["rmse"] for p in curve], color=f"C{number}", alpha=0.8,
                              label=kind if place == 0 else None)  # fmt: skip
            axis.set(xlabel="labels" if key == "labels" else "estimated core-seconds", ylabel="force RMSE (eV/A)",
                     title=symbol, xscale="log", yscale="log")  # fmt: skip
            axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    say(f"plot: {file}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="All curves.")
@click.option("--quick", is_flag=True, help="A minute: does it run; says nothing about the targets.")
@click.option("--element", "wanted", multiple=True, type=click.Choice([m.symbol for m in MATERIALS]))
@click.option("--seeds", default=3, show_default=True)
@click.option("--plot", "file", type=click.Path(path_type=Path), default=PLOT, show_default=True)
def main(as_json: bool, quick: bool, wanted: tuple[str, ...], seeds: int, file: Path) -> None:
    """Grow potentials in four ways and judge every version by the teacher."""
    results = []
    size = QUICK if quick else FULL
    chosen = [m for m in MATERIALS if not wanted or m.symbol in wanted]
    with tempfile.TemporaryDirectory() as scratch:
        for material in chosen:
            for seed in range(1, (1 if quick else seeds) + 1):
                results.append(measured(material, seed, size, Path(scratch), dislocated=not quick))
    rows = [verdict(found) for found in results]
    plot(results, file)
    if as_json:
        print(json.dumps({"rows": rows, "results": results, "prefactor": COST.prefactor}))
    else:
        show(results, rows)
    missed = [] if quick else failures(rows)
    for line in missed:
        say(f"missed: {line}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

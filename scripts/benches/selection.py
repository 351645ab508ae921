"""Selection: potentials of N picks against N random frames of the same trajectories, judged where the pool is rare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "selection"))

from fits import Fits
from pool import RARE, crystal, judges, pool

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.sampling.soap.descriptor import Soap
from mlip_autopipec.sampling.soap.settings import SoapSettings
from mlip_autopipec.stages.select import select_structures

TAIL_TARGET, USUAL_TARGET = 0.85, 1.02
USUAL = "in-distribution"


def trials(material: str, sizes: list[int], seeds: list[int]) -> list[dict[str, Any]]:
    """Return errors (eV/A) by size, seed and method: 99th percentile of each rare stratum, RMSE of what is usual."""
    elements = tuple(sorted(set(crystal(material).get_chemical_symbols())))
    fits, soap = Fits(elements, judges(material)), Soap(SoapSettings(elements), threads=1)
    found = []
    for seed in seeds:
        frames = pool(material, seed)
        strata = [str(atoms.info["config_type"]) for atoms in frames]
        for n in sizes:
            picked = select_structures(
                frames, soap, sizes=[len(atoms) for atoms in frames], strata=strata, n_picks=n, seed=seed
            ).picks
            drawn = np.random.default_rng(1000 * seed + n).choice(len(frames), n, replace=False)
            for method, chosen in (("picks", picked), ("random", drawn)):
                errors = fits.errors([frames[place] for place in chosen])
                tails = {name: float(np.percentile(errors[name], 99)) for name in RARE}
                tails["all rare"] = float(np.percentile(np.concatenate([errors[name] for name in RARE]), 99))
                usual = float(np.sqrt(np.mean(errors[USUAL] ** 2) / 3.0))
                found.append({"material": material, "n": n, "seed": seed, "method": method, **tails, USUAL: usual})
        print(f"{material}, seed {seed}: done", file=sys.stderr, flush=True)
    return found


def ratios(found: list[dict[str, Any]], key: str, **which: Any) -> list[float]:
    """Return error of the picks / error of the random frames, of each trial."""
    mine = [line for line in found if all(line[name] == value for name, value in which.items())]
    pairs: dict[tuple[Any, ...], dict[str, float]] = {}
    for line in mine:
        pairs.setdefault((line["material"], line["n"], line["seed"]), {})[line["method"]] = line[key]
    return [pair["picks"] / pair["random"] for pair in pairs.values()]


def show(found: list[dict[str, Any]]) -> bool:
    keys = (*RARE, "all rare", USUAL)
    rows = []
    for material, n in sorted({(line["material"], line["n"]) for line in found}):
        for method in ("random", "picks"):
            mine = [x for x in found if (x["material"], x["n"], x["method"]) == (material, n, method)]
            rows.append((material, n, method, *(float(np.median([x[key] for x in mine])) for key in keys)))
        parts = [float(np.median(ratios(found, key, material=material, n=n))) for key in keys]
        rows.append((material, n, "ratio", *parts))
    columns = ("material", "N", "trained on", *(f"{name}, 99 %" for name in keys[:-1]), f"{USUAL}, RMSE")
    print_table("force errors (eV/A), median over seeds", columns, rows)
    tail, usual = float(np.median(ratios(found, "all rare"))), float(np.median(ratios(found, USUAL)))
    verdict = [
        ("99th percentile of rare strata, picks / random, at most", TAIL_TARGET, tail, _met(tail <= TAIL_TARGET)),
        ("RMSE in distribution, picks / random, at most", USUAL_TARGET, usual, _met(usual <= USUAL_TARGET)),
    ]
    print_table(
        f"targets: medians over {len(ratios(found, USUAL))} trials", ("what", "wanted", "found", "met"), verdict
    )
    return tail <= TAIL_TARGET and usual <= USUAL_TARGET


def _met(met: bool) -> str:
    return "yes" if met else "NO"


def draw(found: list[dict[str, Any]], target: Path) -> None:
    """Write the figure: errors of each trial over the number of labels."""
    from matplotlib.figure import Figure

    materials = sorted({line["material"] for line in found})
    figure = Figure(figsize=(9.0, 3.2 * len(materials)), layout="constrained")
    for row, material in zip(figure.subplots(len(materials), 2, squeeze=False), materials, strict=True):
        for axes, key, told in zip(row, ("all rare", USUAL), ("99th percentile, rare strata", "RMSE"), strict=True):
            for method, marker in (("random", "o"), ("picks", "s")):
                mine = [x for x in found if (x["material"], x["method"]) == (material, method)]
                axes.loglog([x["n"] for x in mine], [x[key] for x in mine], marker, label=method, fillstyle="none")
            axes.set_title(f"{material}: {told if key != USUAL else f'{told}, {USUAL}'}")
            axes.set_xlabel("labels")
            axes.set_ylabel("force error (eV/A)")
            axes.legend()
    figure.savefig(target, dpi=120)


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--materials", default="Al,Cu3Au", show_default=True)
@click.option("--sizes", default="20,50,100", show_default=True, help="Numbers of labels.")
@click.option("--seeds", default=3, show_default=True, help="Pools of trajectories.")
@click.option("--plot", type=click.Path(path_type=Path))
def main(as_json: bool, materials: str, sizes: str, seeds: int, plot: Path | None) -> None:
    """Measure everything, one after the other."""
    numbers, of = [int(n) for n in sizes.split(",")], list(range(1, seeds + 1))
    found = [line for material in materials.split(",") for line in trials(material, numbers, of)]
    if plot is not None:
        draw(found, plot)
    if as_json:
        print(json.dumps(found))
    else:
        sys.exit(0 if show(found) else 3)


if __name__ == "__main__":
    main()

"""Pool and picks along the first two principal components of their environments."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.store.exploration import MAP
from mlip_autopipec.store.rundir import RunDirectory


def draw(run: RunDirectory, target: Path) -> None:
    """Write the figure: each structure of the pool a dot in the colour of its kind, each pick ringed.

    Raises
    ------
    NotFoundError
        There is no map of the selection.
    """
    from matplotlib.figure import Figure

    try:
        with np.load(run.explored / MAP, allow_pickle=False) as found:
            places, picked, kinds, seeds = (found[name] for name in ("places", "picked", "kinds", "seeds"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{run.explored / MAP}: not there", "it is written with the selection") from error
    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    axes = figure.subplots()
    for kind in sorted(set(kinds.tolist())):
        mine = kinds == kind
        shown = places[mine & ~seeds]
        axes.scatter(shown[:, 0], shown[:, 1], s=8, alpha=0.6, label=f"{kind} ({int(mine.sum())})")
    axes.scatter(places[seeds, 0], places[seeds, 1], s=24, marker="^", color="0.4", label=f"seeds ({int(seeds.sum())})")
    told = f"picked ({int(picked.sum())})"
    axes.scatter(places[picked, 0], places[picked, 1], s=60, facecolors="none", edgecolors="black", label=told)
    axes.set_xlabel("first principal component, mean of the structure's environments")
    axes.set_ylabel("second principal component")
    axes.legend(fontsize="small")
    figure.savefig(target)

"""Which engine evaluates a potential version; imports lazily, since not every installation has every engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluator, PairStyle

if TYPE_CHECKING:
    from mlip_autopipec.stages.watch import Engine


# Waking more of them costs more than the frames of a walker gain.
_MOST_THREADS = 8


def chosen_engine(engine: Engine, command: str | None = None) -> Engine:
    """Return who evaluates in MD: `auto` decided by what LAMMPS was built with; a program of its own is always native.

    Raises
    ------
    EngineError
        LAMMPS does not load.
    """
    if engine != "auto":
        return engine
    from mlip_autopipec.engines.lammps.library import has_style
    from mlip_autopipec.engines.lammps.native import PACE

    return "native" if command is not None or has_style("pair", PACE) else "ace"


def make_evaluator(folder: Path, engine: Engine = "ace", threads: int = 1) -> Evaluator:
    """Return the evaluator of a version folder, with gamma to which no pair is hidden.

    Parameters
    ----------
    threads
        Of the engine `ace`; the others have one.

    Raises
    ------
    ModelError
        The folder is incomplete, or its files do not belong together.
    EngineError
        The engine is not installed.
    """
    potential, active_set = folder / "potential.yaml", folder / "potential.asi"
    for file in (potential, active_set):
        if not file.is_file():
            raise ModelError(f"{file}: missing, so this version cannot run", "roll back to another version")
    from mlip_autopipec.ace.blind_pairs import SightedEvaluator, blind_below
    from mlip_autopipec.ace.evaluator import AceEvaluator
    from mlip_autopipec.ace.loading import load_potential

    evaluator = load_evaluator(potential, active_set, engine, threads)
    loaded = evaluator.potential if isinstance(evaluator, AceEvaluator) else load_potential(potential)
    limits = blind_below(loaded)
    if chosen_engine(engine) != "native":
        return evaluator if limits is None else SightedEvaluator(evaluator, limits)
    if limits is not None:
        raise ModelError(
            f"{potential}: inner_cutoff_type distance hides close pairs from LAMMPS' own gamma",
            "use otf.engine: ace, or a potential with inner_cutoff_type: density",
        )
    from mlip_autopipec.engines.lammps.native import NativePotential

    return NativePotential(evaluator, (potential, active_set), overlay=overlay_of(evaluator))


def overlay_of(evaluator: Evaluator) -> PairStyle | None:
    """Return the pair style that an evaluator adds to ACE, which LAMMPS must be told of; None if there is none."""
    return getattr(evaluator, "overlay", None)


def load_evaluator(
    potential: Path, active_set: Path | None = None, engine: Engine = "ace", threads: int = 1
) -> Evaluator:
    """Return the evaluator of a `.yaml` or `.yace` file for frames outside of MD; with gamma if there is an active set.

    Raises
    ------
    ModelError
        A file is unreadable, or they do not belong together.
    EngineError
        The engine is not installed.
    """
    from mlip_autopipec.ace.evaluator import AceEvaluator
    from mlip_autopipec.ace.formats.asi import read_asi
    from mlip_autopipec.ace.loading import load_potential

    loaded = load_potential(potential)
    if engine == "pyace":
        from mlip_autopipec.ace.overlay import OverlaidEvaluator
        from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator

        alone = PyaceEvaluator(potential, active_set)
        return alone if loaded.overlay is None else OverlaidEvaluator(alone, loaded.overlay)
    inverses = None if active_set is None else read_asi(active_set)
    try:
        return AceEvaluator(loaded, inverses, threads=threads)
    except ModelError as error:
        raise ModelError(f"{active_set or potential}: {error.message}", error.hint) from error


def walker_threads(wanted: int | None, walkers: int) -> int:
    """Return the threads of one of `walkers` processes: `wanted`, or OMP_NUM_THREADS, or its share of the CPUs."""
    if wanted is not None:
        return wanted
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    return min(_MOST_THREADS, max(1, len(os.sched_getaffinity(0)) // max(1, walkers)))

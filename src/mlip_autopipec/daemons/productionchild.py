"""The process of one production walker: plugs it together and runs it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlip_autopipec.daemons.productionwalker import ProductionWalker
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.room import Room
from mlip_autopipec.runtime.serve import serve
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.watch import WalkerPlan
from mlip_autopipec.store.production import Production
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config
    from mlip_autopipec.stages.watch import Engine


def production_process(
    root: str, config: Config, plan: WalkerPlan, production: Production, folder: str, threads: int
) -> int:
    """Run one walker in this process, which ends with its parent; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    walker = build_production_walker(RunDirectory(Path(root)), config, plan, production, Path(folder), threads)
    heartbeat = Heartbeat(Path(folder) / "heartbeat.json", plan.name)
    return serve(walker, heartbeat=heartbeat, stop=lambda: False)


def build_production_walker(
    run: RunDirectory, config: Config, plan: WalkerPlan, production: Production, folder: Path, threads: int = 1
) -> ProductionWalker:
    """Plug a walker together.

    Parameters
    ----------
    threads
        Of the engine `ace`.
    """
    from mlip_autopipec.daemons.evaluators import make_evaluator
    from mlip_autopipec.daemons.walkermd import dimension_of, make_md, md_settings

    structure = config.path(run, plan.structure or config.start.structure)
    settings = md_settings(plan, config.otf, dimension_of(read_structures(structure, "start.structure")[0]))
    version = Registry(run.potentials).path(production.version)
    log_file = run.logs / f"produce-{folder.parent.name}-{plan.name}-lammps.log"
    return ProductionWalker(
        folder,
        plan,
        production,
        structure=structure,
        evaluator=make_evaluator(version, cast("Engine", production.engine), threads),
        make_md=lambda evaluator: make_md(evaluator, settings, log_file, config.lammps, folder),
        room=Room(folder, config.retention.min_free_gb),
        chunk_s=None if config.lammps.command is None else config.lammps.block_s,
    )

"""Checks before a run starts: files, elements, programs. Costs seconds now instead of a night."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ase import Atoms

from mlip_autopipec.core.errors import ConfigError, EngineError
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.startcheck import (
    check_potential,
    check_reference_energies,
    start_dataset,
    start_structure,
    walker_structures,
)
from mlip_autopipec.daemons.walkercheck import check_walkers
from mlip_autopipec.stages.exploration import shares_of_seeds
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.exploration import SelectionRecord
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config


def preflight(run: RunDirectory, config: Config) -> list[str]:
    """Check what the configuration names; return warnings.

    Raises
    ------
    ConfigError
        A file is missing, unreadable or makes no sense, an element is unknown to the potential or the labeller, the MD
        engine refuses a walker's settings or lacks ML-PACE, a program is not there.
    EngineError
        An engine does not load.
    """
    if config.end.quiet_steps is not None and config.otf.target_force_error is None:
        raise ConfigError(
            f"end.quiet_steps: {config.end.quiet_steps}: a run converges to a target, and there is none",
            "set otf.target_force_error (eV/A), or leave end.quiet_steps out",
        )
    structure = start_structure(run, config)
    starts = walker_structures(run, config, structure)
    seeds = start_dataset(run, config)
    labelled = _elements(seeds)
    known = {*check_potential(run, config)} or labelled
    for where, start in starts:
        if not (unknown := sorted(_elements([start]) - known)):
            continue
        source = "start.potential" if config.start.potential else "start.dataset"
        raise ConfigError(
            f"{where}: element {unknown[0]} is unknown to the potential ({', '.join(sorted(known))})",
            f"add structures with {unknown[0]} to {source}, or change the structure",
        )
    if foreign := sorted(labelled - known):
        raise ConfigError(
            f"start.dataset: element {foreign[0]} is unknown to start.potential ({', '.join(sorted(known))})",
            "remove its structures, or leave start.potential out",
        )
    check_reference_energies(config, known)
    make_labeller(config.labeller_settings(), config.node).check_elements(known)
    check_walkers(config.otf, [start for _, start in starts])
    _load_engines(config)
    return _check_exploration(run, config, seeds) + _warnings(config, structure)


def _check_exploration(run: RunDirectory, config: Config, seeds: Sequence[Atoms]) -> list[str]:
    """Check what exploration needs, unless it is over: its surrogate may be gone then."""
    explore, picked = config.explore, SelectionRecord.read(run)
    is_over = picked is not None and picked.published
    if not explore.explores or not seeds or is_over or Registry(run.potentials).versions():
        return []
    from mlip_autopipec.daemons.surrogates import check_surrogate

    warning = shares_of_seeds(seeds, explore.shares)[1] if explore.shares is not None else ""
    check_surrogate(explore.surrogate.in_task(), run.root, explore.surrogate.device, seeds)
    return [warning] if warning else []


def _elements(frames: Sequence[Atoms]) -> set[str]:
    return {symbol for atoms in frames for symbol in atoms.get_chemical_symbols()}


def _load_engines(config: Config) -> None:
    """Load what fits and what runs MD: the first is needed after the first labels, the other after the first fit."""
    from mlip_autopipec.engines.lammps.library import open_lammps
    from mlip_autopipec.engines.lammps.native import check_native
    from mlip_autopipec.engines.pacemaker.library import import_pyace

    for section, engine in (("otf", config.otf.engine), ("training", config.training.engine)):
        if engine == "pyace":
            try:
                import_pyace()
            except EngineError as error:
                raise ConfigError(f"{section}.engine: 'pyace': {error.message}", error.hint) from error
    if "pacemaker" in (config.training.trainer, config.training.final):
        from mlip_autopipec.engines.pacemaker.refining import check_command

        check_command(config.training.pacemaker)
    if config.lammps.command is not None:
        _check_program(config)
        return
    open_lammps().close()
    if config.otf.engine == "native":
        check_native()


def _check_program(config: Config) -> None:
    """Refuse what LAMMPS as a program of its own cannot do."""
    from mlip_autopipec.engines.lammps.program import check_command

    if config.otf.engine not in ("auto", "native"):
        raise ConfigError(
            f"otf.engine: '{config.otf.engine}': lammps.command runs ML-PACE only",
            "take otf.engine: auto, or leave lammps.command out",
        )
    for number, plan in enumerate(walker_plans(config.otf)):
        if plan.monte_carlo is not None:
            where = "otf" if isinstance(config.otf.walkers, int) else f"otf.walkers.{number}"
            raise ConfigError(
                f"{where}.monte_carlo: lammps.command is set, and Monte Carlo moves need LAMMPS' Python library",
                "leave lammps.command or monte_carlo out",
            )
    check_command(str(config.lammps.command))


def _warnings(config: Config, structure: Atoms) -> list[str]:
    warnings = []
    reach, seen = config.embedding.cutoff + config.embedding.buffer_size, config.training.cutoff
    # Otherwise the buffer grows until the centre's grade in the cell is that in the frame.
    if config.embedding.max_core_force_error is None and seen is not None and reach < seen:
        warnings.append(
            f"embedding.cutoff + embedding.buffer_size is {reach:g} A, less than the potential's cutoff "
            f"{seen:g} A: a carved cell does not repeat the centre's whole environment"
        )
    for plan in walker_plans(config.otf):
        if plan.ensemble == "npt" and plan.density_bounds is None:
            warnings.append(f"{plan.name}: npt without otf.density_bounds: nothing ends it if its cell explodes")
        if plan.schedule is not None and plan.steps < plan.schedule.steps:
            warnings.append(f"{plan.name}: makes {plan.steps} of the {plan.schedule.steps} steps of its schedule")
    if not structure.pbc.any():
        warnings.append("start.structure is not periodic in any direction: a cluster")
    return warnings

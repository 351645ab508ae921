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
)
from mlip_autopipec.daemons.walkercheck import check_walkers
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
    structure = start_structure(run, config)
    labelled = _elements(start_dataset(run, config))
    known = {*check_potential(run, config)} or labelled
    wanted = _elements([structure])
    if unknown := sorted(wanted - known):
        source = "start.potential" if config.start.potential else "start.dataset"
        raise ConfigError(
            f"start.structure: {config.path(run, config.start.structure)}: element {unknown[0]} is unknown to the "
            f"potential ({', '.join(sorted(known))})",
            f"add structures with {unknown[0]} to {source}, or change the structure",
        )
    if foreign := sorted(labelled - known):
        raise ConfigError(
            f"start.dataset: element {foreign[0]} is unknown to start.potential ({', '.join(sorted(known))})",
            "remove its structures, or leave start.potential out",
        )
    check_reference_energies(config, known)
    make_labeller(config.labeller_settings(), config.node).check_elements(known)
    check_walkers(config.otf, structure)
    _load_engines(config)
    return _warnings(config, structure)


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
    open_lammps().close()
    if config.otf.engine == "native":
        check_native()


def _warnings(config: Config, structure: Atoms) -> list[str]:
    warnings = []
    reach = config.embedding.cutoff + config.embedding.buffer_size
    # Otherwise the buffer grows until the centre's grade in the cell is that in the frame.
    if config.embedding.max_core_force_error is None and reach < config.training.basis.cutoff:
        warnings.append(
            f"embedding.cutoff + embedding.buffer_size is {reach:g} A, less than the potential's cutoff "
            f"{config.training.basis.cutoff:g} A: a carved cell does not repeat the centre's whole environment"
        )
    if config.otf.ensemble == "npt":
        warnings.append("otf.ensemble npt: the fit has seen no stress yet, so watch the density")
    if not structure.pbc.any():
        warnings.append("start.structure is not periodic in any direction: a cluster")
    return warnings

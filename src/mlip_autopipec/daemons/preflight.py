"""Checks before a run starts: files, elements, programs. Costs seconds now instead of a night."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase import Atoms

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.walkercheck import check_walkers
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config


def preflight(run: RunDirectory, config: Config) -> list[str]:
    """Check what the configuration names; return warnings.

    Raises
    ------
    ConfigError
        A file is missing or unreadable, an element is unknown to the potential or the labeller, the MD engine refuses
        a walker's settings or lacks ML-PACE, a program is not there.
    EngineError
        python-ace or LAMMPS does not load.
    """
    file = config.path(run, config.start.structure)
    structure = read_structures(file, "start.structure")[0]
    known = known_elements(run, config)
    unknown = sorted(set(structure.get_chemical_symbols()) - known)
    if unknown:
        source = "start.potential" if config.start.potential else "start.dataset"
        raise ConfigError(
            f"start.structure: {file}: element {unknown[0]} is unknown to the potential ({', '.join(sorted(known))})",
            f"add structures with {unknown[0]} to {source}, or change the structure",
        )
    labeller = make_labeller(config.labeller_settings(), config.node)
    labeller.check_elements({*structure.get_chemical_symbols(), *_elements_of_dataset(run, config)})
    check_walkers(config.otf, structure)
    _load_engines(config)
    return _warnings(config, structure)


def known_elements(run: RunDirectory, config: Config) -> set[str]:
    """Return the elements that the first potential knows."""
    start = config.start
    if start.potential is not None:
        for key, file in (("potential", start.potential), ("active_set", start.active_set)):
            if file is not None and not config.path(run, file).is_file():
                raise ConfigError(f"start.{key}: {config.path(run, file)}: file not found", "correct the path")
        blocks = read_mapping(config.path(run, start.potential)).get("species", [])
        return {name for block in blocks for name in str(block.get("speciesblock", "")).split()}
    return _elements_of_dataset(run, config)


def _elements_of_dataset(run: RunDirectory, config: Config) -> set[str]:
    if config.start.dataset is None:
        return set()
    frames = read_structures(config.path(run, config.start.dataset), "start.dataset")
    return {symbol for atoms in frames for symbol in atoms.get_chemical_symbols()}


def _load_engines(config: Config) -> None:
    """Load what fits and what runs MD: the first is needed after the first labels, the other after the first fit."""
    from mlip_autopipec.engines.lammps.library import open_lammps
    from mlip_autopipec.engines.lammps.native import check_native
    from mlip_autopipec.engines.pacemaker.library import import_pyace

    if "pyace" in (config.otf.engine, config.training.engine):
        import_pyace()
    open_lammps().close()
    if config.otf.engine == "native":
        check_native()


def _warnings(config: Config, structure: Atoms) -> list[str]:
    warnings = []
    reach = config.embedding.cutoff + config.embedding.buffer_size
    if reach < config.training.basis.cutoff:
        warnings.append(
            f"embedding.cutoff + embedding.buffer_size is {reach:g} A, less than the potential's cutoff "
            f"{config.training.basis.cutoff:g} A: a carved cell does not repeat the centre's whole environment"
        )
    if config.otf.ensemble == "npt":
        warnings.append("otf.ensemble npt: the fit has seen no stress yet, so watch the density")
    if not structure.pbc.any():
        warnings.append("start.structure is not periodic in any direction: a cluster")
    return warnings

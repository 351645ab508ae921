"""Energies of isolated atoms: what potentials count their energies from; computed once per run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.store.references import References, read_references, write_references
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory


def isolated_energies(
    run: RunDirectory,
    elements: Sequence[str],
    given: Literal["isolated"] | Mapping[str, float],
    labeller: Mapping[str, Any],
    node: NodeSettings,
) -> dict[str, float]:
    """Return the energy of one free atom of each of `elements`, eV, and keep it in `potentials/`.

    Parameters
    ----------
    given
        `training.reference_energies`.
    labeller, node
        Who computes what is not known yet, if `given` is "isolated".

    Raises
    ------
    DataError
        `given` has no energy for an element.
    EngineError
        The labeller cannot compute a free atom.
    """
    registry = Registry(run.potentials)
    if given != "isolated":
        if missing := sorted(set(elements) - set(given)):
            raise DataError(f"training.reference_energies: no energy for {missing[0]}", "give all elements")
        wanted = References({element: float(given[element]) for element in elements}, "given")
        if wanted != read_references(registry):
            write_references(registry, wanted)
        return wanted.energies
    kept = read_references(registry)
    # What a person gave earlier is not what the labeller says.
    known = dict(kept.energies) if kept.source == "isolated" else {}
    for element in sorted(set(elements) - set(known)):
        with tempfile.TemporaryDirectory(prefix=f"isolated-{element}-", dir=run.attempts) as scratch:
            known[element] = float(make_labeller(labeller, node).isolated_atom_energy(element, Path(scratch)))
        write_references(registry, References(known))
    return known

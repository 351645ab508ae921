"""Isolated-atom energies, which the versions of a run count from: `potentials/reference_energies.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.store.registry import Registry

_FILE = "reference_energies.json"


@dataclass(frozen=True)
class References:
    """Energies of free atoms and where they come from.

    Attributes
    ----------
    energies : element -> eV
    source : `isolated`: the run's labeller computed them; `given`: they stood in `training.reference_energies`
    """

    energies: dict[str, float] = field(default_factory=dict)
    source: Literal["isolated", "given"] = "isolated"


def read_references(registry: Registry) -> References:
    """Return what is kept; no energies before the first fit."""
    try:
        content = read_json(registry.folder / _FILE)
    except FileNotFoundError:
        return References()
    if "source" not in content:  # written before sources were kept: anybody's guess
        return References()
    energies = {str(element): float(energy) for element, energy in content["energies"].items()}
    return References(energies, content["source"])


def write_references(registry: Registry, references: References) -> None:
    """Keep energies, which some labellers compute for minutes."""
    registry.folder.mkdir(parents=True, exist_ok=True)
    content = {"source": references.source, "energies": dict(sorted(references.energies.items()))}
    write_json(registry.folder / _FILE, content)


def reference_energies(registry: Registry) -> Mapping[str, float]:
    """Return element -> eV of what is kept."""
    return read_references(registry).energies

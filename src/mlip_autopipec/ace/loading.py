"""Loads a potential file of either format for evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.terms import Potential, from_basis, from_products
from mlip_autopipec.core.errors import ModelError


def load_potential(path: str | os.PathLike[str]) -> Potential:
    """Load a potential: `.yaml` (with projections and gamma) or `.yace` (with isolated-atom energies).

    Raises
    ------
    ModelError
        The file is missing or malformed, or its name ends otherwise.
    """
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix in (".yaml", ".yml"):
        return from_basis(make_basis(read_yaml(path)))
    if suffix == ".yace":
        return from_products(read_yace(path))
    raise ModelError(f"{os.fspath(path)}: not a potential file", "its name must end in .yaml or .yace")


def as_potential(potential: Potential | str | os.PathLike[str]) -> Potential:
    """Return a loaded potential, or load a file."""
    return potential if isinstance(potential, Potential) else load_potential(potential)


def as_active_set(
    active_set: Mapping[str, FloatArray] | str | os.PathLike[str] | None,
) -> Mapping[str, FloatArray] | None:
    """Return loaded inverse matrices, or read an `.asi` file."""
    return read_asi(active_set) if isinstance(active_set, str | os.PathLike) else active_set

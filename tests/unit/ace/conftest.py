"""The reference potentials and structures, each loaded once per session."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.ace.basis import Basis, make_basis
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.terms import from_basis, from_products
from mlip_autopipec.core.interfaces import Evaluation
from mlip_autopipec.core.neighbours import neighbourhood

NAMES = (
    "AlNi_linear",
    "AlNi_fs2",
    "AlNi_core_density",
    "AlNi_core_distance",
    "AlNi_core_zbl",
    "Al_ChebPow",
    "Al_ChebLinear",
    "Al_SBessel",
)


class Reference:
    """Folder `reference/ace` of the shared data as objects of the house."""

    names = NAMES

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.basis = lru_cache(self._basis)
        self.evaluator = lru_cache(self.fresh_evaluator)
        self.structures = lru_cache(self._structures)

    def pot(self, file: str) -> Path:
        return self.folder / "pots" / file

    def table(self, file: str) -> dict[str, np.ndarray]:
        """Return the arrays of an .npz file."""
        with np.load(self.folder / file) as archive:
            return dict(archive)

    def _basis(self, name: str) -> Basis:
        return make_basis(read_yaml(self.pot(f"{name}.yaml")))

    def fresh_evaluator(self, name: str, path: str = "lanes", kind: str = "asi", threads: int = 1) -> AceEvaluator:
        """Return an evaluator of NAME.yaml with NAME.KIND as active set, or of NAME.yace (kind "yace")."""
        if kind == "yace":
            return AceEvaluator(from_products(read_yace(self.pot(f"{name}.yace"))), path=path, threads=threads)
        active_set = read_asi(self.pot(f"{name}.{kind}"))
        return AceEvaluator(from_basis(self.basis(name)), active_set, path=path, threads=threads)

    def _structures(self, name: str) -> dict[str, Atoms]:
        """Return the structures that the potential is tested on, by name."""
        records = json.loads((self.folder / f"structures_{name.split('_')[0]}.json").read_text())
        return {
            record["name"]: Atoms(
                record["symbols"], positions=record["positions"], cell=record["cell"], pbc=record["pbc"]
            )
            for record in records
        }


@pytest.fixture(scope="session")
def ace(shared: Path) -> Reference:
    return Reference(shared / "reference" / "ace")


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., Evaluation]:
    """`evaluate(evaluator, atoms, gamma=False)`: one structure through its neighbour list."""

    def run(evaluator: AceEvaluator, atoms: Atoms, *, gamma: bool = False) -> Evaluation:
        return evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements), gamma=gamma)

    return run


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each potential of the reference data."""
    return str(request.param)


@pytest.fixture(params=["lanes", "reference"])
def path(request: pytest.FixtureRequest) -> str:
    """Each way to compute the same numbers."""
    return str(request.param)

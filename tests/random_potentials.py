"""Random ACE potentials and structures, and python-ace's numbers for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.coupling import coupling_problem
from mlip_autopipec.ace.radial import KINDS
from mlip_autopipec.ace.records import Block, Bond, Configuration, Embedding, FunctionSpec
from mlip_autopipec.core.conventions import virial_from_pyace
from mlip_autopipec.core.interfaces import Evaluation
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.pacemaker.environment import environment

ELEMENTS = ("Al", "Cu", "Ni", "O")


@dataclass(frozen=True)
class Choice:
    """What a random potential is like; the rest follows from `seed`."""

    seed: int
    n_elements: int = 1
    top_rank: int = 3
    kinds: tuple[str, ...] = KINDS
    embedding: str = "FinnisSinclairShiftedScaled"
    ndensity: int = 1
    inner: str = "density"
    core: bool = False
    inner_cutoff: bool = False
    functions_per_rank: int = 3


def random_configuration(choice: Choice) -> Configuration:
    """Return a potential with random radial functions, couplings and coefficients."""
    rng = np.random.default_rng(choice.seed)
    elements = ELEMENTS[: choice.n_elements]
    names = [
        (centre, *others)
        for count in range(min(3, len(elements)))
        for centre in elements
        for others in combinations([e for e in elements if e != centre], count)
    ]
    bonds = {frozenset(name): _bond(choice, rng) for name in names if len(name) <= 2}
    blocks = [
        Block(
            elements=name,
            functions=tuple(_functions(choice, name, bonds, rng)),
            embedding=_embedding(choice, rng) if len(name) == 1 else None,
            bond=bonds.get(frozenset(name)),
        )
        for name in names
    ]
    return Configuration(blocks=tuple(blocks), spline_step=float(rng.choice([0.001, 0.0013])))


def _embedding(choice: Choice, rng: np.random.Generator) -> Embedding:
    parameters: list[float] = []
    for density in range(choice.ndensity):
        power = (1.0, 0.5, 2.0)[density] if rng.random() < 0.7 else float(rng.uniform(0.4, 1.6))
        parameters += [float(rng.uniform(0.5, 1.5)), power]
    cut = (float(rng.uniform(2, 20)), float(rng.uniform(1, 20))) if choice.core else (2e5, 250.0)
    return Embedding(choice.embedding, tuple(parameters), *cut)


def _bond(choice: Choice, rng: np.random.Generator) -> Bond:
    zbl = choice.inner == "zbl"
    nradmax, nradbase = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    r_in, delta_in = float(rng.uniform(1.8, 2.6)), float(rng.uniform(0.1, 0.7))
    if not (choice.inner_cutoff or zbl):
        r_in = delta_in = 0.0
    return Bond(
        radbase=str(rng.choice(choice.kinds)),
        nradbase=nradbase,
        radparameters=(float(rng.choice([1.0, 2.0, 3.3, 5.25])),),
        radcoefficients=rng.normal(size=(nradmax, 4, nradbase)),
        rcut=float(rng.uniform(3.4, 5.2)),
        dcut=float(rng.uniform(0.4, 1.0) if zbl else rng.choice([0.01, 0.3])),
        r_in=r_in,
        delta_in=delta_in,
        inner_cutoff_type=choice.inner,
        prehc=float(rng.uniform(0.5, 1.5) if zbl else rng.uniform(5, 200)) if choice.core else 0.0,
        lambdahc=float(rng.uniform(0.3, 2.0)) if choice.core else 0.0,
    )


def _functions(
    choice: Choice, name: tuple[str, ...], bonds: Mapping[frozenset[str], Bond], rng: np.random.Generator
) -> list[FunctionSpec]:
    """Return different functions of every rank that can hold the block's elements."""
    found: dict[tuple[Any, ...], FunctionSpec] = {}
    for rank in range(max(1, len(name) - 1), choice.top_rank + 1):
        for _ in range(choice.functions_per_rank):
            needed = list(name[1:]) or [name[0]]
            others = sorted([*needed, *(str(e) for e in rng.choice(name, rank))][:rank])
            # python-ace wants n within the sizes of the block, too, not only of the slot's pair.
            pairs = [(bonds[frozenset((name[0], other))], bonds[frozenset(name[:2])]) for other in others]
            ns = tuple(int(rng.integers(1, min(_radial_count(bond, rank) for bond in pair) + 1)) for pair in pairs)
            ls, LS = _coupling(rank, rng)
            coefficients = tuple(float(c) for c in rng.normal(size=choice.ndensity) * 0.25**rank)
            key = (tuple(sorted(zip(others, ns, ls, strict=True))), ls, LS)
            found.setdefault(key, FunctionSpec((name[0], *others), ns, ls, LS, coefficients))
    return list(found.values())


def _radial_count(bond: Bond, rank: int) -> int:
    return bond.nradbase if rank == 1 else bond.nradmax


def _coupling(rank: int, rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    top = (0, 3, 2, 2, 1)[rank - 1]
    while True:
        ls = tuple(int(x) for x in rng.integers(0, top + 1, rank))
        LS = tuple(int(x) for x in rng.integers(0, 2 * top + 1, max(0, rank - 2)))
        if coupling_problem(ls, LS) is None:
            return ls, LS


def random_structure(seed: int, elements: tuple[str, ...], n_atoms: int = 0, nearest: float = 1.6) -> Atoms:
    """Return a periodic, partly periodic or open structure in which no two atoms are closer than `nearest`, A."""
    rng = np.random.default_rng(seed)
    n = n_atoms or int(rng.integers(2, 14))
    cell = (14.0 * n) ** (1 / 3) * (np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3)))
    pbc = [True] * 3 if rng.random() < 0.6 else rng.random(3) < 0.5
    atoms = Atoms(cell=cell, pbc=pbc)
    while len(atoms) < n:
        trial = atoms + Atoms(str(rng.choice(elements)), rng.random((1, 3)) @ cell)
        frame = neighbourhood(trial, nearest, sorted(set(trial.get_chemical_symbols())))
        if not len(frame.neighbours):
            atoms = trial
        else:
            # A crowded cell grows instead of being tried for ever.
            atoms.set_cell(atoms.cell.array * 1.005, scale_atoms=True)
            cell = atoms.cell.array
    return atoms


@dataclass
class Truth:
    """python-ace on a `.yaml` file: evaluations by the B-basis, active sets."""

    path: Path
    basis: Any = field(init=False)

    def __post_init__(self) -> None:
        import pyace

        self.pyace = pyace
        self.basis = pyace.ACEBBasisSet(str(self.path))
        self.evaluator = pyace.ACEBEvaluator(self.basis)
        self.calculator = pyace.ACECalculator(self.evaluator)

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(self.basis.elements_name)

    def evaluate(self, atoms: Atoms) -> Evaluation:
        frame = neighbourhood(atoms, float(self.basis.cutoffmax), self.elements)
        self.calculator.compute(environment(frame), compute_projections=True)
        gamma = np.array(self.calculator.gamma_grade, dtype=float)
        return _evaluation(self.calculator, gamma if gamma.size == len(atoms) else None)

    @property
    def projections(self) -> list[np.ndarray]:
        """Of the structure evaluated last."""
        return [np.array(row, dtype=float) for row in self.calculator.projections]

    def n_functions(self) -> dict[str, int]:
        pairs = zip(self.basis.basis_rank1, self.basis.basis, strict=True)
        return {e: len(rank1) + len(rest) for e, (rank1, rest) in zip(self.elements, pairs, strict=True)}

    def active_set(self, environments: list[Atoms], target: Path, *, linear: bool) -> bool:
        """Select an active set by python-ace's own MaxVol and write it; False if there are too few environments."""
        from pyace import activelearning

        sizes = {
            e: n * (1 if linear else int(self.basis.map_embedding_specifications[mu].ndensity))
            for mu, (e, n) in enumerate(self.n_functions().items())
        }
        with target.open("wb") as handle:
            np.savez(handle, **{e: np.eye(n) for e, n in sizes.items()})
        # Only an evaluator with a non-linear active set fills in dE/dc.
        self.evaluator.load_active_set(str(target))
        rows: dict[str, list[np.ndarray]] = {e: [] for e in self.elements}
        for atoms in environments:
            self.evaluate(atoms)
            vectors = self.projections if linear else self.calculator.dE_dc
            for symbol, vector in zip(atoms.symbols, vectors, strict=True):
                rows[symbol].append(np.array(vector, dtype=float)[: sizes[symbol]])
        if any(len(rows[e]) <= n for e, n in sizes.items()):
            return False
        by_species = {mu: np.array(rows[e]) for mu, e in enumerate(self.elements)}
        chosen = activelearning.compute_active_set(by_species)
        inverses = activelearning.compute_A_active_inverse(chosen)
        with target.open("wb") as handle:
            np.savez(handle, **{self.elements[mu]: np.ascontiguousarray(m) for mu, m in inverses.items()})
        self.evaluator.load_active_set(str(target))
        return True


def product_evaluation(path: Path, atoms: Atoms) -> Evaluation:
    """python-ace on a `.yace` file."""
    import pyace

    basis = pyace.ACECTildeBasisSet(str(path))
    evaluator = pyace.ACECTildeEvaluator(basis)
    calculator = pyace.ACECalculator(evaluator)
    frame = neighbourhood(atoms, float(basis.cutoffmax), tuple(basis.elements_name))
    calculator.compute(environment(frame), compute_projections=False)
    return _evaluation(calculator, None)


def _evaluation(calculator: Any, gamma: np.ndarray | None) -> Evaluation:
    return Evaluation(
        energy=float(calculator.energy),
        energies=np.array(calculator.energies, dtype=float),
        forces=np.array(calculator.forces, dtype=float).reshape(-1, 3),
        virial=virial_from_pyace(np.array(calculator.virial, dtype=float)),
        gamma=gamma,
    )

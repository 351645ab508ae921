"""What is measured: potentials with random coefficients, like those that pacemaker fits, and rattled crystals."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.ace.basis import Basis, make_basis
from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration
from mlip_autopipec.ace.records import Block, Embedding

ELEMENTS = (("Cu",), ("Al", "Ni"))
CUTOFFS = (7.0, 5.5)
SIZES = (256, 2048)
# 85 functions of one element, 128 per element of two: the size of published potentials.
_LIMITS = {
    ("Cu",): FunctionLimits((15, 3, 2, 2), (0, 3, 2, 1)),
    ("Al", "Ni"): FunctionLimits((8, 2, 2, 1), (0, 2, 1, 1)),
}
# Two densities, one of them a square root: what pacemaker writes by default.
_EMBEDDING = Embedding("FinnisSinclairShiftedScaled", (1.0, 1.0, 1.0, 0.5))


@lru_cache
def basis(elements: tuple[str, ...], cutoff: float, size: float = 1.0) -> Basis:
    """Return a basis whose radial functions differ for every l, as fitted ones do; `size` scales the coefficients."""
    rng = np.random.default_rng(1)
    recipe = BasisRecipe(elements, {"ALL": _LIMITS[elements]}, {"ALL": RadialSettings(cutoff)}, _EMBEDDING)
    configuration = standard_configuration(recipe)
    noise = 0.2 * rng.normal(size=max(b.bond.radcoefficients.size for b in configuration.blocks if b.bond))
    blocks = []
    for block in configuration.blocks:
        if block.bond:
            shape = block.bond.radcoefficients.shape
            radial = block.bond.radcoefficients + noise[: np.prod(shape)].reshape(shape)
            block = replace(block, bond=replace(block.bond, radcoefficients=radial))
        blocks.append(_with_coefficients(block, size, rng))
    return make_basis(replace(configuration, blocks=tuple(blocks)))


def _with_coefficients(block: Block, size: float, rng: np.random.Generator) -> Block:
    functions = tuple(
        replace(f, coefficients=tuple(rng.normal(scale=size * 10.0**-f.rank, size=len(f.coefficients))))
        for f in block.functions
    )
    return replace(block, functions=functions)


def crystal(elements: tuple[str, ...], n_atoms: int, seed: int = 1) -> Atoms:
    """Return a rattled fcc crystal (copper's density, or a random alloy)."""
    rng = np.random.default_rng(seed)
    repeats = round((n_atoms / 4) ** (1 / 3))
    atoms = bulk(elements[0], "fcc", a=3.62 if len(elements) == 1 else 3.75, cubic=True).repeat(repeats)
    atoms.symbols = rng.choice(elements, len(atoms))
    atoms.positions += rng.normal(scale=0.1, size=(len(atoms), 3))
    return atoms

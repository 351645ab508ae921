"""B-basis -> C-tilde basis: folds Clebsch-Gordan weights and coefficients into one number per product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mlip_autopipec.ace.basis import Basis, CoupledFunction
from mlip_autopipec.ace.records import ProductFunction, ProductPotential

_Group = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def to_products(basis: Basis, isolated_energies: Mapping[str, float] | None = None) -> ProductPotential:
    """Return the C-tilde form of a potential.

    Parameters
    ----------
    isolated_energies
        eV per atom by element, added to each atom's energy; 0 where absent.
    """
    energies = isolated_energies or {}
    return ProductPotential(
        elements=basis.elements,
        isolated_energies=tuple(float(energies.get(element, 0.0)) for element in basis.elements),
        embeddings=basis.embeddings,
        bonds=dict(basis.bonds),
        functions=tuple(
            _species_functions(functions, basis.embeddings[mu].ndensity) for mu, functions in enumerate(basis.functions)
        ),
        spline_step=basis.configuration.spline_step,
        overlay=basis.configuration.overlay,
    )


def _species_functions(functions: Sequence[CoupledFunction], ndensity: int) -> tuple[ProductFunction, ...]:
    groups: dict[_Group, dict[tuple[int, ...], np.ndarray]] = {}
    for function in functions:
        group = groups.setdefault((function.mus, function.ns, function.ls), {})
        coefficients = np.array(function.coefficients)
        for vector, weight in zip(function.ms.tolist(), function.weights.tolist(), strict=True):
            group[tuple(vector)] = group.get(tuple(vector), np.zeros(ndensity)) + weight * coefficients
    products = [
        ProductFunction(
            mus=mus,
            ns=ns,
            ls=ls,
            ms=np.array(sorted(group), dtype=np.int32).reshape(len(group), len(ls)),
            ctildes=np.array([group[vector] for vector in sorted(group)]).reshape(len(group), ndensity),
        )
        for (mus, ns, ls), group in groups.items()
    ]
    products.sort(key=lambda f: (f.rank, f.mus, f.ns, f.ls, len(f.ms), f.ms.ravel().tolist()))
    return tuple(products)

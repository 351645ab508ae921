"""Writes `.yace` potential files (C-tilde basis) in the form that LAMMPS and python-ace read."""

from __future__ import annotations

import os

from mlip_autopipec.ace.formats import flow
from mlip_autopipec.ace.overlay import OVERLAY, overlay_text
from mlip_autopipec.ace.records import Bond, Embedding, ProductFunction, ProductPotential


def write_yace(potential: ProductPotential, path: str | os.PathLike[str]) -> None:
    """Write a `.yace` potential."""
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(yace_text(potential))


def yace_text(potential: ProductPotential) -> str:
    """Return the text of a `.yace` potential."""
    lines = [
        f"elements: {flow.words(potential.elements)}",
        f"E0: {flow.reals(potential.isolated_energies)}",
        f"deltaSplineBins: {flow.real(potential.spline_step)}",
        *([] if potential.overlay is None else [f"{OVERLAY}: {flow.string(overlay_text(potential.overlay))}"]),
        "embeddings:",
        *(f"  {mu}: {_embedding_text(embedding)}" for mu, embedding in enumerate(potential.embeddings)),
        "bonds:",
        *(f"  [{i}, {j}]: {_bond_text(bond)}" for (i, j), bond in sorted(potential.bonds.items())),
        "functions:",
    ]
    for mu0, functions in enumerate(potential.functions):
        lines.append(f"  {mu0}:" if functions else f"  {mu0}: []")
        ndensity = potential.embeddings[mu0].ndensity
        lines += [f"    - {_function_text(function, mu0, ndensity)}" for function in functions]
    return "\n".join(lines) + "\n"


def _embedding_text(embedding: Embedding) -> str:
    return (
        f"{{ndensity: {embedding.ndensity}, FS_parameters: {flow.reals(embedding.parameters)}, "
        f"npoti: {embedding.kind}, rho_core_cutoff: {flow.real(embedding.rho_core_cut)}, "
        f"drho_core_cutoff: {flow.real(embedding.drho_core_cut)}}}"
    )


def _bond_text(bond: Bond) -> str:
    values = {
        "nradmax": str(bond.nradmax),
        "lmax": str(bond.lmax),
        "nradbasemax": str(bond.nradbase),
        "radbasename": bond.radbase,
        "radparameters": flow.reals(bond.radparameters),
        "radcoefficients": flow.array(bond.radcoefficients),
        "prehc": flow.real(bond.prehc),
        "lambdahc": flow.real(bond.lambdahc),
        "rcut": flow.real(bond.rcut),
        "dcut": flow.real(bond.dcut),
        "rcut_in": flow.real(bond.r_in),
        "dcut_in": flow.real(bond.delta_in),
        "inner_cutoff_type": bond.inner_cutoff_type,
    }
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def _function_text(function: ProductFunction, mu0: int, ndensity: int) -> str:
    return (
        f"{{mu0: {mu0}, rank: {function.rank}, ndensity: {ndensity}, num_ms_combs: {len(function.ms)}, "
        f"mus: {flow.integers(function.mus)}, ns: {flow.integers(function.ns)}, ls: {flow.integers(function.ls)}, "
        f"ms_combs: {flow.integers(function.ms.ravel())}, ctildes: {flow.reals(function.ctildes.ravel())}}}"
    )

"""Reads `.yace` potential files (C-tilde basis)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np

from mlip_autopipec.ace.formats.bond_reading import (
    bonds_problem,
    cutoff,
    embedding_parameters,
    inner_cutoff,
    not_negative,
    positive,
    radial_coefficients,
    radial_kind,
    radial_parameters,
    radial_shape,
    slot_problem,
)
from mlip_autopipec.ace.formats.node import Node, read_text
from mlip_autopipec.ace.overlay import OVERLAY, Overlay, read_overlay
from mlip_autopipec.ace.records import (
    EMBEDDING_KINDS,
    Bond,
    Embedding,
    ProductFunction,
    ProductPotential,
)


def read_yace(path: str | os.PathLike[str]) -> ProductPotential:
    """Read a `.yace` potential.

    Raises
    ------
    ModelError
        The file is missing, malformed or inconsistent; the message names file, key and reason.
    """
    return parse_yace(read_text(path), os.fspath(path))


def parse_yace(text: str, source: str = "<text>") -> ProductPotential:
    """`read_yace` for text; `source` stands for the file name in messages."""
    # A list as a key ("[0, 1]: {...}") is legal YAML but no Python dictionary key: quote it.
    root = Node.parse(re.sub(r"^(\s*)(\[\s*\d+\s*,\s*\d+\s*\])\s*:", r'\1"\2":', text, flags=re.MULTILINE), source)
    elements = tuple(item.text() for item in root.get("elements").items())
    if not elements or len(set(elements)) != len(elements):
        raise root.error(f"expected different elements, found {elements}", "elements")
    energies = tuple(root.get("E0").reals())
    if len(energies) != len(elements):
        raise root.error(f"expected {len(elements)} numbers, found {len(energies)}", "E0")
    embeddings = _per_species(root.get("embeddings"), len(elements))
    step = positive(root.get("deltaSplineBins"))
    bonds = _bonds(root.get("bonds"), elements, step)
    functions = _per_species(root.get("functions"), len(elements))
    parsed = [_embedding(node) for node in embeddings]
    return ProductPotential(
        elements=elements,
        isolated_energies=energies,
        embeddings=tuple(parsed),
        bonds=bonds,
        functions=tuple(
            tuple(_function(item, mu, parsed[mu].ndensity, bonds) for item in node.items())
            for mu, node in enumerate(functions)
        ),
        spline_step=step,
        overlay=_overlay(root, elements, max(bond.rcut for bond in bonds.values())),
    )


def _overlay(root: Node, elements: tuple[str, ...], reach: float) -> Overlay | None:
    text = root.find(OVERLAY)
    try:
        return None if text is None else read_overlay(text.text(), elements, reach)
    except ValueError as error:
        raise root.error(str(error), OVERLAY) from error


def _per_species(node: Node, n_elements: int) -> list[Node]:
    return [node.get(str(mu)) for mu in range(n_elements)]


def _embedding(node: Node) -> Embedding:
    return Embedding(
        kind=node.get("npoti").choice(EMBEDDING_KINDS),
        parameters=embedding_parameters(node.get("FS_parameters"), node.get("ndensity").integer(low=1)),
        rho_core_cut=node.get("rho_core_cutoff").real(),
        drho_core_cut=node.get("drho_core_cutoff").real(),
    )


def _bonds(node: Node, elements: tuple[str, ...], spline_step: float) -> dict[tuple[int, int], Bond]:
    found = {
        tuple(int(number) for number in re.findall(r"\d+", str(key))[:3]): node.child(str(key), value)
        for key, value in node.mapping().items()
    }
    bonds = {}
    for first in range(len(elements)):
        for second in range(len(elements)):
            if (first, second) not in found:
                raise node.error("is missing", f"[{first}, {second}]")
            bonds[first, second] = _bond(found[first, second])
    problem = bonds_problem({(elements[i], elements[j]): bond for (i, j), bond in bonds.items()}, spline_step)
    if problem:
        (first_element, second_element), key, reason = problem
        pair = f"[{elements.index(first_element)}, {elements.index(second_element)}]"
        raise node.child(pair, None).error(reason, key)
    return bonds


def _bond(node: Node) -> Bond:
    name = node.get("radbasename")
    if name.text().startswith("ACE.jl"):
        raise name.error("radial functions of ACE.jl are not supported")
    shape = radial_shape(node.get("nradmax"), node.get("lmax"), node.get("nradbasemax"))
    r_in, delta_in, inner = inner_cutoff(node, "rcut_in", "dcut_in")
    return Bond(
        radbase=radial_kind(name),
        nradbase=shape[2],
        radparameters=radial_parameters(node.get("radparameters"), name.text()),
        radcoefficients=radial_coefficients(node.get("radcoefficients"), shape),
        rcut=cutoff(node.get("rcut")),
        dcut=not_negative(node.get("dcut")),
        r_in=r_in,
        delta_in=delta_in,
        inner_cutoff_type=inner,
        prehc=node.get("prehc").real(),
        lambdahc=node.get("lambdahc").real(),
    )


def _function(node: Node, mu0: int, ndensity: int, bonds: Mapping[tuple[int, int], Bond]) -> ProductFunction:
    rank, count = node.get("rank").integer(low=1), node.get("num_ms_combs").integer()
    lists = {key: node.get(key) for key in ("mus", "ns", "ls", "ms_combs", "ctildes")}
    sizes = {"mus": rank, "ns": rank, "ls": rank, "ms_combs": rank * count, "ctildes": ndensity * count}
    for key, size in sizes.items():
        found = lists[key].size()
        if found != size:
            raise node.error(f"expected {size} numbers, found {found}", key)
    for key, expected in (("mu0", mu0), ("ndensity", ndensity)):
        if node.get(key).integer() != expected:
            raise node.error(f"expected {expected}, found {node.get(key).value}", key)
    mus, ns, ls = (tuple(lists[key].integers()) for key in ("mus", "ns", "ls"))
    ms = np.array(lists["ms_combs"].integers(low=-1000), dtype=np.int32).reshape(count, rank)
    for mu, n, angular in zip(mus, ns, ls, strict=True):
        bond = bonds.get((mu0, mu))
        if bond is None:
            raise node.error(f"unknown species {mu}", "mus")
        problem = slot_problem(bond, rank, n, angular)
        if problem:
            raise node.error(f"{problem[1]} of [{mu0}, {mu}]", f"{problem[0]}s")
    if count and (np.abs(ms) > np.array(ls)).any():
        raise node.error("an m is larger than its l", "ms_combs")
    if ms.sum(axis=1).any():
        raise node.error("the m of a product must add up to 0", "ms_combs")
    if rank == 1 and ls != (0,):
        raise node.error(f"a rank-1 function needs l = 0, found {ls[0]}", "ls")
    ctildes = np.array(lists["ctildes"].reals()).reshape(count, ndensity)
    return ProductFunction(mus=mus, ns=ns, ls=ls, ms=ms, ctildes=ctildes)

"""Reads `.yaml` potential files (B-basis configurations)."""

from __future__ import annotations

import os
from dataclasses import replace

from mlip_autopipec.ace.coupling import coupling_problem
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
from mlip_autopipec.ace.overlay import OVERLAY, read_overlay
from mlip_autopipec.ace.records import (
    EMBEDDING_KINDS,
    Block,
    Bond,
    Configuration,
    Embedding,
    FunctionSpec,
)


def read_yaml(path: str | os.PathLike[str]) -> Configuration:
    """Read a `.yaml` potential.

    Raises
    ------
    ModelError
        The file is missing, malformed or inconsistent; the message names file, key and reason.
    """
    return parse_yaml(read_text(path), os.fspath(path))


def parse_yaml(text: str, source: str = "<text>") -> Configuration:
    """`read_yaml` for text; `source` stands for the file name in messages."""
    root = Node.parse(text, source)
    blocks = [_block(item) for item in root.get("species").items()]
    if not blocks:
        raise root.error("has no blocks", "species")
    metadata = root.find("metadata")
    auxdata = root.find("auxdata")
    configuration = Configuration(
        blocks=tuple(blocks),
        spline_step=positive(root.get("global").get("DeltaSplineBins")),
        metadata={key: metadata.child(key, value).text() for key, value in metadata.mapping().items()}
        if metadata
        else {},
        auxdata={kind: _auxiliary(auxdata.child(kind, values)) for kind, values in auxdata.mapping().items()}
        if auxdata
        else {},
    )
    check_configuration(configuration, root)
    return _overlaid(configuration, metadata) if metadata and OVERLAY in configuration.metadata else configuration


def _overlaid(configuration: Configuration, metadata: Node) -> Configuration:
    """Take the overlay out of the metadata."""
    rest = dict(configuration.metadata)
    reach = max(block.bond.rcut for block in configuration.blocks if block.bond is not None)
    try:
        overlay = read_overlay(rest.pop(OVERLAY), configuration.elements, reach)
    except ValueError as error:
        raise metadata.error(str(error), OVERLAY) from error
    return replace(configuration, metadata=rest, overlay=overlay)


def _auxiliary(node: Node) -> dict[str, str | list[str]]:
    """Return name -> text or list of texts of one kind of auxiliary data."""
    found: dict[str, str | list[str]] = {}
    for key, value in node.mapping().items():
        entry = node.child(key, value)
        found[key] = [item.text() for item in entry.items()] if isinstance(value, list) else entry.text()
    return found


def _block(node: Node) -> Block:
    elements = tuple(node.get("speciesblock").text().split())
    if not elements or len(set(elements)) != len(elements):
        raise node.error(f"expected different elements, found {elements}", "speciesblock")
    embedding = _embedding(node) if len(elements) == 1 else None
    bond = None
    if len(elements) == 1 or (len(elements) == 2 and "rcutij" in node):
        bond = _bond(node)
    functions = node.find("nbody")
    return Block(
        elements=elements,
        functions=tuple(_function(item) for item in functions.items()) if functions else (),
        embedding=embedding,
        bond=bond,
    )


def _embedding(node: Node) -> Embedding:
    ndensity = node.get("ndensityi").integer(low=1)
    rho_cut, drho_cut = node.find("rho_core_cut"), node.find("drho_core_cut")
    return Embedding(
        kind=node.get("npoti").choice(EMBEDDING_KINDS),
        parameters=embedding_parameters(node.get("parameters"), ndensity),
        rho_core_cut=rho_cut.real() if rho_cut else Embedding.rho_core_cut,
        drho_core_cut=drho_cut.real() if drho_cut else Embedding.drho_core_cut,
    )


def _bond(node: Node) -> Bond:
    shape = radial_shape(node.get("nradmaxi"), node.get("lmaxi"), node.get("nradbaseij"))
    kind = radial_kind(node.get("radbase"))
    core = node.find("core-repulsion")
    repulsion = core.reals() if core else [0.0, 0.0]
    if len(repulsion) != 2:
        raise node.error(f"expected [strength, exponent], found {len(repulsion)} numbers", "core-repulsion")
    r_in, delta_in, inner = inner_cutoff(node, "r_in", "delta_in")
    name = node.find("NameOfCutoffFunctionij")
    return Bond(
        radbase=kind,
        nradbase=shape[2],
        radparameters=radial_parameters(node.get("radparameters"), kind),
        radcoefficients=radial_coefficients(node.get("radcoefficients"), shape),
        rcut=cutoff(node.get("rcutij")),
        dcut=not_negative(node.get("dcutij")),
        r_in=r_in,
        delta_in=delta_in,
        inner_cutoff_type=inner,
        prehc=repulsion[0],
        lambdahc=repulsion[1],
        cutoff_function=name.text() if name else "cos",
    )


def _function(node: Node) -> FunctionSpec:
    elements = tuple(node.get("type").text().split())
    ns = tuple(node.get("nr").integers(low=1))
    rank = len(ns)
    if rank == 0 or len(elements) != rank + 1:
        raise node.error(f"expected a centre and {rank} neighbours, found {elements}", "type")
    nl = node.get("nl")
    ls = (nl.integer(),) * rank if rank == 2 and isinstance(nl.value, str) else tuple(nl.integers())
    lint = node.find("lint") if rank <= 2 else node.get("lint")
    LS = tuple(lint.integers()) if lint else ()
    problem = f"expected {rank} numbers" if len(ls) != rank else coupling_problem(ls, LS)
    if problem:
        raise node.error(problem, "nl")
    c = node.get("c")
    skip = node.find("skip")
    return FunctionSpec(
        elements=elements,
        ns=ns,
        ls=ls,
        LS=LS,
        coefficients=tuple(c.reals()) if isinstance(c.value, list) else (c.real(),),
        skip=skip.boolean() if skip else False,
    )


def check_configuration(configuration: Configuration, root: Node) -> None:
    """Refuse blocks that do not fit together."""
    bonds: dict[tuple[str, str], Bond] = {}
    embeddings: dict[str, Embedding] = {}
    places: dict[tuple[str, ...], Node] = {}
    for index, block in enumerate(configuration.blocks):
        node = root.child(f"species[{index}]", None)
        centre = block.elements[0]
        if block.elements in places:
            raise node.error(f"a second block {' '.join(block.elements)}", "speciesblock")
        places[block.elements] = node
        if block.embedding:
            embeddings[centre] = block.embedding
        if centre not in embeddings:
            raise node.error(f"the block {centre!r} must come first", "speciesblock")
        if block.bond:
            pair = (centre, block.elements[-1])
            reverse = bonds.get(pair[::-1])
            if reverse is not None and not reverse.equals(block.bond):
                raise node.error(f"radial functions differ from those of {pair[1]} {pair[0]}", "speciesblock")
            bonds[pair] = block.bond
    for first in configuration.elements:
        if first not in embeddings:
            raise root.error(f"the block {first!r} is missing", "species")
        for second in configuration.elements:
            if (first, second) not in bonds and (second, first) not in bonds:
                raise root.error(f"the block '{first} {second}' is missing", "species")
    problem = bonds_problem(bonds, configuration.spline_step)
    if problem:
        pair, key, reason = problem
        raise places[pair if pair[0] != pair[1] else pair[:1]].error(reason, key)
    _check_functions(configuration, bonds, embeddings, root)


def _check_functions(
    configuration: Configuration, bonds: dict[tuple[str, str], Bond], embeddings: dict[str, Embedding], root: Node
) -> None:
    for index, block in enumerate(configuration.blocks):
        for number, function in enumerate(block.functions):
            problem = _function_problem(function, block, bonds, embeddings[block.elements[0]].ndensity)
            if problem:
                raise root.error(problem, f"species[{index}].nbody[{number}]")


def _function_problem(
    function: FunctionSpec, block: Block, bonds: dict[tuple[str, str], Bond], ndensity: int
) -> str | None:
    """Return why a function does not fit its block, or None."""
    centre = function.elements[0]
    if set(function.elements) != set(block.elements) or centre != block.elements[0]:
        return f"type {' '.join(function.elements)!r} does not belong to the block {' '.join(block.elements)!r}"
    if len(function.coefficients) != ndensity:
        return f"c has {len(function.coefficients)} numbers for {ndensity} densities"
    lmax = 0
    for element, n, angular in zip(function.elements[1:], function.ns, function.ls, strict=True):
        bond = bonds.get((centre, element)) or bonds[element, centre]
        problem = slot_problem(bond, function.rank, n, angular)
        if problem:
            return f"n{'r' if problem[0] == 'n' else 'l'} {problem[1]} of {centre} {element}"
        lmax = max(lmax, bond.lmax)
    if any(angular > 2 * lmax for angular in function.LS):
        return f"lint {list(function.LS)} is above {2 * lmax}"
    return None

"""Writes `.yaml` potential files (B-basis configurations) in pacemaker's form."""

from __future__ import annotations

import os

from mlip_autopipec.ace.formats import flow
from mlip_autopipec.ace.overlay import OVERLAY, overlay_text
from mlip_autopipec.ace.records import Block, Bond, Configuration, Embedding, FunctionSpec


def write_yaml(configuration: Configuration, path: str | os.PathLike[str]) -> None:
    """Write a `.yaml` potential."""
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(yaml_text(configuration))


def yaml_text(configuration: Configuration) -> str:
    """Return the text of a `.yaml` potential."""
    lines: list[str] = []
    metadata = dict(configuration.metadata)
    if configuration.overlay is not None:
        metadata[OVERLAY] = overlay_text(configuration.overlay)
    if metadata:
        lines.append("metadata:")
        lines += [f"  {flow.string(key)}: {flow.string(text)}" for key, text in sorted(metadata.items())]
    if configuration.auxdata:
        lines.append("auxdata:")
        for kind, values in configuration.auxdata.items():
            pairs = [f"{flow.string(key)}: {_auxiliary(value)}" for key, value in values.items()]
            lines.append(f"  {kind}: {{{', '.join(pairs)}}}")
    lines += ["global:", f"  DeltaSplineBins: {flow.real(configuration.spline_step)}", "species:"]
    for block in configuration.blocks:
        lines += _block_lines(block)
    return "\n".join(lines) + "\n"


def _auxiliary(value: str | list[str]) -> str:
    return flow.words([flow.string(item) for item in value]) if isinstance(value, list) else flow.string(value)


def _block_lines(block: Block) -> list[str]:
    lines = [f"  - speciesblock: {' '.join(block.elements)}"]
    if block.embedding:
        lines += _embedding_lines(block.embedding)
    if block.bond:
        lines += _bond_lines(block.bond)
    if block.functions:
        lines.append("    nbody:")
        lines += [f"      - {_function_text(function)}" for function in block.functions]
    else:
        lines.append("    nbody: []")
    return lines


def _embedding_lines(embedding: Embedding) -> list[str]:
    return [
        f"    ndensityi: {embedding.ndensity}",
        f"    npoti: {embedding.kind}",
        f"    parameters: {flow.reals(embedding.parameters)}",
        f"    rho_core_cut: {flow.real(embedding.rho_core_cut)}",
        f"    drho_core_cut: {flow.real(embedding.drho_core_cut)}",
    ]


def _bond_lines(bond: Bond) -> list[str]:
    return [
        f"    nradmaxi: {bond.nradmax}",
        f"    lmaxi: {bond.lmax}",
        f"    rcutij: {flow.real(bond.rcut)}",
        f"    dcutij: {flow.real(bond.dcut)}",
        f"    NameOfCutoffFunctionij: {bond.cutoff_function}",
        f"    r_in: {flow.real(bond.r_in)}",
        f"    delta_in: {flow.real(bond.delta_in)}",
        f"    inner_cutoff_type: {bond.inner_cutoff_type}",
        f"    nradbaseij: {bond.nradbase}",
        f"    radbase: {bond.radbase}",
        f"    radparameters: {flow.reals(bond.radparameters)}",
        f"    radcoefficients: {flow.array(bond.radcoefficients)}",
        f"    core-repulsion: {flow.reals((bond.prehc, bond.lambdahc))}",
    ]


def _function_text(function: FunctionSpec) -> str:
    parts = [
        f"type: {' '.join(function.elements)}",
        f"nr: {flow.integers(function.ns)}",
        f"nl: {flow.integers(function.ls)}",
    ]
    if function.LS:
        parts.append(f"lint: {flow.integers(function.LS)}")
    parts.append(f"c: {flow.reals(function.coefficients)}")
    if function.skip:
        parts.append("skip: true")
    return "{" + ", ".join(parts) + "}"

"""What is in a potential file. Read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.grade_tables import check_active_set
from mlip_autopipec.ace.overlay import Overlay, overlay_text
from mlip_autopipec.ace.records import Bond, Embedding
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.errors import ModelError


def describe(path: Path, active_set: Path | None = None) -> dict[str, Any]:
    """Return elements, functions, pairs, embedding, isolated-atom energies and active set, ready for JSON.

    Parameters
    ----------
    path
        `.yaml` or `.yace`.
    active_set
        `.asi` of a `.yaml`.

    Raises
    ------
    ModelError
        A file is malformed, or the active set belongs to another potential.
    """
    if path.suffix == ".yace":
        products = read_yace(path)
        ranks = [[f.rank for f in functions] for functions in products.functions]
        energies = dict(zip(products.elements, products.isolated_energies, strict=True))
        facts = _facts(products.elements, ranks, products.embeddings, products.bonds)
        more = {"isolated_energies_ev": energies, "overlay": _told(products.overlay)}
        return {"file": str(path), "format": "C-tilde (.yace)"} | facts | more
    if path.suffix not in (".yaml", ".yml"):
        raise ModelError(f"{path}: not a potential file", "its name must end in .yaml or .yace")
    basis = make_basis(read_yaml(path))
    facts = _facts(basis.elements, [[f.rank for f in fs] for fs in basis.functions], basis.embeddings, basis.bonds)
    # The format has no place for isolated-atom energies.
    more = {"isolated_energies_ev": None, "overlay": _told(basis.configuration.overlay)}
    result = {"file": str(path), "format": "B-basis (.yaml)"} | facts | more
    if active_set is not None:
        inverses = read_asi(active_set)
        try:
            linear = check_active_set(from_basis(basis), inverses)
        except ModelError as error:
            raise ModelError(f"{active_set}: {error.message}", error.hint) from error
        sizes = {element: len(inverses[element]) for element in basis.elements}
        result["active_set"] = {"file": str(active_set), "kind": "linear" if linear else "non-linear", "sizes": sizes}
    return result


def _told(overlay: Overlay | None) -> str | None:
    return None if overlay is None else overlay_text(overlay)


def _facts(
    elements: Sequence[str],
    ranks: Sequence[Sequence[int]],
    embeddings: Sequence[Embedding],
    bonds: Mapping[tuple[int, int], Bond],
) -> dict[str, Any]:
    return {
        "elements": list(elements),
        "cutoff_a": max(bond.rcut for bond in bonds.values()),
        "functions": {
            element: {str(rank): count for rank, count in sorted(Counter(found).items())}
            for element, found in zip(elements, ranks, strict=True)
        },
        "embedding": {
            element: {
                "kind": embedding.kind,
                "densities": embedding.ndensity,
                "weights_ev": list(embedding.parameters[::2]),
                "exponents": list(embedding.parameters[1::2]),
            }
            for element, embedding in zip(elements, embeddings, strict=True)
        },
        "pairs": {f"{elements[i]} {elements[j]}": _pair(bond) for (i, j), bond in sorted(bonds.items())},
    }


def _pair(bond: Bond) -> dict[str, Any]:
    return {
        "cutoff_a": bond.rcut,
        "radial_basis": bond.radbase,
        "radial_parameters": list(bond.radparameters),
        "nradbase": bond.nradbase,
        "nradmax": bond.nradmax,
        "lmax": bond.lmax,
        "inner_cutoff": bond.inner_cutoff_type,
        "inner_cutoff_a": bond.r_in,
        "inner_cutoff_width_a": bond.delta_in,
        "core_repulsion": [bond.prehc, bond.lambdahc] if bond.prehc else None,
    }

"""potential -> potential: the baseline that `training.baseline` wants, put under a fit.

Reads: `potential.yaml` of `train`. Writes: it and `potential.yace` again, with the core or the overlay, and into
`train_config.yaml` which one. Next: `publish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlip_autopipec.ace.baseline import BEGINS, Pair, inner_cutoffs, with_overlay, with_zbl
from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.overlay import Overlay, overlay_text
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.yamlfile import dump_mapping, read_mapping


def put_core(
    folder: Path,
    shortest: Mapping[Pair, float],
    isolated: Mapping[str, float],
    overlay: Overlay | None = None,
    begin: float = BEGINS[0],
) -> dict[str, Any]:
    """Write the potential of a work folder again, switched off below the shortest trained distances; return what was
    chosen, for the manifest.

    Parameters
    ----------
    shortest
        Pair of elements -> shortest distance of any two atoms that were trained, masked or not, A: below it no design
        row was computed, so the fit stays right.
    isolated
        Energies of isolated atoms, eV.
    overlay
        What MD adds, of which the fit has learned the rest; None puts ZBL into the file, below those distances alone.
    begin
        Of the shortest distance, where ACE begins to fade out; below 1.
    """
    plain = read_yaml(folder / "potential.yaml")
    cutoffs = inner_cutoffs(plain.elements, shortest, begin)
    configuration = with_zbl(plain, cutoffs) if overlay is None else with_overlay(plain, cutoffs, overlay)
    write_yaml(configuration, folder / "potential.yaml")
    write_yace(to_products(make_basis(configuration), isolated), folder / "potential.yace")
    told: dict[str, Any] = {"kind": "zbl", "form": "in-file"}
    if overlay is not None:
        told = {"kind": overlay.style.removesuffix("/cut"), "form": "overlay", "overlay": overlay_text(overlay)}
    more: dict[str, Any] = {} if overlay is None else {"lammps": _lammps(overlay, plain.elements)}
    more["inner_cutoffs"] = {"-".join(pair): list(lengths) for pair, lengths in cutoffs.items()}
    more["why"] = f"[r_in, delta_in] in A: below r_in, {begin} of the shortest distance, ACE fades out over delta_in"
    chosen = read_mapping(folder / "train_config.yaml") | {"baseline": told | more}
    write_text(folder / "train_config.yaml", dump_mapping(chosen))
    return told


def _lammps(overlay: Overlay, elements: tuple[str, ...]) -> list[str]:
    """Return the commands with which LAMMPS runs the version: ACE alone would be another potential."""
    style, lines = overlay.commands(elements)
    return [
        f"pair_style hybrid/overlay pace/extrapolation {style}",
        f"pair_coeff * * pace/extrapolation potential.yaml potential.asi {' '.join(elements)}",
        *lines,
    ]

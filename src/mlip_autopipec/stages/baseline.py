"""potential -> potential: the physical core that `training.baseline` wants, put under a fit.

Reads: `potential.yaml` of `train`. Writes: it and `potential.yace` again, with the core, and into `train_config.yaml`
which one. Next: `publish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlip_autopipec.ace.baseline import BEGIN, Pair, inner_cutoffs, with_zbl
from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.yamlfile import dump_mapping, read_mapping


def put_core(folder: Path, shortest: Mapping[Pair, float], isolated: Mapping[str, float]) -> None:
    """Write the potential of a work folder again, with ZBL below the shortest trained distances.

    Parameters
    ----------
    shortest
        Pair of elements -> shortest distance of any two atoms that were trained, masked or not, A: below it no design
        row was computed, so the fit stays right.
    isolated
        Energies of isolated atoms, eV.
    """
    plain = read_yaml(folder / "potential.yaml")
    cutoffs = inner_cutoffs(plain.elements, shortest)
    configuration = with_zbl(plain, cutoffs)
    write_yaml(configuration, folder / "potential.yaml")
    write_yace(to_products(make_basis(configuration), isolated), folder / "potential.yace")
    told = {"kind": "zbl", "inner_cutoffs": {"-".join(pair): list(lengths) for pair, lengths in cutoffs.items()}}
    why = f"[r_in, delta_in] in A: below r_in, {BEGIN} of the shortest distance, ACE fades out over delta_in"
    chosen = read_mapping(folder / "train_config.yaml") | {"baseline": told | {"why": why}}
    write_text(folder / "train_config.yaml", dump_mapping(chosen))

"""MACE models of the size of foundation models, with random weights: what they cost is right, what they say is not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

# What atoms tell each other, in the two sizes in which foundation models are common.
SIZES = {"small": "128x0e", "medium": "128x0e + 128x1o"}
_ELEMENTS = 89


def write_model(path: Path, size: str) -> Path:
    """Write a model: 6 A, two layers, correlation 3, l 3, 89 elements, a ZBL core; forces of the rest next to none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # isort: off
        from mace import modules  # before e3nn, whose tables it lets torch load
        from e3nn import o3
        import torch

        # isort: on
        torch.manual_seed(1)
        hidden, block = SIZES[size], modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        model = modules.ScaleShiftMACE(
            r_max=6.0, num_bessel=10, num_polynomial_cutoff=5, max_ell=3,
            interaction_cls=block, interaction_cls_first=block,
            num_interactions=2, num_elements=_ELEMENTS, hidden_irreps=o3.Irreps(hidden),
            MLP_irreps=o3.Irreps("16x0e"), gate=torch.nn.functional.silu, atomic_energies=np.zeros(_ELEMENTS),
            avg_num_neighbors=60.0, atomic_numbers=list(range(1, _ELEMENTS + 1)), correlation=3,
            atomic_inter_scale=0.001, atomic_inter_shift=0.0, pair_repulsion=True,
        )  # fmt: skip
        torch.save(model, path)
    return path

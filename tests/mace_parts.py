"""A MACE model of a few numbers, made on the spot: its physics is nonsense, its machinery is that of the large ones."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest


def write_tiny_mace(path: Path, numbers: tuple[int, ...] = (29,)) -> Path:
    """Write a model for the elements `numbers`: four channels, one layer, and a ZBL core that keeps atoms apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # isort: off
        from mace import modules  # before e3nn, whose tables it lets torch load
        from e3nn import o3
        import torch

        # isort: on
        torch.manual_seed(1)
        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        model = modules.ScaleShiftMACE(
            r_max=4.0, num_bessel=4, num_polynomial_cutoff=5, max_ell=1, interaction_cls=block,
            interaction_cls_first=block, num_interactions=1, num_elements=len(numbers),
            hidden_irreps=o3.Irreps("4x0e"), MLP_irreps=o3.Irreps("4x0e"), gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(len(numbers)), avg_num_neighbors=12.0, atomic_numbers=list(numbers),
            correlation=2, atomic_inter_scale=0.1, atomic_inter_shift=0.0, pair_repulsion=True,
        )  # fmt: skip
        torch.save(model, path)
    return path


def device_of(name: str) -> str:
    """Return cpu or cuda; skip the test where torch sees no GPU."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no GPU here")
    return name

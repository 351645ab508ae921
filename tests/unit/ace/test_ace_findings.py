"""Uncommitted: what fails today."""

from __future__ import annotations

import numpy as np
import pytest

from mlip_autopipec.ace.asi import read_asi
from mlip_autopipec.ace.yace_reading import parse_yace
from mlip_autopipec.ace.yaml_reading import parse_yaml
from mlip_autopipec.core.errors import ModelError
from test_ace_formats import _complaint, sub

YAML_CASES = {
    "no radial parameter": ("AlNi_fs2", sub(r"radparameters: .*", "radparameters: []"), "radparameters"),
    "no radial parameter ChebPow": ("Al_ChebPow", sub(r"radparameters: .*", "radparameters: []"), "radparameters"),
    "lambda of zero": ("AlNi_fs2", sub(r"radparameters: .*", "radparameters: [0]"), "radparameters"),
    "exponent of zero": ("AlNi_fs2", sub(r"^( *)parameters: .*", r"\1parameters: [1, 0, 1, 0.5]"), "parameters"),
    "mixed inner cutoffs": ("AlNi_fs2", sub(r"inner_cutoff_type: .*", "inner_cutoff_type: zbl"), "inner_cutoff_type"),
    "auxdata too flat": ("AlNi_fs2", lambda text: "auxdata: {_int: 3}\n" + text, "auxdata"),
    "zbl without dcut": ("AlNi_core_zbl", sub(r"dcutij: .*", "dcutij: 0", 0), "dcutij"),
    "zbl of no element": ("AlNi_core_zbl", sub(r"\bNi\b", "Nx", 0), "Nx"),
}
YACE_CASES = {
    "no radial parameter": (sub(r"radparameters: \[[^]]*\]", "radparameters: []"), "radparameters"),
    "lambda of zero": (sub(r"radparameters: \[[^]]*\]", "radparameters: [0]"), "radparameters"),
    "mixed inner cutoffs": (sub(r"inner_cutoff_type: [a-z]*", "inner_cutoff_type: zbl"), "inner_cutoff_type"),
    "rank 1 with angle": (sub(r"ns: \[1\], ls: \[0\]", "ns: [1], ls: [1]"), "ls"),
    "sum of m not zero": (sub(r"ls: \[1, 1\], ms_combs: \[-?\d, -?\d", "ls: [1, 1], ms_combs: [1, 1"), "ms_combs"),
}


@pytest.mark.parametrize("case", YAML_CASES)
def test_malformed_yaml_potential_unseen(ace, case) -> None:
    name, edit, key = YAML_CASES[case]
    assert key in _complaint(parse_yaml, edit(ace.pot(f"{name}.yaml").read_text()))


@pytest.mark.parametrize("case", YACE_CASES)
def test_malformed_yace_potential_unseen(ace, case) -> None:
    edit, key = YACE_CASES[case]
    assert key in _complaint(parse_yace, edit(ace.pot("AlNi_fs2.yace").read_text()))


@pytest.mark.parametrize("kind", ["nothing", "half", "flipped", "bare", "no elements"])
def test_broken_active_set_unseen(ace, tmp_path, kind) -> None:
    data, file = ace.pot("Al_SBessel.asi").read_bytes(), tmp_path / "x.asi"
    broken = {"nothing": b"", "half": data[: len(data) // 2], "flipped": data[:5000] + bytes([data[5000] ^ 255]) + data[5001:]}
    if kind in broken:
        file.write_bytes(broken[kind])
    else:
        with open(file, "wb") as handle:
            np.save(handle, np.eye(2)) if kind == "bare" else np.savez(handle)
    with pytest.raises(ModelError, match=r"x\.asi"):
        read_asi(file)

"""`.asi` files: what the C++ readers need."""

import zipfile

import numpy as np
import pytest

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.store.activeset import read_active_set, write_active_set


def test_round_trip_is_c_ordered_float64_and_uncompressed(tmp_path):
    matrix = np.asfortranarray(np.arange(9.0).reshape(3, 3))
    write_active_set(tmp_path / "potential.asi", {"Al": matrix, "Ni": matrix.astype(np.float32)})
    again = read_active_set(tmp_path / "potential.asi")
    assert set(again) == {"Al", "Ni"}
    np.testing.assert_array_equal(again["Al"], matrix)
    assert again["Ni"].dtype == np.float64
    assert again["Al"].flags.c_contiguous
    with zipfile.ZipFile(tmp_path / "potential.asi") as archive:
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("matrix", [np.ones((2, 3)), np.full((2, 2), np.nan), np.ones(4)])
def test_what_is_no_inverse_is_refused(tmp_path, matrix):
    with pytest.raises(ModelError, match="Al"):
        write_active_set(tmp_path / "potential.asi", {"Al": matrix})


def test_what_is_no_archive_is_an_error_with_its_name(tmp_path):
    (tmp_path / "x.asi").write_text("nonsense")
    for name in ("x.asi", "missing.asi"):
        with pytest.raises(ModelError, match=name):
            read_active_set(tmp_path / name)

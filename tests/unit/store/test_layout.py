"""Names of files and folders."""

import pytest

from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.store.layout import (
    BUCKETS,
    Layout,
    bucket_of,
    id_in_name,
    priority_in_name,
    split_not_before,
    task_name,
)

ID = "0be4ee64733850c89e23"


def test_order_of_names_and_buckets_is_the_order_of_uncertainty():
    gammas = [0, 0.5, 1, 1.01, 1.9, 2, 4.999, 5, 29, 30, 99.5, 100, 299, 300, 999.9, 1000, 14419, 1e6, 1e9]
    paths = [f"{bucket_of(g)}/{task_name(g, ID)}" for g in gammas]
    assert sorted(paths) == paths[::-1]
    assert len(set(paths)) == len(paths)
    assert sorted(BUCKETS) == list(BUCKETS)


@pytest.mark.parametrize("gamma", [0.0, 0.001, 1.5, 12.346, 999.999, 1000.0, 14419.0, 1e9])
def test_names_tell_gamma_and_id(gamma):
    name = task_name(gamma, ID)
    assert id_in_name(name) == ID
    assert priority_in_name(name) == gamma
    stamped = f"20250131T235959Z-{name}"
    assert id_in_name(stamped) == ID
    assert split_not_before(stamped) == ("20250131T235959Z", name)
    assert split_not_before(name) == ("", name)


def test_example_of_the_documentation():
    assert task_name(11.4, ID) == f"8906-g11.4-{ID}.json"


@pytest.mark.parametrize(
    "name",
    [
        f".{ID}.json",
        f"{ID}",
        f"{ID}.json.bak",
        f"{ID}.jsonl",
        f"a{ID}.json",
        f"{ID[:-1]}.json",
        f"{ID.upper()}.json",
        "",
    ],
)
def test_other_files_have_no_id(name):
    assert id_in_name(name) is None


def test_any_prefix_is_fine():
    assert id_in_name(f"mine-{ID}.json") == ID
    assert id_in_name(f"x y.{ID}.json") == ID
    assert priority_in_name(f"mine-{ID}.json") is None
    assert priority_in_name(f"{ID}.json") is None


def test_unknown_state(tmp_path):
    with pytest.raises(QueueError, match="states are"):
        Layout(tmp_path).state_folder("lost")

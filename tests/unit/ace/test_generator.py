"""The standard basis is python-ace's: same blocks, same functions, same order; and it is complete and independent."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.formats.yaml_reading import parse_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml, yaml_text
from mlip_autopipec.ace.generator import (
    BasisRecipe,
    FunctionLimits,
    RadialSettings,
    invariants,
    standard_configuration,
)
from mlip_autopipec.ace.records import Configuration, Embedding
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.engines.pacemaker.library import import_pyace

Limits = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

CASES: dict[str, tuple[tuple[str, ...], Limits]] = {
    "one element": (("Al",), {"ALL": ((8, 4, 3, 2, 1), (0, 4, 3, 2, 1))}),
    "rank 6": (("Al",), {"ALL": ((3, 1, 1, 1, 1, 2), (0, 1, 1, 1, 1, 1))}),
    "large l": (("Al",), {"ALL": ((2, 2, 2, 2), (0, 6, 4, 3))}),
    "largest l of rank 4": (("Al",), {"ALL": ((1, 1, 1, 1), (0, 10, 6, 4))}),
    "largest l of rank 5": (("Al",), {"ALL": ((1, 1, 1, 1, 1), (0, 1, 1, 1, 3))}),
    "pairs only": (("Cu", "Al"), {"ALL": ((5,), (0,))}),
    "two elements": (("Ni", "Al"), {"ALL": ((4, 2, 2, 1), (0, 2, 2, 1))}),
    "unary and binary": (
        ("Al", "Ni"),
        {"UNARY": ((5, 3, 2), (0, 3, 2)), "BINARY": ((3, 2, 1, 1), (0, 2, 1, 1))},
    ),
    "binary above unary": (("Al", "Ni"), {"UNARY": ((2, 1), (0, 1)), "BINARY": ((4, 3, 2), (0, 2, 2))}),
    "unary only": (("Al", "Ni"), {"UNARY": ((3, 2), (0, 1)), "BINARY": ((1,), (0,))}),
    "three elements": (
        ("Al", "Cu", "Ni"),
        {"UNARY": ((4, 2, 2), (0, 2, 1)), "BINARY": ((3, 2, 1), (0, 1, 1)), "TERNARY": ((2, 1, 1, 1), (0, 1, 1, 1))},
    ),
    "four elements": (("Al", "Cu", "Ni", "O"), {"ALL": ((2, 1, 1), (0, 1, 1))}),
    "four elements, rank 4": (("Al", "Cu", "Ni", "O"), {"ALL": ((1, 1, 1, 1), (0, 1, 0, 0))}),
}


def ours(elements: tuple[str, ...], limits: Limits) -> Configuration:
    functions = {name: FunctionLimits(n, lmax) for name, (n, lmax) in limits.items()}
    return standard_configuration(BasisRecipe(elements, functions, {"ALL": RadialSettings(rcut=5.0)}))


def theirs(elements: tuple[str, ...], limits: Limits) -> Any:
    return import_pyace().create_multispecies_basis_config(
        {
            "deltaSplineBins": 0.001,
            "elements": list(elements),
            "embeddings": {"ALL": {"npot": "FinnisSinclair", "fs_parameters": [1, 1], "ndensity": 1}},
            "bonds": {
                "ALL": {
                    "radbase": "ChebExpCos",
                    "radparameters": [5.25],
                    "rcut": 5.0,
                    "dcut": 0.01,
                    "NameOfCutoffFunction": "cos",
                }
            },
            "functions": {
                name: {"nradmax_by_orders": list(n), "lmax_by_orders": list(lmax)} for name, (n, lmax) in limits.items()
            },
        }
    )


@pytest.mark.usefixtures("python_ace")
@pytest.mark.parametrize("case", CASES)
def test_functions_and_their_order_are_those_of_python_ace(case: str, tmp_path: Path) -> None:
    configuration, reference = ours(*CASES[case]), theirs(*CASES[case])
    expected = {
        tuple(block.block_name.split()): [
            (tuple(f.elements), tuple(f.ns), tuple(f.ls), tuple(f.LS)) for f in block.funcspecs
        ]
        for block in reference.funcspecs_blocks
    }
    found = {b.elements: [(f.elements, f.ns, f.ls, f.LS) for f in b.functions] for b in configuration.blocks}
    assert {name: sorted(fs) for name, fs in found.items() if fs} == {n: sorted(fs) for n, fs in expected.items() if fs}
    basis_set = import_pyace().ACEBBasisSet(reference)
    basis = make_basis(configuration)
    assert basis.elements == tuple(basis_set.elements_name)
    for functions, rank1, rest in zip(basis.functions, basis_set.basis_rank1, basis_set.basis, strict=True):
        for mine, other in zip(functions, [*rank1, *rest], strict=True):
            assert (mine.mus, mine.ns, mine.ls, mine.LS) == tuple(
                tuple(x) for x in (other.mus, other.ns, other.ls, other.LS)
            )
            assert mine.ms.ravel().tolist() == list(np.ravel(other.ms_combs))
            np.testing.assert_allclose(mine.weights, np.ravel(other.gen_cgs), rtol=0, atol=1e-13)
    # python-ace reads what we write, and counts the same.
    write_yaml(configuration, tmp_path / "b.yaml")
    again = import_pyace().ACEBBasisSet(str(tmp_path / "b.yaml"))
    assert [len(fs) for fs in again.basis] == [len(fs) for fs in basis_set.basis]
    assert [len(fs) for fs in again.basis_rank1] == [len(fs) for fs in basis_set.basis_rank1]


def test_radial_settings_by_pair_hold_for_both_orders() -> None:
    radial = {"ALL": RadialSettings(rcut=5.0), "Ni Al": RadialSettings(rcut=4.0, radbase="SBessel", r_in=0.5)}
    recipe = BasisRecipe(
        ("Al", "Ni"), {"ALL": FunctionLimits((3, 2), (0, 1))}, radial, Embedding(parameters=(1.0, 1.0))
    )
    basis = make_basis(parse_yaml(yaml_text(standard_configuration(recipe))))
    assert [basis.bonds[pair].rcut for pair in product((0, 1), repeat=2)] == [5.0, 4.0, 4.0, 5.0]
    assert basis.bonds[1, 0].radbase == basis.bonds[0, 1].radbase == "SBessel"
    np.testing.assert_array_equal(basis.bonds[0, 0].radcoefficients[:, 1], np.eye(3)[:2])
    assert basis.cutoff == 5.0


def test_limits_by_block_name_come_first() -> None:
    limits = {"ALL": ((2, 1), (0, 1)), "Ni": ((4,), (0,))}
    counts = {b.elements: len(b.functions) for b in ours(("Al", "Ni"), limits).blocks}
    assert counts["Ni",] == 4
    assert counts["Al",] == 2 + 2


def test_invariants_are_independent_under_exchange() -> None:
    # Four equal radial functions with l = 2: of the five couplings of distinct ones, exchange leaves one.
    assert sum(ls == (2, 2, 2, 2) for ls, _ in invariants((0, 1, 2, 3), 2)) == 5
    assert sum(ls == (2, 2, 2, 2) for ls, _ in invariants((0, 0, 0, 0), 2)) == 1


@pytest.mark.parametrize(
    ("n", "lmax", "word"),
    [
        ((2, 1), (0,), "one number per rank"),
        ((), (), "one number per rank"),
        ((2, 1), (1, 1), "rank 1"),
        ((2, 1, 1, 1, 1), (0, 4, 4, 4, 4), "rank 5"),
        ((1,) * 13, (0,) * 13, "above 12"),
    ],
)
def test_limits_out_of_range(n: tuple[int, ...], lmax: tuple[int, ...], word: str) -> None:
    with pytest.raises(ModelError, match=word):
        FunctionLimits(n, lmax)


def test_missing_settings() -> None:
    limits = {"ALL": FunctionLimits((1,), (0,))}
    with pytest.raises(ModelError, match="no elements"):
        standard_configuration(BasisRecipe((), limits, {"ALL": RadialSettings(5.0)}))
    recipe = BasisRecipe(("Al", "Ni"), limits, {"Al Al": RadialSettings(5.0), "Ni Ni": RadialSettings(5.0)})
    with pytest.raises(ModelError, match="no radial settings for Al Ni"):
        standard_configuration(recipe)

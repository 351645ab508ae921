"""Our ACE engine against the installed python-ace on random potentials and structures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.radial import KINDS
from mlip_autopipec.ace.records import EMBEDDING_KINDS, INNER_CUTOFF_TYPES
from mlip_autopipec.ace.terms import from_basis, from_products
from mlip_autopipec.core.interfaces import Evaluation
from mlip_autopipec.core.neighbours import neighbourhood
from random_potentials import Choice, Truth, product_evaluation, random_configuration, random_structure

pytestmark = pytest.mark.usefixtures("python_ace")

PATHS = ("lanes", "reference")
choices = st.builds(
    Choice,
    seed=st.integers(0, 10**6),
    n_elements=st.integers(1, 4),
    top_rank=st.integers(1, 5),
    kinds=st.one_of(st.just(KINDS), st.sampled_from(KINDS).map(lambda kind: (kind,))),
    embedding=st.sampled_from(EMBEDDING_KINDS),
    ndensity=st.integers(1, 3),
    inner=st.sampled_from(INNER_CUTOFF_TYPES),
    core=st.booleans(),
    inner_cutoff=st.booleans(),
    functions_per_rank=st.integers(1, 2),
)
graded = st.builds(
    Choice,
    seed=st.integers(0, 10**6),
    n_elements=st.integers(1, 2),
    top_rank=st.integers(1, 4),
    embedding=st.sampled_from(EMBEDDING_KINDS),
    ndensity=st.integers(1, 3),
    inner=st.sampled_from(INNER_CUTOFF_TYPES),
    core=st.booleans(),
    functions_per_rank=st.integers(1, 2),
)
few = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(few, max_examples=400, derandomize=False)


def off(found: object, expected: object) -> float:
    """Return the largest deviation relative to max(1, largest expected)."""
    x, y = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    assert x.shape == y.shape
    assert np.isfinite(y).all(), "python-ace has no number for this"
    return float(np.abs(x - y).max(initial=0.0) / max(1.0, np.abs(y).max(initial=0.0)))


def compare(found: Evaluation, expected: Evaluation, volume: float) -> None:
    assert off(found.energy, expected.energy) <= 1e-9
    assert off(found.energies, expected.energies) <= 1e-9
    assert off(found.forces, expected.forces) <= 1e-7
    assert off(found.virial / volume, expected.virial / volume) <= 1e-7


def check_numbers(choice: Choice, folder: Path) -> None:
    """Energies, forces, stress and projections of both paths, of what was written, read and converted."""
    configuration = random_configuration(choice)
    write_yaml(configuration, folder / "p.yaml")
    basis = make_basis(read_yaml(folder / "p.yaml"))
    write_yace(to_products(basis), folder / "p.yace")
    truth, ours = Truth(folder / "p.yaml"), from_basis(basis)
    products = from_products(read_yace(folder / "p.yace"))
    assert truth.elements == ours.elements
    engines = {path: [AceEvaluator(p, path=path, threads=1) for p in (ours, products)] for path in PATHS}
    for seed in (choice.seed, choice.seed + 1):
        atoms = random_structure(seed, ours.elements)
        frame = neighbourhood(atoms, ours.cutoff, ours.elements)
        expected = truth.evaluate(atoms)
        volume = atoms.get_volume()
        compare(product_evaluation(folder / "p.yace", atoms), expected, volume)
        for evaluator, other in engines.values():
            compare(evaluator.evaluate(frame), expected, volume)
            compare(other.evaluate(frame), expected, volume)
            for row, wanted in zip(evaluator.projections(frame), truth.projections, strict=True):
                assert off(row[: len(wanted)], wanted) <= 1e-6


def check_conversion(choice: Choice, folder: Path) -> None:
    """Our C-tilde functions are python-ace's: equal index lists, equal coefficients."""
    write_yaml(random_configuration(choice), folder / "p.yaml")
    Truth(folder / "p.yaml").basis.to_ACECTildeBasisSet().save_yaml(str(folder / "theirs.yace"))
    theirs = read_yace(folder / "theirs.yace")
    for mine, other in zip(
        to_products(make_basis(read_yaml(folder / "p.yaml"))).functions, theirs.functions, strict=True
    ):
        for f, g in zip(mine, other, strict=True):
            assert (f.mus, f.ns, f.ls, f.ms.tolist()) == (g.mus, g.ns, g.ls, g.ms.tolist())
            assert off(f.ctildes, g.ctildes) <= 1e-13


def check_grades(choice: Choice, folder: Path) -> None:
    """Gamma with active sets that python-ace selected, linear and non-linear."""
    write_yaml(random_configuration(choice), folder / "p.yaml")
    truth, ours = Truth(folder / "p.yaml"), from_basis(make_basis(read_yaml(folder / "p.yaml")))
    atoms_needed = 1.6 * choice.ndensity * sum(truth.n_functions().values())
    environments = [random_structure(k, ours.elements, n_atoms=20) for k in range(2 + int(atoms_needed / 20))]
    for linear in (True, False):
        assert truth.active_set(environments, folder / "p.asi", linear=linear)
        active_set = read_asi(folder / "p.asi")
        atoms = random_structure(choice.seed, ours.elements)
        frame = neighbourhood(atoms, ours.cutoff, ours.elements)
        expected = truth.evaluate(atoms)
        for path in PATHS:
            found = AceEvaluator(ours, active_set, path=path, threads=1).evaluate(frame, gamma=True)
            assert found.gamma is not None
            assert off(found.gamma, expected.gamma) <= 1e-6
            compare(found, expected, atoms.get_volume())


@pytest.fixture
def quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """A folder; what python-ace prints is swallowed."""
    return tmp_path


@few
@given(choice=choices)
def test_numbers(quiet: Path, choice: Choice) -> None:
    check_numbers(choice, quiet)


@few
@given(choice=choices)
def test_conversion(quiet: Path, choice: Choice) -> None:
    check_conversion(choice, quiet)


@few
@given(choice=graded)
def test_grades(quiet: Path, choice: Choice) -> None:
    check_grades(choice, quiet)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "check"), [(choices, check_numbers), (choices, check_conversion), (graded, check_grades)]
)
def test_many(quiet: Path, strategy: st.SearchStrategy[Choice], check: Callable[[Choice, Path], None]) -> None:
    @many
    @given(choice=strategy)
    def run(choice: Choice) -> None:
        check(choice, quiet)

    run()


@pytest.mark.parametrize(
    "choice",
    [
        # Rounding had put the last node inside, where ChebLinear is not zero, and padding got its slope.
        Choice(seed=68, n_elements=2, kinds=("ChebLinear",), functions_per_rank=3),
        Choice(seed=109, n_elements=3, top_rank=3, kinds=("ChebPow",), inner="zbl", core=True, functions_per_rank=1),
        # Rounding had put python-ace's last node inside, where the slope is not zero, but not ours.
        Choice(seed=2627, n_elements=1, top_rank=1, kinds=("ChebPow",), ndensity=3, inner="distance"),
        # Without a repulsion the nearest neighbour switches ACE off all the same.
        Choice(seed=22, n_elements=4, top_rank=2, inner="zbl", inner_cutoff=True),
    ],
)
def test_what_was_wrong_before(tmp_path: Path, choice: Choice) -> None:
    for seed in range(2):
        check_numbers(replace(choice, seed=choice.seed + seed), tmp_path)

"""Pairs that an inner cutoff hides from gamma count as infinitely extrapolated, for whoever watches MD."""

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.ace.blind_pairs import SightedEvaluator, blind_below
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import read_asi, write_asi
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration
from mlip_autopipec.ace.loading import load_potential
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.evaluators import make_evaluator

R_IN = 2.3


def version(folder, kind):
    """Write a potential of two elements whose pairs have an inner cutoff of this kind."""
    folder.mkdir()
    radial = {
        "ALL": RadialSettings(5.0, r_in=0.0, inner_cutoff_type=kind),
        "Al Ni": RadialSettings(5.0, r_in=R_IN, delta_in=0.1, inner_cutoff_type=kind),
    }
    recipe = BasisRecipe(("Al", "Ni"), {"ALL": FunctionLimits((3, 2), (0, 1))}, radial)
    write_yaml(standard_configuration(recipe), folder / "potential.yaml")
    counts = load_potential(folder / "potential.yaml").n_functions
    write_asi({e: np.eye(n) for e, n in zip(("Al", "Ni"), counts, strict=True)}, folder / "potential.asi")
    return folder


def gamma(evaluator, symbols, distance):
    atoms = Atoms([*symbols, "Al"], [[0, 0, 0], [distance, 0, 0], [0, 0, 4.5]])
    return evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements), gamma=True).gamma


@pytest.mark.parametrize("engine", ["ace", "pyace"])
def test_a_hidden_pair_is_infinitely_extrapolated(tmp_path, engine, python_ace):
    folder = version(tmp_path / "v", "distance")
    bare = AceEvaluator(load_potential(folder / "potential.yaml"), read_asi(folder / "potential.asi"))
    assert np.isfinite(gamma(bare, ("Al", "Ni"), 1.4)).all()
    evaluator = make_evaluator(folder, engine)
    assert gamma(evaluator, ("Al", "Ni"), 1.4).tolist()[:2] == [np.inf, np.inf]
    assert gamma(evaluator, ("Ni", "Al"), R_IN + 0.04).tolist()[:2] == [np.inf, np.inf]
    assert np.isfinite(gamma(evaluator, ("Al", "Ni"), 1.4)[2])
    assert np.isfinite(gamma(evaluator, ("Al", "Ni"), R_IN + 0.06)).all()
    # Other pairs have no inner cutoff, so their functions tell.
    assert np.isfinite(gamma(evaluator, ("Ni", "Ni"), 1.4)).all()


@pytest.mark.parametrize("kind", ["density", "zbl"])
def test_modes_that_leave_the_functions_alone_hide_nothing(tmp_path, kind):
    folder = version(tmp_path / "v", kind)
    assert blind_below(load_potential(folder / "potential.yaml")) is None
    assert not isinstance(make_evaluator(folder), SightedEvaluator)


def test_native_lammps_cannot_be_told(tmp_path):
    with pytest.raises(ModelError, match=r"inner_cutoff_type distance hides.*"):
        make_evaluator(version(tmp_path / "v", "distance"), "native")


def test_without_an_active_set_nothing_is_added(tmp_path):
    folder = version(tmp_path / "v", "distance")
    limits = blind_below(load_potential(folder / "potential.yaml"))
    evaluator = SightedEvaluator(AceEvaluator(load_potential(folder / "potential.yaml")), limits)
    frame = neighbourhood(Atoms("AlNi", [[0, 0, 0], [1.4, 0, 0]]), evaluator.cutoff, evaluator.elements)
    assert not evaluator.has_gamma
    assert evaluator.evaluate(frame).gamma is None

"""`PyaceEvaluator` against stored values of python-ace, and on files that it must refuse."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from ase.io import read

from mlip_autopipec.core.errors import Crashed, EngineError, ModelError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.pacemaker import evaluator as module
from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator
from small_potentials import distorted, fit_emt

pytestmark = pytest.mark.usefixtures("python_ace")

REFERENCES = (
    *("AlNi_linear", "AlNi_fs2", "AlNi_core_density", "AlNi_core_distance", "AlNi_core_zbl"),
    *("Al_ChebPow", "Al_ChebLinear", "Al_SBessel"),
)


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    return fit_emt(tmp_path_factory.mktemp("AlCu"), ("Al", "Cu"), frames=8)


@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_stored_values(shared, name):
    folder = shared / "reference" / "ace"
    system = name.split("_")[0]
    stored = np.load(folder / f"ref_{name}.npz")
    names = [entry["name"] for entry in json.loads((folder / f"structures_{system}.json").read_text())]
    yaml = PyaceEvaluator(folder / "pots" / f"{name}.yaml", folder / "pots" / f"{name}.asi")
    yace = PyaceEvaluator(folder / "pots" / f"{name}.yace")
    assert yaml.elements == yace.elements
    for structure, atoms in zip(names, read(folder / f"structures_{system}.extxyz", ":"), strict=True):
        frame = neighbourhood(atoms, yaml.cutoff, yaml.elements)
        for evaluation in (yaml.evaluate(frame, gamma=True), yaml.evaluate(frame), yace.evaluate(frame)):
            expected = stored[f"{structure}/energies"]
            assert np.abs(evaluation.energies - expected).max() < 1e-9 * max(1.0, np.abs(expected).max())
            assert evaluation.energy == pytest.approx(float(expected.sum()), rel=1e-9, abs=1e-9)
            forces = stored[f"{structure}/forces"]
            assert np.abs(evaluation.forces - forces).max() < 1e-8 * max(1.0, np.abs(forces).max())
            virial = -stored[f"{structure}/virial_xx_yy_zz_xy_xz_yz"][[0, 1, 2, 5, 4, 3]]
            assert np.abs(evaluation.virial - virial).max() < 1e-8 * max(1.0, np.abs(virial).max())
            if evaluation.gamma is not None:
                gamma = stored[f"{structure}/gamma"]
                assert np.abs(evaluation.gamma - gamma).max() < 1e-6 * max(1.0, gamma.max())


def test_yace_has_isolated_atom_energies_and_yaml_has_not(potential):
    yaml, yace = PyaceEvaluator(potential / "potential.yaml"), PyaceEvaluator(potential / "potential.yace")
    atoms = distorted(["Al", "Cu"], 5)
    frame = neighbourhood(atoms, yaml.cutoff, yaml.elements)
    one, two = yaml.evaluate(frame), yace.evaluate(frame)
    isolated = np.where(np.array(atoms.get_chemical_symbols()) == "Al", 0.5, 1.5)
    assert np.abs(two.energies - one.energies - isolated).max() < 1e-10
    assert np.abs(two.forces - one.forces).max() < 1e-10
    assert np.abs(two.virial - one.virial).max() < 1e-10


def test_pairs_of_the_skin_change_nothing(potential):
    evaluator = PyaceEvaluator(potential / "potential.yaml", potential / "potential.asi")
    atoms = distorted(["Al", "Cu"], 6)
    tight = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements), gamma=True)
    wide = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff + 1.5, evaluator.elements), gamma=True)
    assert np.abs(tight.forces - wide.forces).max() < 1e-12
    assert np.abs(tight.gamma - wide.gamma).max() < 1e-7


def test_frames_of_changing_size(potential):
    """Reusing python-ace's environment for another number of atoms crashes the process."""
    evaluator = PyaceEvaluator(potential / "potential.yace")
    for repeat in (2, 1, 3, 1):
        atoms = distorted(["Al"], 1)[: 10 * repeat]
        frame = neighbourhood(atoms, evaluator.cutoff, evaluator.elements)
        assert evaluator.evaluate(frame).forces.shape == (10 * repeat, 3)


def test_gamma_needs_an_active_set(potential):
    evaluator = PyaceEvaluator(potential / "potential.yaml")
    assert not evaluator.has_gamma
    frame = neighbourhood(distorted(["Al"], 1), evaluator.cutoff, evaluator.elements)
    with pytest.raises(ModelError, match="active set"):
        evaluator.evaluate(frame, gamma=True)
    with pytest.raises(ModelError, match=r"a \.yace has no extrapolation grade"):
        PyaceEvaluator(potential / "potential.yace", potential / "potential.asi")


def test_atoms_on_top_of_each_other(potential):
    evaluator = PyaceEvaluator(potential / "potential.yaml")
    atoms = distorted(["Al"], 1)
    atoms.positions[1] = atoms.positions[0] + 1e-5
    with pytest.raises(Crashed, match="small distance"):
        evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements))


@pytest.mark.parametrize(
    ("name", "content"),
    [("p.yaml", "species: 3\n"), ("p.yaml", "{{{"), ("p.yace", "elements: [Al]\n"), ("p.yace", ""), ("p.yaml", "")],
)
def test_unreadable_potentials(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=name):
        PyaceEvaluator(tmp_path / name)


def test_missing_files(potential, tmp_path):
    with pytest.raises(ModelError, match="no such potential"):
        PyaceEvaluator(tmp_path / "potential.yaml")
    with pytest.raises(ModelError, match="not a potential"):
        PyaceEvaluator(potential / "potential.asi")
    with pytest.raises(ModelError, match="no such active set"):
        PyaceEvaluator(potential / "potential.yaml", tmp_path / "potential.asi")


def test_active_sets_that_python_ace_would_read_wrong(potential, tmp_path):
    with np.load(potential / "potential.asi") as stored:
        good = {key: stored[key] for key in stored.files}
    bad = {
        "elements": {"Al": good["Al"]},
        "float64": {**good, "Al": good["Al"].astype(np.float32)},
        "C-ordered": {**good, "Al": np.asfortranarray(good["Al"])},
        "another potential": {**good, "Al": good["Al"][:-1, :-1].copy()},
    }
    for message, arrays in bad.items():
        with (tmp_path / "x.asi").open("wb") as handle:
            np.savez(handle, **arrays)
        with pytest.raises(ModelError, match=message):
            PyaceEvaluator(potential / "potential.yaml", tmp_path / "x.asi")
    with (tmp_path / "x.asi").open("wb") as handle:
        np.savez_compressed(handle, **good)
    with pytest.raises(ModelError, match="compressed"):
        PyaceEvaluator(potential / "potential.yaml", tmp_path / "x.asi")
    (tmp_path / "x.asi").write_bytes((potential / "potential.asi").read_bytes()[:1000])
    with pytest.raises(ModelError, match="not an active set"):
        PyaceEvaluator(potential / "potential.yaml", tmp_path / "x.asi")


def test_a_missing_python_ace_is_named_with_its_extra(potential, monkeypatch):
    module.import_pyace.cache_clear()
    monkeypatch.setitem(sys.modules, "pyace", None)
    try:
        with pytest.raises(EngineError, match=r"pip install 'mlip-autopipec\[pacemaker\]'"):
            PyaceEvaluator(potential / "potential.yaml")
    finally:
        module.import_pyace.cache_clear()

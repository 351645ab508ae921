"""`autopipe potential fit`: a potential from a file, without a run, and its errors."""

from __future__ import annotations

import contextlib
import io
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.ace.calculator import ACECalculator
from mlip_autopipec.cli.main import main
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.store.registry import FILES


def labelled(atoms: Atoms, group: str) -> Atoms:
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.all():
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info["config_type"] = group
    return atoms


def frames(seeds) -> list[Atoms]:
    found = []
    for seed in seeds:
        group, spread = (("crystal", 0.05), ("hot", 0.2))[seed % 2]
        atoms = bulk("Al", a=4.0 + 0.02 * (seed % 5), cubic=True).repeat(2)
        atoms.symbols[: 4 * (seed % 3)] = "Cu"
        atoms.rattle(spread, seed=seed)
        found.append(labelled(atoms, group))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("structures")
    free = [labelled(Atoms(element), "isolated") for element in ("Al", "Cu")]
    ase.io.write(folder / "train.extxyz", [*free, *frames(range(18))])
    ase.io.write(folder / "test.extxyz", frames(range(100, 106)))
    return folder


def fit(capsys, *words, code: int = 0):
    with pytest.raises(SystemExit) as ended:
        main(["potential", "fit", *map(str, words)])
    captured = capsys.readouterr()
    assert int(ended.value.code or 0) == code, captured.err
    return captured


@pytest.fixture(scope="module")
def fitted(files):
    """The folder of a fit, and its report."""
    out, told = files / "al-cu", io.StringIO()
    words = ["--test", str(files / "test.extxyz"), "--basis", "small", "--out", str(out), "--json"]
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        main(["potential", "fit", str(files / "train.extxyz"), *words])
    return out, json.loads(told.getvalue())


def test_a_file_becomes_a_version_with_its_errors(files, fitted, capsys):
    out, report = fitted
    assert set(FILES) <= {file.name for file in out.iterdir()}
    assert report["isolated_energies_from"] == "given"
    assert report["isolated_energies_ev"] == {
        e: pytest.approx(Atoms(e, calculator=EMT()).get_potential_energy()) for e in ("Al", "Cu")
    }
    evaluator = make_evaluator(out)
    assert (evaluator.elements, evaluator.has_gamma) == (("Al", "Cu"), True)
    for side, number, limit in (("train", 18, 0.2), ("test", 6, 0.8)):
        found = report[side]
        assert found["structures"] == number
        assert set(found["groups"]) == {"crystal", "hot"}
        assert set(found["elements"]) == {"Al", "Cu"}
        assert 0 < found["force_mae"] <= found["force_rmse"] < limit
        assert found["force_cosine"] > 0.9
        assert found["stress_rmse_gpa"] > 0
    assert read_mapping(out / "train_config.yaml")["basis"]["size"] == "small"
    assert report["basis"]["functions"] == sum(evaluator.potential.n_functions)
    assert "not empty" in fit(capsys, files / "train.extxyz", "--out", out, code=78).err


def test_errors_are_those_of_the_files(files, fitted):
    """The numbers of the report are what an evaluation of the written potential by hand gives."""
    out, report = fitted
    calculator, forces, energies = ACECalculator(out / "potential.yace"), [], []
    for atoms in ase.io.read(files / "train.extxyz", "2:"):
        calculator.calculate(atoms)
        forces.append((calculator.results["forces"] - atoms.get_forces()).ravel())
        energies.append((calculator.results["energy"] - atoms.get_potential_energy()) / len(atoms))
    assert report["train"]["force_rmse"] == pytest.approx(np.sqrt(np.mean(np.concatenate(forces) ** 2)), rel=1e-6)
    assert report["train"]["energy_mae_mev"] == pytest.approx(1e3 * np.abs(energies).mean(), rel=1e-4)


def test_without_isolated_atoms_it_warns(files, tmp_path, capsys):
    ase.io.write(tmp_path / "train.extxyz", frames(range(0, 30, 3)))  # aluminium alone
    told = fit(capsys, tmp_path / "train.extxyz", "--basis", "small", "--out", tmp_path / "out")
    assert "isolated Al atom" in told.err
    assert "force_rmse" in told.out


def test_mistakes_are_named(files, tmp_path, capsys):
    unlabelled = tmp_path / "unlabelled.extxyz"
    ase.io.write(unlabelled, bulk("Al", cubic=True))
    assert "has no energy and forces" in fit(capsys, unlabelled, "--out", tmp_path / "out", code=78).err
    assert "no such file" in fit(capsys, tmp_path / "no.extxyz", "--out", tmp_path / "out", code=4).err


@pytest.mark.slow
@pytest.mark.usefixtures("python_ace")
def test_pacemaker_refines_a_file(tmp_path, capsys):
    """Few atoms: without derivatives by coefficients, an iteration takes thousands of evaluations."""
    small = [bulk("Al", a=3.9 + 0.05 * (seed % 5), cubic=True) for seed in range(12)]
    for seed, atoms in enumerate(small):
        atoms.rattle(0.3, seed=seed)
    ase.io.write(tmp_path / "few.extxyz", [labelled(Atoms("Al"), "isolated"), *(labelled(a, "hot") for a in small)])
    words = ("--basis", "small", "--trainer", "pacemaker", "--iterations", "1", "--kappa", "0.5")
    report = json.loads(fit(capsys, tmp_path / "few.extxyz", *words, "--out", tmp_path / "out", "--json").out)
    assert report["trainer"] == "pacemaker"
    assert make_evaluator(tmp_path / "out").has_gamma


@pytest.mark.parametrize(("words", "overlay"), [(("lj",), "lj/cut"), (("zbl", "--overlay"), "zbl"), (("zbl",), None)])
def test_a_file_may_be_fitted_on_top_of_a_baseline(files, tmp_path, capsys, words, overlay):
    ase.io.write(tmp_path / "al.extxyz", [labelled(bulk("Al", a=4.0) * (3, 3, 3), "crystal"), *frames((0, 3, 6))])
    e0 = f"Al={Atoms('Al', calculator=EMT()).get_potential_energy()}"
    out = tmp_path / "fit"
    words = [tmp_path / "al.extxyz", "--basis", "small", "--e0", e0, "--baseline", *words, "--out", out, "--json"]
    report = json.loads(fit(capsys, *words).out)
    evaluator = make_evaluator(out)
    found = evaluator.overlay
    assert (None if found is None else found.style) == overlay
    assert report["train"]["force_rmse"] < 0.3
    chosen = read_mapping(out / "train_config.yaml")["baseline"]
    assert (chosen["kind"], chosen["form"]) == (words[6], "in-file" if overlay is None else "overlay")
    # Two atoms that fall into each other: ACE is off, and the baseline is alone.
    calculator = ACECalculator(out / "potential.yaml", threads=1)
    pairs = [Atoms("Al2", [(0, 0, 0), (distance, 0, 0)]) for distance in (1.0, 0.5)]
    pushes = [float(calculator.get_forces(pair)[1, 0]) for pair in pairs]
    assert pushes[1] > pushes[0] > 0

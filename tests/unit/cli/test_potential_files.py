"""`autopipe potential info|convert|compare|evaluate|errors` on real potential files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.ace import ACECalculator
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.cli.main import main
from mlip_autopipec.core.files import write_json


@pytest.fixture
def autopipe(capsys: pytest.CaptureFixture[str]) -> Any:
    """`autopipe(words...)` -> exit code, stdout, stderr."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["potential", *map(str, words)])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def pots(shared: Path) -> Path:
    return shared / "reference" / "ace" / "pots"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three AlNi structures: crystal, rattled, molecule without a cell."""
    crystal = bulk("Al", cubic=True)
    crystal.symbols[0] = "Ni"
    rattled = crystal.repeat((2, 1, 1))
    rattled.rattle(0.1, seed=1)
    molecule = crystal[:2]
    molecule.set_cell(np.zeros((3, 3)))
    molecule.pbc = False
    rattled.info["config_type"] = "rattled"
    ase.io.write(tmp_path / "frames.extxyz", [crystal, rattled, molecule])
    return tmp_path / "frames.extxyz"


@pytest.fixture
def run_folder(tmp_path: Path, pots: Path) -> Path:
    """A run with one published version, AlNi_linear with E0."""
    folder = tmp_path / "run"
    version = folder / "potentials" / "v0001"
    version.mkdir(parents=True)
    (folder / "autopipe.yaml").write_text(yaml.safe_dump({"start": {"structure": "x", "dataset": "x"}}))
    for suffix in ("yaml", "asi"):
        (version / f"potential.{suffix}").write_bytes((pots / f"AlNi_linear.{suffix}").read_bytes())
    text = (pots / "AlNi_linear.yace").read_text().replace("E0: [0, 0]", "E0: [-1.5, 2.25]")
    (version / "potential.yace").write_text(text)
    write_json(version / "manifest.json", {"version": "v0001"})
    # As older versions wrote it.
    write_json(folder / "potentials" / "reference_energies.json", {"Al": 77.0})
    return folder


def test_info(autopipe: Any, pots: Path, run_folder: Path) -> None:
    code, out, _ = autopipe("info", pots / "AlNi_core_zbl.yaml", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["elements"] == ["Al", "Ni"]
    assert facts["functions"]["Al"] == {"1": 12, "2": 45, "3": 34, "4": 3}
    assert facts["pairs"]["Al Ni"]["inner_cutoff"] == "zbl"
    assert facts["pairs"]["Al Ni"]["core_repulsion"] is not None
    assert facts["active_set"]["kind"] == "linear"
    assert facts["isolated_energies_ev"] is None
    code, out, _ = autopipe("info", run_folder / "potentials" / "v0001" / "potential.yace", "--json")
    assert json.loads(out)["isolated_energies_ev"] == {"Al": -1.5, "Ni": 2.25}
    code, out, _ = autopipe("info", "v0001", "-C", run_folder)
    assert code == 0
    for word in ("cutoff (A)", "rank 1", "ChebExpCos", "FinnisSinclair", "active set:", "linear"):
        assert word in out


def test_convert(autopipe: Any, pots: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.yace"
    code, out, _ = autopipe("convert", pots / "AlNi_fs2.yaml", target, "--e0", "Ni=-2.5", "--json")
    assert code == 0
    assert json.loads(out)["isolated_energies_ev"] == {"Al": 0.0, "Ni": -2.5}
    assert read_yace(target).isolated_energies == (0.0, -2.5)
    code, _, err = autopipe("convert", pots / "AlNi_fs2.yaml", target)
    assert (code, "--yes" in err) == (78, True)
    assert autopipe("convert", pots / "AlNi_fs2.yaml", target, "--yes")[0] == 0
    assert read_yace(target).isolated_energies == (0.0, 0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.yace"]


def test_compare(autopipe: Any, pots: Path, frames: Path, tmp_path: Path) -> None:
    target, figure = tmp_path / "x.yace", tmp_path / "parity.png"
    autopipe("convert", pots / "AlNi_fs2.yaml", target, "--e0", "Ni=-2.5")
    code, out, _ = autopipe("compare", pots / "AlNi_fs2.yaml", target, frames, "--json")
    same = json.loads(out)
    assert (code, same["structures"], same["atoms"]) == (0, 3, 14)
    assert max(q["max"] for q in same["quantities"].values()) < 1e-12
    assert [same["quantities"][name]["values"] for name in ("energy", "forces", "stress")] == [3, 42, 12]
    code, out, _ = autopipe("compare", pots / "AlNi_fs2.yaml", pots / "AlNi_linear.yaml", frames, "--json")
    other = json.loads(out)["quantities"]
    pairs = [
        [ACECalculator(pots / f"{name}.yaml", threads=1).get_forces(atoms) for atoms in ase.io.iread(frames, ":")]
        for name in ("AlNi_fs2", "AlNi_linear")
    ]
    deviations = np.concatenate([(b - a).ravel() for a, b in zip(*pairs, strict=True)])
    assert other["forces"]["rmse"] == pytest.approx(np.sqrt(np.mean(deviations**2)))
    assert other["forces"]["max"] == pytest.approx(np.abs(deviations).max())
    assert autopipe("compare", pots / "AlNi_fs2.yaml", pots / "AlNi_linear.yaml", frames, "--plot", figure)[0] == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_evaluate(autopipe: Any, pots: Path, frames: Path, tmp_path: Path, run_folder: Path) -> None:
    output = tmp_path / "out.extxyz"
    words = ("evaluate", pots / "AlNi_fs2.yaml", frames, "-o", output)
    code, out, _ = autopipe(*words, "--active-set", pots / "AlNi_fs2.asi", "--json")
    assert code == 0
    told = json.loads(out)["structures"]
    calculator = ACECalculator(pots / "AlNi_fs2.yaml", pots / "AlNi_fs2.asi", threads=1)
    written = ase.io.read(output, ":")
    for atoms, summary in zip(written, told, strict=True):
        expected = calculator.get_potential_energy(atoms)
        assert atoms.get_potential_energy() == summary["energy"] == pytest.approx(expected, abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), calculator.results["forces"], atol=1e-6)
        np.testing.assert_allclose(atoms.arrays["gamma"], calculator.results["gamma"], rtol=1e-5, atol=1e-5)
        assert summary["gamma_max"] == pytest.approx(atoms.arrays["gamma"].max(), abs=1e-7)
    assert written[1].info["config_type"] == "rattled"
    np.testing.assert_allclose(written[1].get_stress(), calculator.get_stress(written[1]), atol=1e-6)
    code, _, err = autopipe(*words)
    assert (code, "exists already" in err) == (78, True)
    assert autopipe(*words, "--yes")[0] == 0
    assert "gamma" not in ase.io.read(output).arrays
    code, out, _ = autopipe("evaluate", "v0001", frames, "-o", output, "--yes", "-C", run_folder, "--json")
    assert json.loads(out)["gamma"]


def test_errors_count_each_structure_once_and_from_the_isolated_atoms_of_the_version(
    autopipe: Any, pots: Path, frames: Path, run_folder: Path
) -> None:
    calculator, labelled = ACECalculator(pots / "AlNi_linear.yaml", threads=1), []
    for atoms in ase.io.iread(frames, ":"):
        forces = calculator.get_forces(atoms)
        shift = sum({"Al": -1.5, "Ni": 2.25}[symbol] for symbol in atoms.symbols)
        energy = calculator.results["energy"] + shift + 0.001 * len(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces + 0.5)
        labelled.append(atoms)
    ase.io.write(frames, labelled)
    code, out, err = autopipe("errors", frames, "-C", run_folder, "--json")
    assert (code, err) == (0, "")
    table = json.loads(out)["v0001"]
    assert {name: group["structures"] for name, group in table.items()} == {"all": 3, "rattled": 1}
    assert table["all"]["force_rmse"] == pytest.approx(0.5, abs=1e-6)
    assert table["all"]["energy_rmse_mev"] == pytest.approx(1.0, abs=1e-3)


def test_mistakes(autopipe: Any, pots: Path, frames: Path, tmp_path: Path, run_folder: Path) -> None:
    fs2, target = pots / "AlNi_fs2.yaml", tmp_path / "y.yace"
    (tmp_path / "broken.yaml").write_text("species: 3\nglobal: {DeltaSplineBins: 0.001}\n")
    (tmp_path / "empty.extxyz").write_text("")
    (tmp_path / "broken.extxyz").write_text(frames.read_text() + "7\nno such\nAl 0 0\n")
    bulk("Xe", "fcc", 6.0).write(tmp_path / "xe.extxyz")
    out = ("-o", tmp_path / "o.extxyz")
    for words, code, reason in (
        (("info", tmp_path / "absent.yaml"), 4, "no such file"),
        (("info", "v0001", "-C", tmp_path), 4, "not a run directory"),
        (("info", "v0009", "-C", run_folder), 4, "known: v0001"),
        (("info", tmp_path / "broken.yaml"), 78, "broken.yaml: species: expected a list"),
        (("info", tmp_path / "empty.extxyz"), 78, "must end in .yaml or .yace"),
        (("convert", pots / "AlNi_fs2.yace", target), 2, "SOURCE must be a .yaml"),
        (("convert", fs2, tmp_path / "y.txt"), 2, "must end in .yace"),
        (("convert", tmp_path / "absent.yaml", target), 4, "no such file"),
        (("convert", fs2, tmp_path / "nowhere" / "y.yace"), 78, "no folder"),
        (("convert", fs2, target, "--e0", "Al"), 2, "Al=-3.2"),
        (("convert", fs2, target, "--e0", "Cu=1"), 78, "Cu is not in"),
        (("compare", fs2, tmp_path / "absent.yaml", frames), 4, "absent.yaml: no such file"),
        (("compare", fs2, fs2, tmp_path / "absent.xyz"), 4, "absent.xyz: no such file"),
        (("compare", fs2, fs2, tmp_path / "empty.extxyz"), 78, "empty.extxyz"),
        (("compare", fs2, fs2, tmp_path / "xe.extxyz"), 78, "structure 1: the potential knows Al Ni"),
        (("compare", fs2, fs2, frames, "--plot", tmp_path / "p.docx"), 2, "must end in one of"),
        (("evaluate", fs2, tmp_path / "broken.extxyz", *out), 78, "structure 4 cannot be read"),
        (("evaluate", fs2, frames, *out, "--active-set", tmp_path / "no.asi"), 4, "no.asi: no such file"),
        (("evaluate", fs2, frames, *out, "--active-set", pots / "Al_SBessel.asi"), 78, "Al_SBessel.asi: the active"),
        (("evaluate", fs2, frames, *out, "--active-set", frames), 78, "not an active set"),
        (("errors", tmp_path / "absent.xyz", "-C", run_folder), 4, "absent.xyz: no such file"),
        (("errors", frames, "-C", run_folder), 78, "structure 1 has no energy and forces"),
    ):
        found, stdout, stderr = autopipe(*words)
        assert (found, stdout) == (code, ""), (words, stderr)
        assert reason in stderr.replace("\n", " "), words
        assert "Traceback" not in stderr
    assert not (tmp_path / "o.extxyz").exists()
    assert not list(tmp_path.glob("*.part"))

"""VASP without VASP: its files through ASE, its failures as it words them, and a fake program whose physics is EMT.

The texts in tests/data/vasp are written after VASP's own; of the real program comes the vasprun.xml that ASE's package
brings for its tests.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100
from ase.calculators.emt import EMT
from pydantic import ValidationError

from mlip_autopipec.core.errors import AutopipeError, ConfigError, Crashed, NotConverged, OutputUnreadable, TimedOut
from mlip_autopipec.core.program import Ended
from mlip_autopipec.engines.vasp.failures import Report, classify
from mlip_autopipec.engines.vasp.labeller import VaspLabeller
from mlip_autopipec.engines.vasp.outputs import read_label
from mlip_autopipec.engines.vasp.settings import VaspNode, VaspSettings
from vasp_parts import fake_potcars, fake_vasp

DATA = Path(__file__).parents[2] / "data" / "vasp"
INDEX: dict[str, dict[str, Any]] = json.loads((DATA / "index.json").read_text())
RECORDED = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / "vasprun_pstress.xml"


def labeller(tmp_path: Path, *potcars: str, node: dict[str, Any] | None = None, **settings: Any) -> VaspLabeller:
    return VaspLabeller(VaspSettings(**settings), fake_vasp(tmp_path, *(potcars or ("Al", "Cu", "Au")), **(node or {})))


def mixed() -> Atoms:
    """Two elements, not in blocks."""
    atoms = bulk("Cu", cubic=True, a=3.8)
    atoms.symbols[[0, 2]] = "Al"
    atoms.rattle(0.1, seed=1)
    return atoms


def incar(folder: Path) -> dict[str, str]:
    rows = (line.partition("=") for line in (folder / "INCAR").read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in rows}


# --- input ---------------------------------------------------------------------------------------------------------


def test_what_is_asked_of_vasp(tmp_path: Path) -> None:
    labeller(tmp_path, incar={"IVDW": 12, "lmaxmix": 4}).label(mixed(), tmp_path)
    keys = incar(tmp_path)
    for key, value in {
        "NSW": "0", "IBRION": "-1", "ISIF": "2", "ISPIN": "1", "PREC": "Accurate", "ISMEAR": "1", "NELM": "150",
        "ALGO": "Normal", "GGA": "PE", "IVDW": "12", "LMAXMIX": "4", "LREAL": ".FALSE.", "LWAVE": ".FALSE.",
    }.items():  # fmt: skip
        assert keys[key] == value, key
    assert float(keys["ENCUT"]) == 500
    assert float(keys["EDIFF"]) == 1e-7
    assert float(keys["SIGMA"]) == 0.2
    # 2 pi / 3.8 A / 0.15 = 11.02
    assert (tmp_path / "KPOINTS").read_text().splitlines()[2:4] == ["Gamma", "12 12 12"]
    assert "Al" in (tmp_path / "POSCAR").read_text()


@pytest.mark.parametrize(
    ("functional", "written"),
    [("PBE", {"GGA": "PE"}), ("PBEsol", {"GGA": "PS"}), ("r2SCAN", {"METAGGA": "R2SCAN"}), ("LDA", {})],
)
def test_functionals(tmp_path: Path, functional: str, written: dict[str, str]) -> None:
    fake_potcars(tmp_path, "Al", library="potpaw_LDA")
    labeller(tmp_path, functional=functional).label(bulk("Al"), tmp_path)
    assert {key: value for key, value in incar(tmp_path).items() if key in ("GGA", "METAGGA")} == written


def test_spin_starts_from_moments_in_vasps_order_and_they_come_back_in_ours(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True, a=3.8)
    atoms.symbols[[0, 2]] = "Ni"
    label = labeller(tmp_path, "Ni", "Cu", magnetic_moments={"Ni": 1.5}).label(atoms, tmp_path)
    keys = incar(tmp_path)
    assert keys["ISPIN"] == "2"
    assert keys["LORBIT"] == "11"
    assert keys["MAGMOM"].split() == ["2*1.5000", "2*0.0000"]
    # The fake gives its first atom 0.1, its second 0.2, and so on.
    assert label.info["moments"] == pytest.approx([0.1, 0.3, 0.2, 0.4])
    assert label.info["total_magnetization"] == pytest.approx(1.0)


def test_an_antiferromagnet_starts_with_opposite_moments(tmp_path: Path) -> None:
    nickel = bulk("Ni", "bcc", a=2.8, cubic=True)
    labeller(tmp_path, "Ni", magnetic_order="antiferro").label(nickel, tmp_path)
    assert incar(tmp_path)["MAGMOM"].split() == ["1*2.0000", "1*-2.0000"]


def test_a_slab_gets_vacuum_and_a_dipole_correction_away_from_its_atoms(tmp_path: Path) -> None:
    slab = fcc100("Al", (1, 1, 3), vacuum=None)
    slab.pbc = (True, True, False)
    label = labeller(tmp_path).label(slab, tmp_path)
    keys = incar(tmp_path)
    assert label.stress is None
    assert (keys["IDIPOL"], keys["LDIPOL"]) == ("3", ".TRUE.")
    middle = float(keys["DIPOL"].split()[2])
    heights = np.array([float(line.split()[2]) for line in (tmp_path / "POSCAR").read_text().splitlines()[8:11]])
    assert np.ptp(heights) > 3
    height = float((tmp_path / "POSCAR").read_text().splitlines()[4].split()[2])
    assert middle * height == pytest.approx(heights.mean(), abs=0.01)
    assert (tmp_path / "KPOINTS").read_text().splitlines()[3].split()[2] == "1"


def test_a_charge_becomes_a_number_of_electrons(tmp_path: Path) -> None:
    labeller(tmp_path, total_charge=1.0).label(bulk("Al", cubic=True), tmp_path)
    assert float(incar(tmp_path)["NELECT"]) == 4 * 3 - 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"incar": {"ENCUT": 400}}, "encut: is set by another key"),
        ({"incar": {"PSTRESS": 10}}, "pstress"),
        ({"incar": {"ivdw": 1, "IVDW": 2}}, "given twice"),
        ({"potcars": {"Na": "Mg_pv"}}, "no POTCAR folder of Na"),
        ({"potcars": {"Xx": "Xx"}}, "no element symbol"),
        ({"nspin": 1, "magnetic_moments": {"Fe": 3}}, "no meaning without spin"),
        ({"magnetic_moments": {"Fe": 30}}, "no atom has 30"),
        ({"encut": 400}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        VaspSettings(**settings)


# --- POTCARs and the program ---------------------------------------------------------------------------------------


def test_potcars_are_those_of_the_manual_or_of_the_settings(tmp_path: Path) -> None:
    plain = labeller(tmp_path, "Na", "Na_pv", "Cu")
    assert plain._library == tmp_path / "potpaw_PBE"
    plain.check_elements(["Na", "Cu"])
    with pytest.raises(ConfigError, match=r"labeller\.potcars: Al: no POTCAR in .*potpaw_PBE/Al") as caught:
        plain.check_elements(["Al"])
    assert "gpaw" in caught.value.hint
    only = labeller(tmp_path / "other", "Na")
    with pytest.raises(ConfigError, match="Na_pv") as caught:
        only.check_elements(["Na"])
    assert "there are Na: write {Na: Na}" in caught.value.hint
    labeller(tmp_path / "other", "Na", potcars={"Na": "Na"}).check_elements(["Na"])


def test_versions_and_missing_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_potcars(tmp_path, "Al", library="potpaw_PBE.64")
    node = fake_vasp(tmp_path)
    assert VaspLabeller(VaspSettings(potcar_version="64"), node)._library.name == "potpaw_PBE.64"
    with pytest.raises(ConfigError, match=r"has no potpaw_PBE \(potpaw_PBE\.64\)"):
        VaspLabeller(VaspSettings(), node)
    monkeypatch.delenv("VASP_PP_PATH", raising=False)
    with pytest.raises(ConfigError, match=r"node\.vasp\.potcar_dir: missing"):
        VaspLabeller(VaspSettings(), VaspNode(command=node.command))
    fake_potcars(tmp_path, "Al")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path))
    from_environment = VaspLabeller(VaspSettings(), VaspNode(command=node.command))
    assert np.isfinite(from_environment.label(bulk("Al"), tmp_path).energy)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.vasp\.command: 'no-vasp' was not found"):
        VaspLabeller(VaspSettings(), VaspNode(command="no-vasp -x", potcar_dir=fake_potcars(tmp_path, "Al")))


def test_potcars_do_not_stay_and_the_label_says_which_they_were(tmp_path: Path) -> None:
    label = labeller(tmp_path, "Al", "Cu").label(mixed(), tmp_path)
    assert not (tmp_path / "POTCAR").exists()
    assert (tmp_path / "OUTCAR").exists()
    assert label.info["potcars"] == {"Al": "Al", "Cu": "Cu"}
    assert label.info["potcar_titles"] == ["PAW_PBE Al 04Jan2001", "PAW_PBE Cu 04Jan2001"]
    assert label.info["program"] == "vasp 6.4.2"
    assert label.info["scf_iterations"] == 7
    assert label.info["cores"] == 4
    assert json.loads(json.dumps(label.info)) == label.info


# --- output --------------------------------------------------------------------------------------------------------


def test_energy_is_the_free_energy_and_forces_are_in_our_order(tmp_path: Path) -> None:
    atoms = mixed()
    label = labeller(tmp_path).label(atoms, tmp_path)
    atoms.calc = EMT()
    assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    assert np.allclose(label.forces, atoms.get_forces(), atol=1e-7)
    assert np.allclose(label.stress, atoms.get_stress(), atol=1e-7)
    assert abs(label.info["energy_sigma0_ev"] - label.energy) > 0.01


def test_a_recorded_vasprun(tmp_path: Path) -> None:
    """Diamond by VASP 6.3 with PSTRESS: the file's own total is an enthalpy."""
    (tmp_path / "vasprun.xml").write_bytes(RECORDED.read_bytes())
    outcar = "  free  energy   TOTEN  =       -20.24695937 eV\n"
    label = read_label(tmp_path, Report(Ended(0, 1.0), outcar, "", ""), [1, 0], stress=True)
    assert label.energy == pytest.approx(-20.24695937, abs=1e-7)
    assert label.info["energy_sigma0_ev"] == pytest.approx(-20.24720095, abs=1e-7)
    assert label.forces.shape == (2, 3)
    assert label.stress is not None
    assert label.stress.shape == (6,)


def test_a_vasprun_that_ends_early_is_never_a_label(tmp_path: Path) -> None:
    labeller(tmp_path).label(mixed(), tmp_path)
    report = Report.of(tmp_path, Ended(0, 1.0))
    lines = (tmp_path / "vasprun.xml").read_text().splitlines(keepends=True)
    # Without the last lines, which only close what is open, the numbers are all there.
    last = next(i for i, line in enumerate(lines) if "e_fr_energy" in line and i > len(lines) - 10)
    for count in range(last + 1):
        (tmp_path / "vasprun.xml").write_text("".join(lines[:count]))
        with pytest.raises(OutputUnreadable):
            read_label(tmp_path, report, [0, 1, 2, 3], stress=True)


@pytest.mark.parametrize(
    ("end", "error", "words"),
    [
        ("nelm", NotConverged, "did not converge in 7 iterations"),
        ("kill", Crashed, "killed by signal 9"),
        ("torn", OutputUnreadable, r"vasprun\.xml"),
        ("stale", OutputUnreadable, "OUTCAR says a free energy"),
    ],
)
def test_ends_without_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, error: type[AutopipeError], words: str
) -> None:
    monkeypatch.setenv("FAKE_VASP", end)
    with pytest.raises(error, match=words) as caught:
        labeller(tmp_path).label(mixed(), tmp_path)
    assert caught.value.hint
    assert caught.value.transient == (end == "kill")
    assert not (tmp_path / "POTCAR").exists()


@pytest.mark.parametrize("name", INDEX)
def test_what_vasp_says_has_its_class(name: str) -> None:
    outcar = DATA / f"{name}.OUTCAR"
    output = (DATA / f"{name}.out").read_text()
    error = classify(Report(Ended(INDEX[name]["code"], 1.0), outcar.read_text() if outcar.exists() else "", output, ""))
    assert type(error).__name__ == INDEX[name]["end"]
    assert error is not None
    for word in INDEX[name]["words"]:
        assert word in error.message
    assert error.hint
    assert not re.search(r"[|#]|--", error.message)


def test_what_an_earlier_run_left_is_not_a_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = labeller(tmp_path).label(mixed(), tmp_path)
    assert np.isfinite(label.energy)
    monkeypatch.setenv("FAKE_VASP", "refuse")
    with pytest.raises(ConfigError, match="Error reading item 'ENCUT'"):
        labeller(tmp_path).label(mixed(), tmp_path)
    assert not (tmp_path / "vasprun.xml").exists()


def test_an_outcar_that_ends_early_is_never_converged(tmp_path: Path) -> None:
    labeller(tmp_path).label(mixed(), tmp_path)
    report = Report.of(tmp_path, Ended(0, 1.0))
    assert classify(report) is None
    lines = report.outcar.splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if "General timing" in line)
    for count in range(end):
        cut = Report(report.ended, "".join(lines[:count]), report.output, "")
        assert isinstance(classify(cut), OutputUnreadable)


def script(folder: Path, text: str) -> list[str]:
    """Return the command of a shell script that stands in for VASP."""
    path = folder / "vasp.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


def test_a_program_over_its_time_is_killed(tmp_path: Path) -> None:
    command = script(tmp_path, "echo $$ > pid\nexec sleep 60")
    node = VaspNode(command=command, potcar_dir=fake_potcars(tmp_path, "Al"), max_seconds=3.0)
    with pytest.raises(TimedOut, match="0 SCF iterations"):
        VaspLabeller(VaspSettings(), node).label(bulk("Al"), tmp_path)
    assert not Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()


def test_threads_are_what_the_node_says(tmp_path: Path) -> None:
    command = script(tmp_path, "echo threads $OMP_NUM_THREADS\nexit 3")
    node = VaspNode(command=command, potcar_dir=fake_potcars(tmp_path, "Al"), threads=3)
    with pytest.raises(Crashed, match="exit code 3: threads 3"):
        VaspLabeller(VaspSettings(), node).label(bulk("Al"), tmp_path)
    assert os.access(tmp_path / "vasp.out", os.R_OK)

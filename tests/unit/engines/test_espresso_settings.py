"""Settings, pseudopotential files and inputs: refused before pw.x starts, with words that help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.engines.espresso.choices import choose
from mlip_autopipec.engines.espresso.inputs import prepare, prepare_isolated
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.pseudopotentials import load_pseudopotentials, read_header
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

V2 = '<UPF version="2.0.1">\n<PP_HEADER generated="by us" element="{}" pseudo_type="{}" functional="{}"/>\n<PP_MESH>'
V1 = """<PP_HEADER>
   0                   Version Number
  {}                    Element
   {}                  Ultrasoft pseudopotential
    F                  Nonlinear Core Correction
 {}   Exchange-Correlation functional
</PP_HEADER>"""


@pytest.fixture
def pseudo_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "pseudo"
    folder.mkdir()
    (folder / "Al.lda.UPF").write_text(V2.format("Al", "NC", " SLA  PZ   NOGX NOGC"))
    (folder / "Al_pbe.UPF").write_text(V2.format("Al", "NC", "PBE"))
    (folder / "C.lda.UPF").write_text(V1.format("C", "NC", "SLA PZ NOGX NOGC   PZ"))
    (folder / "Cu.pbe.UPF").write_text(V1.format("Cu", "US", "SLA  PW   PBE  PBE   PBE"))
    (folder / "Ni.pbe.UPF").write_text(V2.format("ni ", "PAW", " SLA  PW   PBX  PBC"))
    (folder / "Fe.new.UPF").write_text(V2.format("Fe", "NC", "R2SCAN-OF-TOMORROW"))
    (folder / "Si.bhs").write_text("numbers only")
    return folder


def settings(**changes: object) -> EspressoSettings:
    return EspressoSettings(**{"pseudopotentials": {"Al": "Al.lda.UPF"}, **changes})


def test_headers_of_both_versions(pseudo_dir: Path) -> None:
    read = {p.name: read_header(p) for p in pseudo_dir.iterdir()}
    assert (read["C.lda.UPF"].element, read["C.lda.UPF"].functional) == ("C", "SLA PZ NOGX NOGC")
    assert (read["Cu.pbe.UPF"].element, read["Cu.pbe.UPF"].is_soft) == ("Cu", True)
    assert (read["Ni.pbe.UPF"].element, read["Ni.pbe.UPF"].is_soft) == ("Ni", True)
    assert (read["Al.lda.UPF"].functional, read["Al.lda.UPF"].is_soft) == ("SLA PZ NOGX NOGC", False)
    assert (read["Si.bhs"].element, read["Si.bhs"].functional) == ("", "")
    assert len({p.sha256 for p in read.values()}) == len(read)


def test_files_that_belong_together(pseudo_dir: Path) -> None:
    names = {"Al": "Al_pbe.UPF", "Cu": "Cu.pbe.UPF", "Ni": "Ni.pbe.UPF", "Fe": "Fe.new.UPF", "Si": "Si.bhs"}
    assert set(load_pseudopotentials(names, pseudo_dir)) == set(names)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"Al": "Al.pbe.UPF"}, r"pseudopotentials\.Al: .*Al\.pbe\.UPF does not exist.*Al\.lda\.UPF, Al_pbe\.UPF"),
        ({"W": "W.UPF"}, r"pseudopotentials\.W: .*has no file for W"),
        ({"Cu": "Al.lda.UPF"}, r"pseudopotentials\.Cu: Al\.lda\.UPF is of Al .*Cu\.pbe\.UPF"),
        ({"C": "C.lda.UPF", "Cu": "Cu.pbe.UPF"}, r"different functionals"),
    ],
)
def test_wrong_files(pseudo_dir: Path, names: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_pseudopotentials(names, pseudo_dir)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pseudo_dir"):
        load_pseudopotentials({"Al": "Al.UPF"}, tmp_path / "nowhere")


def test_missing_program(pseudo_dir: Path) -> None:
    for command in ("pw-nowhere.x -nk 2", ["pw-nowhere.x"], ""):
        with pytest.raises(ConfigError, match=r"node\.espresso\.command"):
            EspressoLabeller(settings(), EspressoNode(command=command, pseudo_dir=pseudo_dir))


def test_an_mpirun_of_this_python_environment_is_refused(
    pseudo_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "mpirun"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    node = EspressoNode(command="mpirun -np 2 pw.x", pseudo_dir=pseudo_dir)
    EspressoLabeller(settings(), node)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    with pytest.raises(ConfigError, match=r"node\.espresso\.command: 'mpirun' is .*another MPI") as caught:
        EspressoLabeller(settings(), node)
    assert "/usr/bin/mpirun" in caught.value.hint


def test_density_cutoff_is_the_same_for_all_labels_of_a_run(pseudo_dir: Path) -> None:
    def cutoff(**changes: object) -> float:
        return choose(settings(**changes), pseudo_dir).ecutrho_ry

    hard, soft = {"Al": "Al_pbe.UPF"}, {"Al": "Al_pbe.UPF", "Cu": "Cu.pbe.UPF"}
    assert cutoff(ecutwfc_ry=30, pseudopotentials=hard) == 120
    assert cutoff(ecutwfc_ry=30, pseudopotentials=soft) == 240
    assert cutoff(ecutwfc_ry=30, ecutrho_ry=300, pseudopotentials=soft) == 300


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [(0.5, (4, 2, 1)), (1.6, None), (np.pi / 4, (2, 1, 1)), (np.pi / 4 - 1e-3, (3, 2, 1)), (0.1, (16, 8, 4))],
)
def test_kpoints_are_at_most_the_spacing_apart(spacing: float, expected: tuple | None) -> None:
    # 2 pi / 4, 2 pi / 8, 2 pi / 16 per A
    atoms = Atoms("Al", cell=[4, 8, 16], pbc=True)
    assert prepare(atoms, settings(kspacing=spacing)).kpoints == expected


def test_kpoints_follow_the_lattice_planes() -> None:
    # fcc primitive cell: |b| = 2 pi sqrt(3) / a
    job = prepare(bulk("Al", a=4.0), settings(kspacing=2 * np.pi * np.sqrt(3) / 4.0 / 3.001))
    assert job.kpoints == (4, 4, 4)


def test_open_directions_get_vacuum_and_one_kpoint() -> None:
    sheet = Atoms("Al2", positions=[[0, 0, 1.0], [1.5, 1.5, 3.0]], cell=[3, 3, 5], pbc=(True, True, False))
    job = prepare(sheet, settings(kspacing=0.5, vacuum=9.0))
    assert job.atoms.pbc.all()
    assert job.atoms.cell.cellpar() == pytest.approx([3, 3, 11, 90, 90, 90])
    assert job.kpoints == (5, 5, 1)
    sheet.cell[2] = [0, 0, 0]
    assert prepare(sheet, settings(vacuum=9.0)).atoms.cell[2] == pytest.approx([0, 0, 11])
    sheet.cell[2] = [0, 0, 40]
    assert prepare(sheet, settings(vacuum=9.0)).atoms.cell[2] == pytest.approx([0, 0, 40])
    molecule = Atoms("Al2", positions=[[0, 0, 0], [0, 2.5, 0]])
    job = prepare(molecule, settings(vacuum=9.0))
    assert job.atoms.cell.cellpar() == pytest.approx([9, 11.5, 9, 90, 90, 90])
    assert job.kpoints is None


def test_isolated_atom_has_a_box_and_gamma() -> None:
    job = prepare_isolated("Al", settings(kspacing=0.1, isolated_box=11.0))
    assert job.atoms.cell.cellpar() == pytest.approx([11, 11, 11, 90, 90, 90])
    assert job.kpoints is None


def test_overlapping_atoms_are_refused() -> None:
    with pytest.raises(DataError, match=r"atoms 0 and 1 are 0\.400 A apart"):
        prepare(Atoms("Al2", positions=[[0, 0, 0], [0, 0, 0.4]], cell=[5, 5, 5], pbc=True), settings())
    with pytest.raises(DataError, match="apart"):
        prepare(Atoms("Al2", positions=[[0, 0, 0.1], [0, 0, 4.8]], cell=[5, 5, 5], pbc=True), settings())
    open_above = Atoms("Al2", positions=[[0, 0, 0.1], [0, 0, 4.8]], cell=[5, 5, 5], pbc=(True, True, False))
    assert len(prepare(open_above, settings()).atoms) == 2


def test_cell_without_volume_is_refused() -> None:
    with pytest.raises(DataError, match="volume"):
        prepare(Atoms("Al", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), settings())


def test_settings_survive_json() -> None:
    full = settings(nspin=2, starting_magnetization={"Al": 0.3})
    assert EspressoSettings.model_validate(full.model_dump(mode="json")) == full
    node = EspressoNode(command=["mpirun", "-np", "2", "pw.x"], scratch=Path("/tmp"))
    assert EspressoNode.model_validate(node.model_dump(mode="json")) == node


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pseudopotentials": {}}, "elements: name the run's elements"),
        ({"elements": ["Al", "Cu"]}, "nothing for Cu of labeller.elements"),
        ({"elements": ["Alu"]}, "'Alu' is no element"),
        ({"system": {"ECUTWFC": 30}}, "ecutwfc: is set by another key"),
        ({"pseudopotentials": {"Alu": "Al.UPF"}}, "'Alu' is no element"),
        ({"pseudopotentials": {"Al": "/home/me/Al.UPF"}}, "no file name"),
        ({"ecutwfc_ry": 0}, "greater than 0"),
        ({"ecutwfc_ry": 40, "ecutrho_ry": 100}, "ecutrho_ry: 100 Ry is below"),
        ({"kspacing": -0.2}, "greater than"),
        ({"smearing": "cold"}, "marzari-vanderbilt"),
        ({"starting_magnetization": {"Al": 1.2}}, "Al: give -1 to 1"),
        ({"nspin": 1, "starting_magnetization": {"Al": 0.3}}, "no meaning without spin"),
        ({"ecut": 30}, "not permitted"),
    ],
)
def test_wrong_settings(changes: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**changes)

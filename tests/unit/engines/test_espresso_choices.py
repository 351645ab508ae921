"""Inputs made from the structure: files, cutoffs, spin, slabs, and the reason for each."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, make_supercell
from ase.calculators.espresso import EspressoProfile
from ase.io.espresso import read_fortran_namelist

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.magnetism import alternating_signs
from mlip_autopipec.engines.espresso.choices import choose
from mlip_autopipec.engines.espresso.commented import commented_input, completed
from mlip_autopipec.engines.espresso.inputs import prepare, wanted_scf, write_input
from mlip_autopipec.engines.espresso.library import load_library
from mlip_autopipec.engines.espresso.pseudopotentials import functional_family, read_header
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

DEBIAN = Path("/usr/share/espresso/pseudo")
HEADER = '<UPF version="2.0.1">\n<PP_HEADER element="{}" pseudo_type="{}" functional="{}"/>\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library in the form of the published ones: LDA and PBE files, ultrasoft iron."""
    entries: dict[str, Any] = {}
    for element, kind, functional, wfc, rho in (
        ("Al", "NC", "PBE", 30, 120),
        ("Fe", "USPP", "PBE", 90, 1080),
        ("O", "PAW", "PBE", 50, 400),
        ("Ti", "USPP", "SLA PZ NOGX NOGC", 40, 320),
    ):
        data = HEADER.format(element, kind, functional).encode()
        (tmp_path / f"{element}.UPF").write_bytes(data)
        entries[element] = {
            "filename": f"{element}.UPF", "md5": hashlib.md5(data).hexdigest(), "cutoff_wfc": wfc, "cutoff_rho": rho,
        }  # fmt: skip
    (tmp_path / "library.json").write_text(json.dumps(entries))
    return tmp_path


def settings(*elements: str, **changes: Any) -> EspressoSettings:
    return EspressoSettings(elements=list(elements), **changes)


# --- library ---------------------------------------------------------------------------------------------------


def test_files_and_cutoffs_come_from_the_manifest(folder: Path) -> None:
    choices = choose(settings("Al", "Fe"), folder)
    assert {e: p.file for e, p in choices.pseudopotentials.items()} == {"Al": "Al.UPF", "Fe": "Fe.UPF"}
    assert (choices.ecutwfc_ry, choices.ecutrho_ry) == (90, 1080)
    assert "Fe needs" in choices.reasons["ecutwfc"]
    # The functional stands in the files, if not in the manifest.
    assert choices.reasons["file Al"].startswith("PBE, from")


def test_settings_win_over_the_manifest(folder: Path) -> None:
    choices = choose(settings("Al", "Fe", ecutwfc_ry=50), folder)
    assert (choices.ecutwfc_ry, choices.ecutrho_ry) == (50, 400)
    assert choices.reasons["ecutwfc"] == "labeller.ecutwfc_ry"
    assert choose(settings("Al", ecutwfc_ry=50), folder).ecutrho_ry == 200
    # A higher cutoff of the waves never makes the density worse than the files need it.
    assert choose(settings("Al", "Fe", ecutwfc_ry=95), folder).ecutrho_ry == 1080
    assert choose(settings("Al", "Fe", ecutrho_ry=600), folder).ecutrho_ry == 600
    named = EspressoSettings(pseudopotentials={"Al": "Al.UPF"})
    assert choose(named, folder).ecutwfc_ry == 30


def test_a_density_cutoff_is_never_below_that_of_the_wave_functions(folder: Path) -> None:
    manifest = json.loads((folder / "library.json").read_text())
    manifest["Al"] |= {"cutoff_wfc": 100, "cutoff_rho": 120}
    (folder / "library.json").write_text(json.dumps(manifest))
    assert choose(settings("Al"), folder).ecutrho_ry == 400


def test_one_functional_for_all(folder: Path) -> None:
    assert choose(settings("Ti"), folder).reasons["file Ti"].startswith("LDA")
    with pytest.raises(
        ConfigError, match=r"Al, Ti \(PBE: none for Ti; PBEsol: none for Al, Ti; LDA: none for Al\)"
    ) as e:
        choose(settings("Al", "Ti"), folder)
    assert "gpaw" in e.value.hint
    with pytest.raises(ConfigError, match="LDA: none for Al"):
        choose(settings("Al", functional="LDA"), folder)


def test_a_file_that_is_not_the_manifests(folder: Path) -> None:
    (folder / "Al.UPF").write_text(HEADER.format("Al", "NC", "PBE") + "changed")
    with pytest.raises(ConfigError, match=r"Al\.UPF is not the file of the manifest \(md5 differs\)"):
        choose(settings("Al"), folder)
    (folder / "Al.UPF").unlink()
    with pytest.raises(ConfigError):
        choose(settings("Al"), folder)


@pytest.mark.parametrize("content", ["[1]", '{"Al": 3}', '{"Al": {"filename": "Al.UPF"}}', "{"])
def test_manifests_that_are_none(folder: Path, content: str) -> None:
    (folder / "library.json").write_text(content)
    with pytest.raises(ConfigError, match=r"library\.json"):
        choose(settings("Al"), folder)


def test_two_manifests_are_refused(folder: Path) -> None:
    (folder / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"several manifests: library\.json, other\.json"):
        choose(settings("Al"), folder)


def test_without_a_library_files_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "Al.UPF").write_text(HEADER.format("Al", "NC", "PBE"))
    with pytest.raises(ConfigError, match="has no manifest"):
        choose(settings("Al"), tmp_path)
    choices = choose(EspressoSettings(pseudopotentials={"Al": "Al.UPF"}), tmp_path)
    assert choices.ecutwfc_ry == 40
    assert "guess" in choices.reasons["ecutwfc"]


def test_our_manifest_of_debians_files_is_true(pw_x: str) -> None:
    library = load_library(DEBIAN)
    assert library is not None
    for entry in library.entries:
        header = read_header(DEBIAN / entry.file)
        assert header.element == entry.element
        assert functional_family(header.functional) == entry.functional
        assert entry.ecutrho_ry >= (8 if header.is_soft else 4) * entry.ecutwfc_ry or entry.ecutrho_ry >= 320
    have = {f: {e.element for e in library.entries if e.functional == f} for f in ("PBE", "PBEsol", "LDA")}
    assert {"Si", "Cu", "Ni", "O", "Fe", "Cr"} <= have["PBE"]
    assert have["PBE"].isdisjoint({"Al", "Mg", "Li", "Co", "Na", "W", "F", "Cl"})
    with pytest.raises(ConfigError, match="PBE: none for Al"):
        library.choose(["Al"], "PBE")


# --- spin ------------------------------------------------------------------------------------------------------


def test_spin_for_magnetic_elements_only(folder: Path) -> None:
    assert choose(settings("Al"), folder).nspin == 1
    iron = choose(settings("Al", "Fe"), folder)
    assert (iron.nspin, iron.magnetization) == (2, {"Al": 0.0, "Fe": 0.4})
    assert choose(settings("Al", "Fe", nspin=1), folder).magnetization == {}
    assert choose(settings("Al", starting_magnetization={"Al": 0.2}), folder).nspin == 2
    with pytest.raises(ConfigError, match="needs a value other than 0"):
        choose(settings("Al", nspin=2), folder)


def test_superexchange_alternates_in_rocksalt() -> None:
    # The antiferromagnetic cell of NiO: two formula units along the body diagonal.
    cell = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]) * 4.17
    unit = bulk("NiO", "rocksalt", a=4.17)
    doubled = make_supercell(unit, np.rint(cell @ np.linalg.inv(unit.cell[:])).astype(int))
    assert len(doubled) == 4
    doubled.rattle(0.05, seed=1)
    nickel = np.array([s == "Ni" for s in doubled.get_chemical_symbols()])
    signs = alternating_signs(doubled, nickel)
    assert signs[nickel].sum() == 0
    assert (signs[~nickel] == 1).all()
    large = doubled * (2, 2, 2)
    nickel = np.array([s == "Ni" for s in large.get_chemical_symbols()])
    signs = alternating_signs(large, nickel)
    assert signs[nickel].sum() == 0
    # Every bridge Ni-O-Ni (4.17 A) joins opposite signs.
    for i in np.flatnonzero(nickel):
        far = large.get_distances(i, np.flatnonzero(nickel), mic=True)
        opposite = np.flatnonzero(nickel)[np.abs(far - 4.17) < 0.3]
        assert (signs[opposite] == -signs[i]).all()


def test_bcc_alternates_between_its_two_lattices() -> None:
    chromium = bulk("Cr", "bcc", a=2.9, cubic=True) * (2, 2, 2)
    signs = alternating_signs(chromium, np.ones(16, dtype=bool))
    corner = np.isclose(chromium.positions[:, 0] % 2.9, 0.0, atol=1e-3) | np.isclose(
        chromium.positions[:, 0] % 2.9, 2.9, atol=1e-3
    )
    assert abs(signs[corner].sum()) == 8
    assert signs.sum() == 0
    assert alternating_signs(bulk("Fe"), np.array([True])).tolist() == [1]


# --- inputs ----------------------------------------------------------------------------------------------------


def namelists(atoms: Atoms, wanted: EspressoSettings, folder: Path, out: Path) -> tuple[dict[str, Any], list[str]]:
    write_input(
        prepare(atoms, wanted), wanted, choose(wanted, folder), EspressoProfile(command="pw.x", pseudo_dir=folder), out,
        scf=wanted_scf(wanted), from_density=False, outdir="./s", max_seconds=10.0,
    )  # fmt: skip
    with (out / "espresso.pwi").open() as file:
        data, cards = read_fortran_namelist(file)
    return data, cards


def test_slabs_get_a_dipole_correction_in_their_vacuum(folder: Path, tmp_path: Path) -> None:
    slab = fcc100("Al", (1, 1, 4), a=4.05, vacuum=6.0)
    slab.positions[:, 2] -= 7.0  # across the border of the cell
    slab.pbc = (True, True, False)
    data, _ = namelists(slab, settings("Al"), folder, tmp_path)
    assert data["control"]["dipfield"]
    assert data["control"]["tefield"]
    assert not data["control"]["tstress"]
    assert data["system"]["edir"] == 3
    middle = data["system"]["emaxpos"] + data["system"]["eopreg"] / 2
    heights = slab.get_scaled_positions(wrap=True)[:, 2]
    assert np.abs((heights - middle + 0.5) % 1.0 - 0.5).min() > 0.25

    assert "dipfield" not in namelists(slab, settings("Al", dipole=False), folder, tmp_path)[0]["control"]
    assert "dipfield" not in namelists(bulk("Al"), settings("Al"), folder, tmp_path)[0]["control"]


def test_antiferromagnets_have_a_species_for_each_sign(folder: Path, tmp_path: Path) -> None:
    iron = bulk("Fe", cubic=True)
    data, cards = namelists(iron, settings("Fe", magnetic_order="antiferro"), folder, tmp_path)
    assert {data["system"]["starting_magnetization(1)"], data["system"]["starting_magnetization(2)"]} == {0.4, -0.4}
    assert sum("Fe.UPF" in card for card in cards) == 2
    data, cards = namelists(iron, settings("Fe"), folder, tmp_path)
    assert data["system"]["starting_magnetization(1)"] == 0.4
    assert sum("Fe.UPF" in card for card in cards) == 1


def test_further_keys_and_charge(folder: Path, tmp_path: Path) -> None:
    data, _ = namelists(bulk("Al"), settings("Al", total_charge=1, system={"vdw_corr": "grimme-d3"}), folder, tmp_path)
    assert data["system"]["vdw_corr"] == "grimme-d3"
    assert data["system"]["tot_charge"] == 1
    assert "tot_charge" not in namelists(bulk("Al"), settings("Al"), folder, tmp_path)[0]["system"]


def test_keys_of_the_ladder_begin_where_the_settings_say(folder: Path, tmp_path: Path) -> None:
    wanted = settings("Al", electrons={"mixing_mode": "local-TF", "Mixing_Ndim": 12, "diago_thr_init": 1e-4})
    data, _ = namelists(bulk("Al"), wanted, folder, tmp_path)
    assert (wanted_scf(wanted).mixing_mode, wanted_scf(wanted).mixing_ndim) == ("local-TF", 12)
    assert data["electrons"]["mixing_mode"] == "local-TF"
    assert data["electrons"]["mixing_ndim"] == 12
    assert data["electrons"]["diago_thr_init"] == 1e-4
    for key in ("conv_thr", "scf_must_converge", "startingpot"):
        with pytest.raises(ValueError, match=f"{key}: is set by another key"):
            settings("Al", electrons={key: False})


def test_settings_without_further_keys_are_those_of_older_runs() -> None:
    assert "electrons" not in settings("Al").model_dump(mode="json")
    kept = settings("Al", electrons={"mixing_mode": "TF"}).model_dump(mode="json")
    assert EspressoSettings.model_validate(kept).electrons == {"mixing_mode": "TF"}


@pytest.mark.parametrize("atoms", [bulk("Fe"), fcc100("Al", (1, 1, 2), vacuum=5)], ids=["bulk", "slab"])
def test_every_value_has_its_reason(folder: Path, atoms: Atoms) -> None:
    wanted = settings(
        *set(atoms.get_chemical_symbols()), total_charge=1, system={"vdw_corr": "d3"}, electrons={"mixing_ndim": 12}
    )
    text, reasons = commented_input(atoms, wanted, EspressoNode(pseudo_dir=folder))
    lines = text.splitlines()
    without = [line for line in lines if re.match(r"^\s+\w+(\(\d+\))?\s*=", line) and " ! " not in line]
    assert without == []
    cards = [number for number, line in enumerate(lines) if re.match(r"[A-Z]+_[A-Z]+", line)]
    assert len(cards) == 4
    assert all(lines[number - 1].startswith("! ") for number in cards)
    assert "np." not in text
    assert "needs, of" in reasons["ecutwfc"]
    assert "! at most 0.15 1/A apart" in text


def test_completed_settings_choose_nothing_any_more(folder: Path, tmp_path: Path) -> None:
    wanted = settings("Al", "Fe")
    choices = choose(wanted, folder)
    full = EspressoSettings.model_validate(completed(wanted, choices).model_dump(mode="json"))
    (folder / "library.json").unlink()
    again = choose(full, folder)
    for field in ("ecutwfc_ry", "ecutrho_ry", "nspin", "magnetization", "pseudopotentials"):
        assert getattr(again, field) == getattr(choices, field)

"""`autopipe dft input`: an input that pw.x takes, and why it is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ase.build import bulk
from click.testing import CliRunner

from mlip_autopipec.cli.dft import dft
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.espresso.settings import EspressoSettings

HEADER = '<UPF version="2.0.1">\n<PP_HEADER element="{0}" pseudo_type="NC" functional="PBE"/>\n'


@pytest.fixture
def pseudo(tmp_path: Path) -> Path:
    folder = tmp_path / "pseudo"
    folder.mkdir()
    manifest = {}
    for element in ("Al", "Ni"):
        (folder / f"{element}.UPF").write_text(HEADER.format(element))
        manifest[element] = {"filename": f"{element}.UPF", "cutoff_wfc": 30, "cutoff_rho": 120}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bulk("Ni").write(tmp_path / "ni.extxyz")
    return folder


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(dft, ["input", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_input_of_a_structure(pseudo: Path, tmp_path: Path) -> None:
    text = run(tmp_path / "ni.extxyz", "--pseudo-dir", pseudo)
    assert "nspin            = 2  " in text
    assert "! Ni may be magnetic" in text
    said = json.loads(run(tmp_path / "ni.extxyz", "--pseudo-dir", pseudo, "--json"))
    assert said["input"] == text
    assert said["reasons"]["nspin"].startswith("Ni may be magnetic")


def test_settings_to_write_into_the_configuration(pseudo: Path, tmp_path: Path) -> None:
    section = yaml.safe_load(run(tmp_path / "ni.extxyz", "--pseudo-dir", pseudo, "--settings"))["labeller"]
    settings = EspressoSettings.model_validate(section)
    assert (settings.pseudopotentials, settings.ecutwfc_ry, settings.nspin) == ({"Ni": "Ni.UPF"}, 30, 2)
    assert json.loads(run(tmp_path / "ni.extxyz", "--pseudo-dir", pseudo, "--settings", "--json")) == section


def test_settings_of_a_run(pseudo: Path, tmp_path: Path) -> None:
    config = {
        "start": {"structure": "ni.extxyz", "dataset": "ni.extxyz"},
        "labeller": {"engine": "espresso", "elements": ["Ni"], "ecutwfc_ry": 55, "kspacing": 0.3},
        "node": {"espresso": {"pseudo_dir": str(pseudo)}},
    }
    (tmp_path / "autopipe.yaml").write_text(yaml.safe_dump(config))
    text = run(tmp_path / "ni.extxyz", "-C", tmp_path)
    assert "! labeller.ecutwfc_ry" in text
    assert "metals need 0.15" in text
    (tmp_path / "autopipe.yaml").write_text(
        yaml.safe_dump(config | {"labeller": {"engine": "teacher", "model": "emt"}})
    )
    with pytest.raises(ConfigError, match="come from teacher"):
        run(tmp_path / "ni.extxyz", "-C", tmp_path)

"""Bad input at the command line: a one-line cause, a hint, the exit code, no traceback (issue 2, Must show 7)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase.build import bulk

from mlip_autopipec.cli.main import main
from mlip_autopipec.config import freeze, load
from mlip_autopipec.store.rundir import RunDirectory


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def autopipe(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str | Path) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bulk("Al", cubic=True).write(tmp_path / "al.extxyz")
    bulk("Cu", cubic=True).write(tmp_path / "cu.extxyz")
    return tmp_path


def write(folder: Path, **sections: Any) -> None:
    config: dict[str, Any] = {
        "start": {"structure": "al.extxyz", "dataset": "al.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
    }
    (folder / "autopipe.yaml").write_text(yaml.safe_dump(config | sections))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"start": {"structure": "no.xyz", "dataset": "al.extxyz"}}, ["start.structure", "no.xyz", "not found"]),
        ({"start": {"structure": "al.extxyz", "dataset": "no.xyz"}}, ["start.dataset", "no.xyz", "not found"]),
        ({"start": {"structure": "cu.extxyz", "dataset": "al.extxyz"}}, ["element Cu", "unknown to the potential"]),
        ({"otf": {"timestep": -1.0}}, ["autopipe.yaml", "otf.timestep", "-1.0"]),
        ({"otf": {"uncertainty_threshold": 0.9}}, ["otf.uncertainty_threshold", "0.9", "greater than 1"]),
        ({"otf": {"uncertainty_treshold": 2}}, ["unknown key", "did you mean 'uncertainty_threshold'"]),
        ({"labeller": {"engine": "espresso", "pseudopotentials": {"Al": "nothing.UPF"}}}, ["nothing.UPF"]),
    ],
)
@pytest.mark.parametrize("command", [("config", "check"), ("otf", "start", "--dry-run")])
def test_mistakes_in_the_configuration(
    autopipe: Any, folder: Path, sections: dict[str, Any], words: list[str], command: tuple[str, ...]
) -> None:
    write(folder, **sections)
    said = autopipe(*command, "-C", folder)
    assert said.code == 78
    cause, hint = said.err.strip().splitlines()
    assert cause.startswith("autopipe: ")
    assert hint.strip().startswith("hint: ")
    for word in words:
        assert word in cause
    assert said.out == ""


def test_not_a_run_directory(autopipe: Any, tmp_path: Path) -> None:
    said = autopipe("status", "-C", tmp_path)
    assert said.code == 4
    assert "not a run directory" in said.err
    assert "autopipe init" in said.err


def test_init_never_overwrites(autopipe: Any, folder: Path) -> None:
    write(folder)
    before = (folder / "autopipe.yaml").read_text()
    said = autopipe("init", folder, "--example", "lj2d")
    assert said.code == 78
    assert "exists already" in said.err
    assert (folder / "autopipe.yaml").read_text() == before


def test_init_never_overwrites_start_files(autopipe: Any, tmp_path: Path) -> None:
    mine = tmp_path / "start" / "structure.extxyz"
    mine.parent.mkdir()
    mine.write_text("mine")
    said = autopipe("init", tmp_path, "--example", "lj2d")
    assert said.code == 78
    assert mine.read_text() == "mine"


def test_usage_errors(autopipe: Any, tmp_path: Path) -> None:
    assert autopipe("init", tmp_path / "x", "--example", "gold").code == 2
    assert autopipe("nonsense").code == 2


def test_a_good_one_is_ok(autopipe: Any, folder: Path) -> None:
    write(folder)
    said = autopipe("config", "check", "-C", folder)
    assert said.code == 0
    assert said.out.strip().endswith("ok")
    assert autopipe("--version").out.startswith("autopipe")


def test_an_unknown_version_is_not_found(autopipe: Any, folder: Path) -> None:
    write(folder)
    assert autopipe("potential", "errors", folder / "al.extxyz", "-C", folder).code == 4


def test_a_folder_that_cannot_be_written(autopipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    said = autopipe("init", folder / "file" / "run", "--example", "al")
    assert said.code == 78
    assert "Not a directory" in said.err
    assert "hint: " in said.err
    write(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder / "control"))

    monkeypatch.setattr("mlip_autopipec.store.control.write_json", refuse)
    said = autopipe("otf", "stop", "-C", folder)
    assert (said.code, "Read-only file system" in said.err) == (78, True)
    monkeypatch.setattr("mlip_autopipec.store.rundir.RunDirectory.create", refuse)
    said = autopipe("otf", "start", "-C", folder)
    assert (said.code, len(said.err.splitlines())) == (78, 2)


def test_a_full_disk_may_be_tried_again(autopipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(folder)
    monkeypatch.setattr("mlip_autopipec.store.control.write_json", refuse)
    said = autopipe("otf", "stop", "-C", folder)
    assert (said.code, "No space left" in said.err) == (75, True)


def test_a_run_that_was_started_needs_no_configuration_of_the_user(autopipe: Any, folder: Path) -> None:
    write(folder)
    run = RunDirectory(folder)
    freeze(run, load(run))
    run.config_file.unlink()
    assert autopipe("status", "-C", folder).code == 0
    assert autopipe("otf", "stop", "-C", folder).code == 0
    assert autopipe("otf", "revive", "-C", folder).code == 0
    for command in (("otf", "start"), ("config", "check"), ("config", "show")):
        said = autopipe(*command, "-C", folder)
        assert said.code == 78
        assert "copy that to autopipe.yaml" in said.err


@pytest.mark.parametrize("command", [("config", "check"), ("otf", "start", "--dry-run")])
def test_a_changed_frozen_key_is_seen_before_the_start(autopipe: Any, folder: Path, command: tuple[str, ...]) -> None:
    write(folder)
    run = RunDirectory(folder)
    freeze(run, load(run))
    write(folder, labeller={"engine": "teacher", "model": "lj"})
    said = autopipe(*command, "-C", folder)
    assert said.code == 78
    assert "labeller.cutoff: 8.5, but this run began with None" in said.err

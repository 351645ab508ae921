"""`autopipe init COMPOSITION`: a short configuration, seeds, and every inferred value with its reason (issue 8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.cli.main import main
from mlip_autopipec.config import freeze, load, load_with_reasons, was_started
from mlip_autopipec.daemons.surrogatechoice import choose_surrogate
from mlip_autopipec.stages import policy
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.structures.seeds.material import of_formula

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def autopipe(capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def al(autopipe: Say, tmp_path: Path) -> RunDirectory:
    code, _, err = autopipe("init", "Al", tmp_path / "run", "--labeller", "teacher")
    assert code == 0, err
    return RunDirectory(tmp_path / "run")


def test_a_formula_makes_a_run_directory(autopipe: Say, al: RunDirectory) -> None:
    assert len(al.config_file.read_text().splitlines()) < 20
    written = yaml.safe_load(al.config_file.read_text())
    assert written["labeller"] == {"engine": "teacher", "model": "emt"}
    assert set(written) == {"material", "start", "labeller"}
    seeds = ase.io.read(al.start / "seeds.extxyz", index=":")
    assert len(seeds) == 48
    assert [s.info["seed_number"] for s in seeds] == list(range(48))
    assert len({s.info["config_type"] for s in seeds}) == 11
    config = load(al)
    assert [w.temperature for w in config.otf.walkers] == [300.0, 700.0, 1490.0]
    assert (config.otf.timestep, config.training.cutoff) == (2.0, None)  # by the density of the first labels
    assert autopipe("config", "check", "-C", al.root)[0] == 0
    assert autopipe("init", "Al", al.root, "--labeller", "teacher")[0] == 78


def test_what_is_written_wins(al: RunDirectory) -> None:
    data = yaml.safe_load(al.config_file.read_text())
    data |= {"training": {"cutoff": 6.5}, "otf": {"temperature": 450.0}}
    al.config_file.write_text(yaml.safe_dump(data))
    config, reasons = load_with_reasons(al)
    assert config.training.cutoff == 6.5
    assert config.otf.walkers == 1  # the user chose a temperature: no list of walkers replaces it
    assert config.otf.timestep == 2.0
    assert "training.cutoff" not in reasons
    assert "otf.walkers" not in reasons
    assert "mass" in reasons["otf.timestep"]


def test_the_first_fit_waits_for_no_more_labels_than_can_come(al: RunDirectory) -> None:
    data = yaml.safe_load(al.config_file.read_text())
    assert load(al).training.min_initial_labels == 43
    surrogate = {"surrogate": {"kind": "emt"}, "picks": 20}
    al.config_file.write_text(yaml.safe_dump(data | {"explore": surrogate}))
    assert load(al).training.min_initial_labels == 16
    seeds = ase.io.read(al.start / "seeds.extxyz", index=":")
    ase.io.write(al.start / "seeds.extxyz", seeds[:12])
    al.config_file.write_text(yaml.safe_dump(data))
    assert load(al).training.min_initial_labels == 12


def test_expand_writes_every_value_and_the_reason_for_the_inferred_ones(autopipe: Say, al: RunDirectory) -> None:
    assert autopipe("config", "expand", "-C", al.root)[0] == 0
    lines = al.frozen_config.read_text().splitlines()
    reasons = load_with_reasons(al)[1]
    assert len(reasons) > 8
    for key, reason in reasons.items():
        name = key.rpartition(".")[2]
        places = [i for i, line in enumerate(lines) if line.strip() == f"# {reason}"]
        assert any(lines[place + 1].strip().startswith(f"{name}:") for place in places), key
    assert yaml.safe_load(al.frozen_config.read_text()) == load(al).model_dump(mode="json")
    # A draft binds nobody: the labeller may still be changed, and a start writes the file anew.
    assert not was_started(al)
    freeze(al, *load_with_reasons(al))
    assert was_started(al)
    assert autopipe("config", "expand", "-C", al.root)[0] == 78
    assert autopipe("config", "expand", "--stdout", "-C", al.root)[1].startswith("material:")


def test_a_dry_run_tells_the_plan_and_writes_nothing(autopipe: Say, tmp_path: Path) -> None:
    code, out, _ = autopipe("init", "Cu3Au", tmp_path / "run", "--labeller", "teacher", "--dry-run", "--json")
    plan: dict[str, Any] = json.loads(out)
    assert code == 0
    assert not (tmp_path / "run").exists()
    assert plan["made"] is False
    assert plan["labels"]["all"] == plan["labels"]["seeds"] + plan["labels"]["on_the_fly"]
    assert plan["labels"]["seeds"] == sum(plan["seeds"].values())
    assert plan["core_hours"] > 0
    assert plan["prototypes"][0]["name"] == "L1_2"


def test_a_surrogate_that_is_asked_for_explores(autopipe: Say, tmp_path: Path) -> None:
    words = ("Al", tmp_path / "run", "--labeller", "teacher", "--surrogate", "emt", "--json")
    code, out, err = autopipe("init", *words)
    assert code == 0, err
    plan, run = json.loads(out), RunDirectory(tmp_path / "run")
    assert yaml.safe_load(run.config_file.read_text())["explore"] == {"surrogate": {"kind": "emt"}, "seed": 1}
    config, reasons = load_with_reasons(run)
    assert config.explore.explores
    assert plan["labels"]["seeds"] == config.explore.picks
    assert plan["surrogate"]["kind"] == "emt"
    assert config.explore.shares == {
        name: round(share, 4) for name, share in policy.plan(of_formula("Al")).shares.items()
    }
    assert "melts" in reasons["explore.temperatures"]
    assert autopipe("config", "check", "-C", run.root)[0] == 0


def test_a_surrogates_file_goes_with_the_run(autopipe: Say, tmp_path: Path) -> None:
    (tmp_path / "mine.model").write_bytes(b"weights")
    words = ("--labeller", "teacher", "--surrogate", tmp_path / "mine.model")
    assert autopipe("init", "Al", tmp_path / "run", *words)[0] == 0
    run = RunDirectory(tmp_path / "run")
    (tmp_path / "mine.model").unlink()
    surrogate = load(run).explore.surrogate
    assert (surrogate.kind, surrogate.model) == ("mace", "start/mine.model")
    assert (run.root / "start" / "mine.model").read_bytes() == b"weights"
    assert autopipe("init", "Al", tmp_path / "other", *words)[0] == 78
    assert not (tmp_path / "other").exists()


def test_unasked_nobody_explores_who_is_not_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dft = choose_surrogate(None, {"engine": "espresso"})
    assert dft.section is None
    assert "no MACE model at hand" in dft.reason
    assert choose_surrogate(None, {"engine": "teacher"}).section is None


def test_what_an_earlier_run_learned_decides_the_seeds(autopipe: Say, al: RunDirectory, tmp_path: Path) -> None:
    """Strained crystals that rattled ones foretold are worth less than a liquid that nobody foretold."""
    words = ("Al", tmp_path / "next", "--labeller", "teacher", "--evidence", al.root)
    code, _, err = autopipe("init", *words)
    assert code == 4
    assert "no label of a seed" in err
    seeds = {s.info["seed_number"]: s for s in ase.io.read(al.start / "seeds.extxyz", index=":")}
    wanted = {"rattle": 12, "eos": 6, "liquid": 6}
    rows = []
    for atoms in seeds.values():
        kind = atoms.info["config_type"]
        if wanted.get(kind, 0) > 0:
            wanted[kind] -= 1
            rows.append(_row(f"{len(rows):032x}", atoms, kind))
    Dataset(al.dataset).ingest(rows)
    code, out, err = autopipe("init", *words, "--json")
    assert code == 0, err
    before = policy.plan(of_formula("Al")).shares
    run = RunDirectory(tmp_path / "next")
    shares = yaml.safe_load(run.config_file.read_text())["material"]["shares"]
    assert shares["liquid"] > 1.1 * before["liquid"]
    assert shares["eos"] < before["eos"]
    assert set(shares) == set(before)
    assert any(line.startswith("liquid: times") and "6 labels" in line for line in json.loads(out)["policy"])
    made = [s.info["config_type"] for s in ase.io.read(run.start / "seeds.extxyz", index=":")]
    assert made.count("liquid") > [s.info["config_type"] for s in seeds.values()].count("liquid")
    assert autopipe("config", "check", "-C", run.root)[0] == 0


def _row(task_id: str, atoms: Atoms, kind: str) -> DatasetRow:
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return DatasetRow(task_id, bare, -1.0, np.zeros((len(bare), 3)), None, (1,) * len(bare), kind)


def test_a_crystal_of_a_file(autopipe: Say, tmp_path: Path) -> None:
    bulk("Cu", a=3.7).write(tmp_path / "mine.cif")
    assert autopipe("init", tmp_path / "mine.cif", tmp_path / "run", "--labeller", "teacher")[0] == 0
    run = RunDirectory(tmp_path / "run")
    (tmp_path / "mine.cif").unlink()
    config, reasons = load_with_reasons(run)
    assert config.material is not None
    assert str(config.material.structure) == "start/crystal.extxyz"
    assert "given at 2.62 A" in reasons["embedding.cutoff"]
    start = ase.io.read(run.start / "structure.extxyz")
    assert start.get_volume() / len(start) == pytest.approx(3.7**3 / 4, rel=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Xq"], "no chemical formula"),
        (["no.cif"], "file not found"),
        (["H2O"], "molecules"),
        (["LiF", "--labeller", "teacher"], "neither EMT"),
        (["Al", "--labeller", "vasp"], "potcar_dir"),
    ],
)
def test_what_cannot_be_begun(
    autopipe: Say, tmp_path: Path, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VASP_PP_PATH", raising=False)
    code, _, err = autopipe("init", *words[:1], tmp_path / "run", *words[1:])
    assert code == 78
    assert told in err
    assert "hint:" in err
    assert not (tmp_path / "run").exists()


def test_without_a_dft_program_it_says_what_is_missing(
    autopipe: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlip_autopipec.core.errors import ConfigError
    from mlip_autopipec.engines.gpaw import library

    def missing(folder: Path | None) -> None:
        raise ConfigError("GPAW cannot be loaded here", "install it")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(library, "open_gpaw", missing)
    code, _, err = autopipe("init", "Al", tmp_path / "run")
    assert code == 78
    for word in ("pw.x is not on PATH", "GPAW cannot be loaded", "--labeller teacher"):
        assert word in err


def test_a_teacher_of_lammps_is_named_as_what_it_is(autopipe: Say, tmp_path: Path) -> None:
    code, out, _ = autopipe("init", "Si", tmp_path / "run", "--labeller", "teacher", "--json")
    assert code == 0
    labeller = json.loads(out)["labeller"]
    assert labeller["engine"] == "ase"
    assert labeller["kwargs"]["file"] == "Si.sw"
    assert "not DFT" in labeller["reason"]
    assert autopipe("config", "check", "-C", tmp_path / "run")[0] == 0

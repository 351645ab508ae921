"""`otf.engine` and `training.engine`: what is loaded, what is refused, and that the default needs no python-ace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trainer_parts import World, labelled

from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import write_asi
from mlip_autopipec.config import load
from mlip_autopipec.core.errors import ConfigError, ModelError
from mlip_autopipec.core.yamlfile import dump_mapping, read_mapping
from mlip_autopipec.daemons.evaluators import load_evaluator, make_evaluator, walker_threads
from mlip_autopipec.daemons.preflight import preflight
from mlip_autopipec.engines.lammps.library import has_style
from mlip_autopipec.engines.lammps.native import PACE, NativePotential
from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator
from small_potentials import fit_emt

CHECK = "import sys; sys.modules['pyace'] = None; from mlip_autopipec.cli.main import main; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fit_emt(tmp_path_factory.mktemp("v0001"), ("Al",), frames=4)


def run_with(tmp_path: Path, **engines: str) -> World:
    world = World(tmp_path, [labelled(seed) for seed in range(4)])
    content = read_mapping(world.run.config_file)
    for section, engine in engines.items():
        content.setdefault(section, {})["engine"] = engine
    world.run.config_file.write_text(dump_mapping(content))
    return world


def config_check(world: World) -> subprocess.CompletedProcess[str]:
    """`autopipe config check` where python-ace is not installed."""
    words = [sys.executable, "-c", CHECK, "config", "check", "-C", str(world.run.root)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_default_needs_no_python_ace(tmp_path):
    done = config_check(run_with(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("section", ["otf", "training"])
def test_python_ace_must_be_there_only_if_it_is_chosen(tmp_path, section):
    done = config_check(run_with(tmp_path, **{section: "pyace"}))
    assert done.returncode == 78
    assert f"{section}.engine: 'pyace'" in done.stderr
    assert "pip install 'mlip-autopipec[pacemaker]'" in done.stderr


@pytest.mark.skipif(has_style("pair", PACE), reason="this LAMMPS has ML-PACE")
def test_native_on_a_lammps_without_ml_pace_is_a_configuration_error(tmp_path):
    world = run_with(tmp_path, otf="native")
    with pytest.raises(ConfigError, match=r"otf\.engine: 'native'"):
        preflight(world.run, load(world.run))
    done = config_check(world)
    assert done.returncode == 78
    assert "ML-PACE" in done.stderr


def test_an_unknown_engine_is_named_with_the_known_ones(tmp_path):
    world = run_with(tmp_path, otf="pace")
    with pytest.raises(ConfigError, match=r"otf\.engine: 'pace'.*'ace', 'pyace', 'native'"):
        load(world.run)


@pytest.mark.usefixtures("python_ace")
def test_python_ace_evaluates_where_it_is_chosen(folder):
    assert isinstance(make_evaluator(folder, "pyace"), PyaceEvaluator)


def test_each_engine_gives_its_evaluator(folder):
    assert isinstance(make_evaluator(folder), AceEvaluator)
    native = make_evaluator(folder, "native", 2)
    assert isinstance(native, NativePotential)
    assert native.files == (folder / "potential.yaml", folder / "potential.asi")
    assert isinstance(native.evaluator, AceEvaluator)
    assert isinstance(load_evaluator(folder / "potential.yace"), AceEvaluator)


def test_a_version_that_is_not_whole_is_refused(folder, tmp_path):
    with pytest.raises(ModelError, match=r"potential\.yaml: missing"):
        make_evaluator(tmp_path)
    write_asi({"Al": np.eye(3)}, tmp_path / "potential.asi")
    with pytest.raises(ModelError, match=r"potential\.asi: .* 3 functions"):
        load_evaluator(folder / "potential.yaml", tmp_path / "potential.asi")


def test_threads_of_a_walker(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [walker_threads(None, walkers) for walkers in (1, 3, 20)] == [8, 5, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert walker_threads(None, 1) == 3
    assert walker_threads(5, 1) == 5

"""MACE as a surrogate: a tiny model made here in MD, and what is said where there are no weights or no GPU."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mace_parts import write_tiny_mace
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.daemons.surrogatechoice import choose_surrogate
from mlip_autopipec.daemons.trajectorychild import PROGRESS, TrajectoryBench, TrajectorySettings, inherit
from mlip_autopipec.engines.dynamics.checkpoint import NAME, Checkpoint
from mlip_autopipec.engines.dynamics.langevin import FRAMES, Conditions, LangevinRun
from mlip_autopipec.engines.mace.calculator import choose_device, load_mace
from mlip_autopipec.engines.mace.foundation import fetched_models
from mlip_autopipec.runtime.child import Child
from mlip_autopipec.stages.exploration import exploration_tasks
from mlip_autopipec.store.exploration import check_exploration

# torch itself uses parts of itself that it calls deprecated.
pytestmark = [pytest.mark.usefixtures("mace"), pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mace")
    write_tiny_mace(folder / "tiny.model")
    return folder


def conditions(**changes: Any) -> Conditions:
    values: dict[str, Any] = {
        "temperature": 80.0, "pressure_bar": None, "steps": 20, "stride": 5, "timestep_fs": 1.0, "seed": 4
    }  # fmt: skip
    return Conditions(**{**values, **changes})


def device_of(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no GPU here")
    return name


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("pressure", [None, 0.0])
def test_a_model_moves_atoms_at_constant_volume_and_pressure(
    root: Path, tmp_path: Path, device: str, pressure: float | None, record_property: Any
) -> None:
    calculator = load_mace("tiny.model", root, device=device_of(device), dtype="float64")
    atoms = bulk("Cu", a=3.61, cubic=True)
    atoms.calc = calculator
    forces = atoms.get_forces()
    assert np.abs(forces).max() < 1e-6  # a perfect crystal
    begin = time.perf_counter()
    ended = LangevinRun(atoms, calculator, conditions(pressure_bar=pressure), tmp_path).run()
    record_property(f"{device}_atom_steps_per_s", round(20 * len(atoms) / (time.perf_counter() - begin), 1))
    assert (ended.step, ended.frames, ended.complaint) == (20, 4, "")
    frames = ase.io.read(tmp_path / FRAMES, ":")
    changed = np.ptp([frame.get_volume() for frame in frames]) > 0
    assert changed is np.bool_(pressure is not None)


def test_a_sigkill_costs_no_more_than_the_last_checkpoint(root: Path, tmp_path: Path) -> None:
    """In a child, killed as the kernel kills; another worker goes on where it stood."""
    (task,) = exploration_tasks(
        [bulk("Cu", a=3.61, cubic=True)], {"kind": "mace", "model": "tiny.model", "dtype": "float64"},
        temperatures=[80.0], pressures_bar=[], steps=100, stride=5, timestep_fs=1.0, trajectories=1, shares=None,
        seed=1, created="2026-01-01T00:00:00Z",
    )  # fmt: skip
    attempts = root / "attempts" / task.id
    first, second = attempts / "01-a", attempts / "01-b"
    first.mkdir(parents=True)
    with Child(TrajectoryBench, (TrajectorySettings(root, "a", "cpu", 0.0),), "mace", serves=True) as child:
        child.send((task.to_dict(), first))
        deadline = time.monotonic() + 120
        while (saved := Checkpoint.read(first)) is None or saved.n_frames < 3:
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    saved = Checkpoint.read(first)
    assert saved is not None
    assert saved.step < 100
    second.mkdir()
    record = TrajectoryBench(TrajectorySettings(root, "b", "cpu", 1e9))((task.to_dict(), second))
    assert check_exploration(record) == record
    assert record["info"]["resumed_from_step"] == saved.step
    assert (record["steps"], record["n_frames"], record["complaint"]) == (100, 20, "")
    frames = (root / "explored" / task.id[:2] / record["frames"]).read_text()
    before = (first / FRAMES).read_bytes()[: saved.frames].decode()
    assert frames.startswith(before)
    assert [f.info["step"] for f in ase.io.read(root / "explored" / task.id[:2] / record["frames"], ":")] == list(
        range(5, 101, 5)
    )
    assert (second / PROGRESS).is_file()


def test_half_a_checkpoint_is_not_inherited(tmp_path: Path) -> None:
    first, second = tmp_path / "01-a", tmp_path / "02-b"
    for folder in (first, second):
        folder.mkdir()
    (first / NAME).write_bytes(b"half")
    assert inherit(second) == 0
    assert not list(second.iterdir())


def test_a_trajectory_that_blows_up_is_stopped(root: Path, tmp_path: Path) -> None:
    calculator = load_mace("tiny.model", root, device="cpu", dtype="float32")
    hot = conditions(temperature=40_000.0, timestep_fs=10.0, steps=2000, stride=10)
    ended = LangevinRun(bulk("Cu", a=3.61, cubic=True), calculator, hot, tmp_path).run()
    assert ended.step < 2000
    assert "apart" in ended.complaint or "force" in ended.complaint or " K " in ended.complaint


def test_a_name_without_weights_says_what_to_do(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlretrieve", offline)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"medium-mpa-0.*cannot be downloaded") as caught:
        load_mace("medium-mpa-0", root, device="cpu", dtype="float32")
    assert "https://" in caught.value.hint
    assert "explore.surrogate.model" in caught.value.hint


def test_weights_that_are_here_explore_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mace").mkdir()
    # As mace-torch names the file of mace-mp-0b3-medium.model.
    (tmp_path / "mace" / "macemp0b3mediummodel").write_bytes(b"weights")
    assert fetched_models() == ["medium-0b3"]
    chosen = choose_surrogate(None, {"engine": "gpaw"})
    assert chosen.section == {"kind": "mace", "model": "medium-0b3"}
    assert choose_surrogate("medium-mpa-0", {"engine": "gpaw"}).section == {"kind": "mace", "model": "medium-mpa-0"}
    with pytest.raises(ConfigError, match="neither a file of the run nor a known model"):
        choose_surrogate("nobody", {"engine": "gpaw"})


def test_wrong_files_names_and_devices_are_refused(root: Path) -> None:
    (root / "text.model").write_text("no model")
    for model, told in (
        ("missing.model", "file not found"),
        ("mace", "neither a file"),
        ("text.model", "no MACE model"),
    ):
        with pytest.raises(ConfigError, match=told):
            load_mace(model, root, device="cpu", dtype="float32")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    import torch

    if torch.cuda.is_available():
        assert choose_device("auto") == choose_device("cuda") == "cuda"
        return
    assert choose_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="sees no GPU"):
        choose_device("cuda")

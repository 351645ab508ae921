"""MACE as a surrogate: a tiny model made here in MD, and what is said where there are no weights or no GPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mace_parts import device_of, write_tiny_mace
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.daemons.surrogatechoice import choose_surrogate
from mlip_autopipec.daemons.trajectorychild import inherit
from mlip_autopipec.engines.dynamics.batch import LangevinBatch
from mlip_autopipec.engines.dynamics.checkpoint import NAME
from mlip_autopipec.engines.dynamics.langevin import LangevinRun
from mlip_autopipec.engines.dynamics.track import FRAMES, Conditions, Ended, Track
from mlip_autopipec.engines.mace.batch import MaceBatch
from mlip_autopipec.engines.mace.calculator import choose_device, load_mace
from mlip_autopipec.engines.mace.foundation import fetched_models

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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("pressure", [None, 0.0])
def test_a_model_moves_atoms_at_constant_volume_and_pressure(
    root: Path, tmp_path: Path, device: str, batched: bool, pressure: float | None, record_property: Any
) -> None:
    calculator = load_mace("tiny.model", root, device=device_of(device), dtype="float64")
    atoms = bulk("Cu", a=3.61, cubic=True)
    atoms.calc = calculator
    forces = atoms.get_forces()
    assert np.abs(forces).max() < 1e-6  # a perfect crystal
    tracks = []
    for name in "abcd" if batched else "a":
        (tmp_path / name).mkdir()
        tracks.append(Track(atoms, conditions(pressure_bar=pressure, seed=ord(name)), tmp_path / name))
    begin = time.perf_counter()
    if batched:
        ended = LangevinBatch(tracks, MaceBatch(calculator)).run()
    else:
        ended = [LangevinRun(tracks[0], calculator).run()]
    speed = 20 * len(atoms) * len(tracks) / (time.perf_counter() - begin)
    record_property(f"{device}_{len(tracks)}_at_once_atom_steps_per_s", round(speed, 1))
    assert ended == [Ended(20, 4, "")] * len(tracks)
    for track in tracks:
        frames = ase.io.read(track.folder / FRAMES, ":")
        changed = np.ptp([frame.get_volume() for frame in frames]) > 0
        assert changed is np.bool_(pressure is not None)


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
    ended = LangevinRun(Track(bulk("Cu", a=3.61, cubic=True), hot, tmp_path), calculator).run()
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

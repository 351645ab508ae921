"""Climbing the ladder with a pw.x that plays recorded outputs, and what an attempt leaves on the disk."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.errors import ConfigError, Crashed, DataError, EngineError, NotConverged, TimedOut
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.scratch import (
    Scratch,
    keep_density,
    lay_density,
    remove_abandoned,
    scratch_folder,
)
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

FAKE = Path(__file__).parents[2] / "fakes" / "pw.x"
HEADER = '<UPF version="2.0.1">\n<PP_HEADER element="Al" pseudo_type="NC" functional="PBE"/>'
GOOD = {"when": {}, "play": "converged"}


@pytest.fixture
def atoms() -> Atoms:
    return bulk("Al", cubic=True)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atoms: Atoms) -> Callable[..., Label]:
    """Label with these scenes in attempt number `attempt`; settings by keyword, `node` for the node's."""
    script = tmp_path / "scenes.json"
    monkeypatch.setenv("FAKE_PW", str(script))
    pseudo = tmp_path / "pseudo"
    pseudo.mkdir()
    (pseudo / "Al.UPF").write_text(HEADER)

    def run(*scenes: dict[str, Any], attempt: int = 1, node: dict[str, Any] | None = None, **settings: Any) -> Label:
        script.write_text(json.dumps(scenes))
        folder = tmp_path / "task" / f"{attempt:02d}-w"
        folder.mkdir(parents=True)
        place = EspressoNode(command=[sys.executable, str(FAKE)], pseudo_dir=pseudo, **(node or {}))
        return EspressoLabeller(EspressoSettings(pseudopotentials={"Al": "Al.UPF"}, **settings), place).label(
            atoms, folder
        )

    return run


def story(tmp_path: Path, attempt: int = 1) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "task" / f"{attempt:02d}-w" / "rungs.json").read_text()))


def runs(tmp_path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (tmp_path / "scenes.json.log").read_text().splitlines()]


def names(tmp_path: Path, attempt: int = 1) -> set[str]:
    return {p.name for p in (tmp_path / "task" / f"{attempt:02d}-w").iterdir()}


def test_a_rescued_label_says_how(play: Callable[..., Label], tmp_path: Path) -> None:
    label = play(
        {"when": {"mixing_mode": "local-TF"}, "play": "converged"}, {"when": {}, "play": "oscillating", "code": 2}
    )
    expected = [
        ("as wanted", "oscillating"),
        ("smaller mixing", "oscillating"),
        ("larger smearing", "oscillating"),
        ("local-TF mixing", "converged"),
        ("smaller smearing 0.02 Ry", "converged"),
    ]
    assert [(r["rung"], r["end"]) for r in label.info["rungs"]] == expected
    assert label.info["scf"]["mixing_mode"] == "local-TF"
    assert label.info["scf"]["mixing_beta"] == 0.2
    assert label.info["smearing_changed"] is False
    assert label.forces.shape == (4, 3)

    assert [(r["rung"], r["end"]) for r in story(tmp_path)["rungs"]] == expected
    assert story(tmp_path)["end"] == "converged"
    # The last run's files on top, those of each failed one in a folder of its own.
    assert names(tmp_path) == {
        "espresso.pwi",
        "espresso.pwo",
        "espresso.err",
        "rungs.json",
        *(f"rung-{i}" for i in range(4)),
    }
    assert "mixing_beta      = 0.4" in (tmp_path / "task/01-w/rung-0/espresso.pwi").read_text()


def test_more_steps_go_on_from_the_density(play: Callable[..., Label], tmp_path: Path) -> None:
    play(
        {"when": {"electron_maxstep": "450"}, "play": "converged"},
        {"when": {}, "play": "not-converged", "code": 2, "density": True},
    )
    first, second = runs(tmp_path)
    assert "startingpot" not in first
    assert second["startingpot"] == "file"


def test_loose_forces_are_settled_by_a_tighter_threshold(play: Callable[..., Label], tmp_path: Path) -> None:
    scenes = ({"when": {"conv_thr": "1e-10"}, "play": "converged"}, {"when": {}, "play": "loose-forces"})
    label = play(*scenes)
    assert [(r["rung"], r["end"]) for r in label.info["rungs"]] == [
        ("as wanted", "loose forces"), ("tighter threshold", "converged"),
    ]  # fmt: skip


def test_an_oscillating_density_is_not_continued(play: Callable[..., Label], tmp_path: Path) -> None:
    play(
        {"when": {"mixing_beta": "0.2"}, "play": "converged"},
        {"when": {}, "play": "oscillating", "code": 2, "density": True},
    )
    assert "startingpot" not in runs(tmp_path)[1]


def test_larger_smearing_and_back(play: Callable[..., Label], tmp_path: Path) -> None:
    scenes = (
        {"when": {"startingpot": "file"}, "play": "converged", "density": True},
        {"when": {"degauss": "0.02"}, "play": "converged", "density": True},
        {"when": {}, "play": "oscillating", "code": 2},
    )
    label = play(*scenes, degauss_ry=0.005)
    assert label.info["scf"]["degauss_ry"] == 0.005
    assert label.info["smearing_changed"] is False
    assert [r["rung"] for r in label.info["rungs"]][-2:] == ["larger smearing", "smaller smearing 0.005 Ry"]
    assert [run["degauss"] for run in runs(tmp_path)][-2:] == ["0.02", "0.005"]
    # pw.x leaves no density with "nowf" when it converges.
    assert [run["disk_io"] for run in runs(tmp_path)] == ["nowf", "low", "low", "low"]


def test_a_smearing_that_is_out_of_reach_is_not_converged(play: Callable[..., Label]) -> None:
    scenes = ({"when": {"degauss": "0.02"}, "play": "converged"}, {"when": {}, "play": "oscillating", "code": 2})
    with pytest.raises(NotConverged, match="every rung for 'oscillating' was tried"):
        play(*scenes, degauss_ry=0.005)
    # The last run of all converged, but not with what was wanted.
    with pytest.raises(NotConverged, match=r"converges with a smearing of 0\.02 Ry, not with the wanted one"):
        play(*scenes, degauss_ry=0.005, max_rungs=2, attempt=2)


def test_a_label_of_another_smearing_only_if_wanted(play: Callable[..., Label]) -> None:
    scenes = (
        {"when": {"degauss": "0.02"}, "play": "converged", "density": True},
        {"when": {}, "play": "oscillating", "code": 2},
    )
    with pytest.raises(NotConverged, match=r"tried: smaller mixing, .*smaller smearing 0\.005 Ry"):
        play(*scenes, degauss_ry=0.005)
    label = play(*scenes, degauss_ry=0.005, accept_changed_smearing=True, attempt=2)
    assert label.info["smearing_changed"] is True
    assert label.info["scf"]["degauss_ry"] == 0.02


@pytest.mark.parametrize(
    ("scene", "error", "words"),
    [
        ({"play": "overlap"}, DataError, "atoms overlap"),
        ({"play": "same-place", "code": 1}, DataError, "overlap!"),
        ({"play": "bad-key", "code": 1}, ConfigError, "ecutwfk"),
        ({"play": "missing-pseudopotential", "code": 1}, ConfigError, "not found"),
        ({"play": "killed", "signal": int(signal.SIGKILL)}, Crashed, "signal 9"),
        ({"play": "disk", "code": 1}, Crashed, "seqopn"),
        ({"play": "mpirun-as-root", "code": 1}, ConfigError, "attempt to run as root.*--allow-run-as-root"),
    ],
)
def test_what_cannot_be_rescued_runs_once(
    play: Callable[..., Label], tmp_path: Path, scene: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        play({"when": {}, **scene})
    assert len(runs(tmp_path)) == 1
    assert len(story(tmp_path)["rungs"]) == 1
    assert not (tmp_path / "task/01-w/scratch").exists()


@pytest.mark.parametrize(
    "name", ["aborted-in-iteration", "bands-not-converged", "charge-is-wrong", "cholesky", "memory"]
)
def test_conjugate_gradients_help(play: Callable[..., Label], tmp_path: Path, name: str) -> None:
    label = play({"when": {"diagonalization": "cg"}, "play": "converged"}, {"when": {}, "play": name, "code": 43})
    assert [r["rung"] for r in label.info["rungs"]] == ["as wanted", "conjugate gradients"]


def test_a_hopeless_scf_is_stopped_early(play: Callable[..., Label], tmp_path: Path) -> None:
    scenes = (
        {"when": {"mixing_beta": "0.2"}, "play": "converged"},
        {"when": {}, "play": "oscillating", "slowly": 0.02},
    )
    begin = time.monotonic()
    label = play(*scenes, hopeless_iterations=10)
    assert [r["end"] for r in label.info["rungs"]] == ["oscillating", "converged"]
    record = story(tmp_path)["rungs"][0]
    assert "was stopped, its residual does not fall" in record["reason"]
    whole = (FAKE.parents[1] / "data/espresso/oscillating.pwo").read_text()
    assert record["iterations"] < whole.count("estimated scf accuracy")
    assert record["seconds"] < 0.02 * len(whole.splitlines())
    assert time.monotonic() - begin < 60


def test_the_next_attempt_continues_and_then_forgets(play: Callable[..., Label], tmp_path: Path) -> None:
    with pytest.raises(TimedOut, match="stopped at its time limit") as caught:
        play({"when": {}, "play": "time-in-scf", "code": 2, "density": True})
    assert caught.value.transient
    assert "continues" in caught.value.hint
    assert "density" in names(tmp_path)

    # Other settings are another label: its density would be no use.
    play(GOOD, attempt=2, degauss_ry=0.01)
    assert "startingpot" not in runs(tmp_path)[-1]
    assert "density" in names(tmp_path)

    label = play({"when": {"startingpot": "file"}, "play": "converged"}, attempt=3)
    assert "continued" in label.info["rungs"][0]["rung"]
    assert "density" not in names(tmp_path)
    assert "density" not in names(tmp_path, 3)


def test_no_time_for_a_single_iteration_is_no_progress(play: Callable[..., Label], tmp_path: Path) -> None:
    with pytest.raises(TimedOut) as caught:
        play({"when": {}, "play": "time-at-once", "code": 255, "density": True})
    assert not caught.value.transient
    assert "density" not in names(tmp_path)


def test_a_torn_density_costs_one_run(play: Callable[..., Label], tmp_path: Path) -> None:
    with pytest.raises(TimedOut):
        play({"when": {}, "play": "time-in-scf", "code": 2, "density": True})
    label = play({"when": {"startingpot": "file"}, "play": "torn-density", "code": 1}, GOOD, attempt=2)
    assert [r["end"] for r in label.info["rungs"]] == ["lost density", "converged"]
    assert "startingpot" not in runs(tmp_path)[-1]


def test_a_density_is_forgotten_when_there_will_be_no_label(play: Callable[..., Label], tmp_path: Path) -> None:
    with pytest.raises(TimedOut):
        play({"when": {}, "play": "time-in-scf", "code": 2, "density": True})
    with pytest.raises(DataError):
        play({"when": {}, "play": "overlap"}, attempt=2)
    assert "density" not in names(tmp_path)


def test_rungs_share_the_time(play: Callable[..., Label], tmp_path: Path) -> None:
    with pytest.raises(NotConverged, match="the time is over"):
        play({"when": {}, "play": "oscillating", "code": 2, "slowly": 0.002}, node={"max_seconds": 1.0})
    limits = [float(run["max_seconds"]) for run in runs(tmp_path)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] <= 1.0


def test_a_label_is_not_given_up_because_a_batch_job_ends(
    play: Callable[..., Label], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ladder would still have tried is for the next worker, and so is an SCF that there was no time for."""
    ends: list[float] = []

    def seconds_left(self: EspressoNode, now: float) -> float:
        return min(self.max_seconds, ends[0] - now)

    monkeypatch.setattr(EspressoNode, "seconds_left", seconds_left)
    for number, scene in enumerate(
        [
            {"when": {}, "play": "oscillating", "code": 2, "slowly": 0.002},
            {"when": {}, "play": "time-at-once", "code": 255},
        ],
        start=1,
    ):
        ends[:] = [time.monotonic() + 1.0]
        with pytest.raises(EngineError) as caught:
            play(scene, attempt=number)
        assert caught.value.transient
    ends[:] = [time.monotonic()]
    before = len(runs(tmp_path))
    with pytest.raises(TimedOut, match="no time is left") as caught:
        play(GOOD, attempt=3)
    assert caught.value.transient
    assert len(runs(tmp_path)) == before


def test_a_density_of_hdf5_is_continued_too(tmp_path: Path) -> None:
    folder = tmp_path / "task" / "01-w"
    folder.mkdir(parents=True)
    with scratch_folder(folder, None) as scratch:
        scratch.save.mkdir()
        (scratch.save / "charge-density.hdf5").write_bytes(b"rho")
        (scratch.save / "wfc1.hdf5").write_bytes(b"large")
        assert scratch.has_density
        scratch.remember()
        assert keep_density(scratch, folder, "key")
        assert scratch.recall()
        assert [path.name for path in scratch.save.iterdir()] == ["charge-density.hdf5"]
    with scratch_folder(folder, None) as scratch:
        assert lay_density(scratch, folder, "key")
        assert (scratch.save / "charge-density.hdf5").read_bytes() == b"rho"


def test_scratch_of_a_killed_worker_is_removed_by_the_next(play: Callable[..., Label], tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path\n"
        "from mlip_autopipec.engines.espresso.scratch import scratch_folder\n"
        "with scratch_folder(Path({!r}), {}) as s: (s.path / 'wfc').write_text('x'); os.kill(os.getpid(), 9)\n"
    )
    node_local, earlier = tmp_path / "fast", tmp_path / "task" / "01-dead"
    earlier.mkdir(parents=True)
    for base in ("None", f"Path({str(node_local)!r})"):
        ended = subprocess.run([sys.executable, "-c", code.format(str(earlier), base)], env=os.environ, check=False)
        assert ended.returncode == -9
    assert (earlier / "scratch" / "wfc").exists()
    assert len(list(node_local.iterdir())) == 1

    play(GOOD, attempt=2)
    assert not (earlier / "scratch").exists()
    play(GOOD, attempt=3, node={"scratch": node_local})
    assert list(node_local.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "is_held", "stays"),
    [
        (socket.gethostname(), False, False),
        (socket.gethostname(), True, True),
        # NFS without lock manager grants the lock of a living process of another host.
        ("another-host", False, True),
        ("", False, False),  # of a version that did not write its host
    ],
)
def test_only_scratch_of_dead_processes_of_this_host_is_removed(
    tmp_path: Path, owner: str, is_held: bool, stays: bool
) -> None:
    base, attempt = tmp_path / "fast", tmp_path / "01-w"
    with contextlib.ExitStack() as stack:
        for scratch in (base / "pw-x", attempt / "scratch"):
            (scratch / "pwscf.save").mkdir(parents=True)
            (scratch / "owner.lock").write_text(owner)
            lock = stack.enter_context((scratch / "owner.lock").open())
            if is_held:
                fcntl.flock(lock, fcntl.LOCK_EX)
        remove_abandoned(base, [attempt, tmp_path / "without"])
    assert (base / "pw-x").exists() is stays
    assert (attempt / "scratch").exists() is stays


def test_a_full_disk_is_no_label(play: Callable[..., Label], monkeypatch: pytest.MonkeyPatch) -> None:
    # pw.x says nothing and ends with code 0: seen on a tmpfs of 64 kB, where its files had no bytes.
    monkeypatch.setattr(Scratch, "is_full", lambda self: True)
    with pytest.raises(Crashed, match="the disk is full") as caught:
        play(GOOD)
    assert caught.value.transient


def test_the_end_of_a_batch_job_limits_the_time(play: Callable[..., Label], tmp_path: Path) -> None:
    node = EspressoNode(max_seconds=100.0, kill_grace_s=10.0)
    assert node.seconds_left(5.0) == 100.0
    assert node.before(50.0).seconds_left(5.0) == 35.0
    assert node.before(500.0).seconds_left(5.0) == 100.0
    # It reaches the child that labels.
    ending = pickle.loads(pickle.dumps(NodeSettings(espresso=node).before(50.0)))
    assert ending.espresso.seconds_left(5.0) == 35.0
    assert NodeSettings.model_validate(ending.model_dump()) == NodeSettings(espresso=node)

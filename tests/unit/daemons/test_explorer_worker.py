"""The explorer-worker: trajectories, a kill, failures, picks, and a run that has nothing to explore."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from click.testing import CliRunner

from mace_parts import device_of, write_tiny_mace
from mlip_autopipec.ace.descriptor import AceDescriptor
from mlip_autopipec.cli.main import cli
from mlip_autopipec.config import Config, parse
from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.events import read_events
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons import picking
from mlip_autopipec.daemons.explorer_worker import ExplorerWorker
from mlip_autopipec.daemons.exploring import Exploration
from mlip_autopipec.daemons.queues import dft_queue, explore_queue
from mlip_autopipec.daemons.seeding import picking_settings, publish_seeds, publish_trajectories
from mlip_autopipec.daemons.surrogates import check_surrogate
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.explore import count_learned
from mlip_autopipec.store.exploration import SelectionRecord, explored_results, frames_of
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.sides import side_of
from mlip_autopipec.store.task import Task


def seeds() -> list[Atoms]:
    rng, found = np.random.default_rng(2), []
    for number in range(4):
        atoms = bulk("Cu", a=3.61, cubic=True)
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
        atoms.info["config_type"] = "bulk" if number < 3 else "warm"
        found.append(atoms)
    return found


def make_run(root: Path, frames: list[Atoms] | None = None, **explore: Any) -> tuple[RunDirectory, Config]:
    run = RunDirectory(root)
    run.create()
    run.start.mkdir()
    ase.io.write(run.start / "seeds.extxyz", frames or seeds())
    ase.io.write(run.start / "structure.extxyz", bulk("Cu", cubic=True))
    data = {
        "start": {"structure": "start/structure.extxyz", "dataset": "start/seeds.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
        "queue": {"lease_s": 3, "fsync": False},
        "explore": {
            "surrogate": {"kind": "emt"}, "temperatures": [300], "steps": 20, "stride": 5, "trajectories": 2,
            "picks": 6,
            **explore,
        },
    }  # fmt: skip
    run.config_file.write_text(dump_mapping(data))
    return run, parse(data, run.config_file)


@contextmanager
def worker(run: RunDirectory, config: Config, name: str = "explorer-0", **options: Any) -> Iterator[ExplorerWorker]:
    made = ExplorerWorker(run, config, name, ends=True, checkpoint_s=0.0, **options)
    made.start()
    try:
        yield made
    finally:
        made.close()


def work(made: ExplorerWorker, until: Callable[[], Any] = lambda: False, timeout_s: float = 240) -> Outcome:
    deadline = time.monotonic() + timeout_s
    while (outcome := made.step(time.monotonic())) is not Outcome.DONE and not until():
        assert time.monotonic() < deadline
        if outcome is Outcome.IDLE:
            time.sleep(0.01)
    return outcome


def test_trajectories_become_picks_and_the_picks_tasks_once(tmp_path: Path) -> None:
    run, config = make_run(tmp_path)
    published = publish_seeds(run, config, "test")
    assert len(published) == 2
    assert publish_seeds(run, config, "test") == []
    exploration, queue = Exploration(run, config, "test"), dft_queue(run, config.queue, worker="test")
    assert (exploration.unfinished(), queue.unfinished()) == (3, 0)
    with worker(run, config) as made:
        assert work(made) is Outcome.DONE
        assert made.status()[1]["explored"] == 2
    record = SelectionRecord.read(run)
    assert record is not None
    assert record.published
    assert (len(record.picks), record.pool["seeds"], record.pool["frames"]) == (6, 4, 8)
    assert (exploration.unfinished(), queue.unfinished()) == (0, 6)
    for pick in record.picks:
        path = queue.find(pick.task_id)
        assert path is not None
    events = read_events(run.events / "explorer-0.jsonl")
    assert [event["event"] for event in events] == ["explored"] * 2 + ["task_published"] * 6 + ["picked"]
    assert [(event["device"], event["at_once"], event["atom_steps_per_s"] > 0) for event in events[:2]] == [
        ("cpu", 1, True)
    ] * 2
    shown = CliRunner().invoke(cli, ["explore", "status", "-C", str(tmp_path)])
    assert "cpu, 1 at once: " in shown.output
    assert "atoms x steps per second" in shown.output
    # Whoever comes later changes nothing.
    with worker(run, config, "explorer-1") as made:
        assert work(made) is Outcome.DONE
    assert SelectionRecord.read(run) == record
    assert publish_seeds(run, config, "test") == []
    shown = CliRunner().invoke(cli, ["explore", "coverage", "-C", str(tmp_path), "--plot", str(tmp_path / "map.png")])
    assert "picked: 6 of 4 seeds and 8 frames" in shown.output
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_a_killed_child_costs_an_attempt_and_the_next_goes_on(tmp_path: Path) -> None:
    run, config = make_run(tmp_path, trajectories=1, steps=6000, stride=5)
    publish_trajectories(run, config, "test", SystemClock())
    with worker(run, config) as made:
        work(made, lambda: made.status()[1].get("step", "0") != "0")
        (job,), child = made.trajectories.jobs, made.trajectories._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        work(made, lambda: not made.trajectories.jobs)
        assert explore_queue(run, config.queue, worker="test").counts()["delayed"] == 1
        assert any(job.folder.iterdir())


def test_a_drained_worker_gives_its_trajectory_back_with_its_checkpoint(tmp_path: Path) -> None:
    run, config = make_run(tmp_path, trajectories=1, steps=100_000, stride=5)
    (task_id,) = publish_trajectories(run, config, "test", SystemClock())
    with worker(run, config) as made:
        work(made, lambda: made.status()[1].get("step", "0") != "0")
        made.drain()
        made.step(time.monotonic())
        work(made, lambda: not made.trajectories.jobs, 60)
    queue = explore_queue(run, config.queue, worker="test")
    assert queue.state(task_id) == "pending"
    assert list(run.attempt(task_id).glob("*/checkpoint.npz"))


@pytest.mark.usefixtures("mace")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_mace_moves_as_many_at_once_as_it_is_told(tmp_path: Path, device: str) -> None:
    """Three of four; one of them is cancelled: its mates keep their checkpoints, and wait for their turn."""
    surrogate = {"kind": "mace", "model": "tiny.model", "device": device_of(device), "batch": 3}
    run, config = make_run(tmp_path, surrogate=surrogate, temperatures=[60, 80], steps=100_000, trajectories=4)
    write_tiny_mace(tmp_path / "tiny.model")
    publish_trajectories(run, config, "test", SystemClock())
    with worker(run, config) as made:
        work(made, lambda: made.status()[1].get("step", "0") != "0")
        told, mates = made.status()[1], [job.id for job in made.trajectories.jobs]
        assert told["at_once"] == len(mates) == 3
        made.queue.cancel(told["task"])
        work(made, lambda: made.queue.state(told["task"]) == "cancelled", 60)
    queue = explore_queue(run, config.queue, worker="test")
    assert sorted(str(queue.state(task_id)) for task_id in mates) == ["cancelled", "pending", "pending"]
    assert all(list(run.attempt(task_id).glob("*/checkpoint.npz")) for task_id in mates)


def test_what_the_surrogate_cannot_compute_fails_and_the_rest_is_picked(tmp_path: Path) -> None:
    strange = bulk("Fe", cubic=True).repeat((2, 1, 1))
    strange.info["config_type"] = "iron"
    run, config = make_run(tmp_path, [*seeds(), strange], shares={"bulk": 1.0, "iron": 1.0})
    publish_trajectories(run, config, "test", SystemClock())
    with worker(run, config) as made:
        assert work(made) is Outcome.DONE
        assert made.status()[1] == {"explored": 1, "failed": 1}
    record = SelectionRecord.read(run)
    assert record is not None
    assert record.pool["failed"] == 1
    assert record.pool["trajectories"] == 1
    reasons = [p.read_text() for p in (run.queue / "explore" / "failed").glob("*.reason")]
    assert len(reasons) == 1
    assert "NotImplementedError" in reasons[0]
    with pytest.raises(ConfigError, match="cannot compute"):
        check_surrogate({"kind": "emt"}, run.root, "cpu", [strange])


def test_a_surrogate_whose_file_is_gone_fails_the_trajectory(tmp_path: Path) -> None:
    run, config = make_run(tmp_path, trajectories=1, surrogate={"kind": "potential", "model": "gone.yaml"})
    publish_trajectories(run, config, "test", SystemClock())
    with worker(run, config) as made:
        assert work(made) is Outcome.DONE
        assert made.status()[1] == {"explored": 0, "failed": 1}
    (reason,) = (run.queue / "explore" / "failed").glob("*.reason")
    assert "gone.yaml: file not found" in reason.read_text()


@pytest.mark.parametrize("words", [["explore", "run"], ["worker", "explore"]])
def test_a_run_with_a_potential_has_nothing_to_explore(tmp_path: Path, words: list[str]) -> None:
    run, config = make_run(tmp_path)
    assert not Exploration(run, config, "test").is_over()
    (run.potentials / "v0001").mkdir(parents=True)
    write_json(run.potentials / "v0001" / "manifest.json", {})
    shown = CliRunner().invoke(cli, [*words, "-C", str(tmp_path)])
    assert shown.exit_code == 0
    assert "nothing to explore: the run has a potential already" in shown.output
    assert Exploration(run, config, "test").unfinished() == 0


def test_edited_settings_do_not_start_a_second_exploration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, config = make_run(tmp_path)
    first = publish_seeds(run, config, "test")
    edited = config.model_copy(update={"explore": config.explore.model_copy(update={"steps": 40})})
    assert publish_seeds(run, edited, "test") == []
    assert "2 trajectories of before" in caplog.text
    assert Exploration(run, edited, "test").trajectories() == len(first) == 2


def test_picks_by_the_functions_of_the_potential_to_come(tmp_path: Path) -> None:
    run, config = make_run(tmp_path, [*seeds(), *seeds()], picks=3, descriptor="ace")
    settings = picking_settings(run, config, "test")
    assert isinstance(picking._descriptor(settings, ("Cu",)), AceDescriptor)
    record = picking.preview(settings)
    assert len(record.picks) == 3
    assert record.coverage["picks"] > 0


def test_frames_name_their_steps_and_are_read_one_by_one(tmp_path: Path) -> None:
    run, config = make_run(tmp_path, trajectories=1)
    (task_id,) = publish_trajectories(run, config, "test", SystemClock())
    with worker(run, config) as made:
        work(made)
    record = explored_results(run).read(task_id)
    assert [atoms.info["step"] for atoms in frames_of(run, record)] == [5, 10, 15, 20]
    assert not run.attempt(task_id).exists() or not list(run.attempt(task_id).iterdir())


def test_seeds_without_four_atoms_are_picked_from_alone(tmp_path: Path) -> None:
    dimers = [Atoms("Cu2", [[0, 0, 0], [0, 0, d]], info={"config_type": "dimer"}) for d in (2.0, 2.3, 2.6)]
    run, config = make_run(tmp_path, dimers)
    assert publish_seeds(run, config, "test") == []
    record = SelectionRecord.read(run)
    assert record is not None
    assert [pick.source for pick in record.picks] == ["seed"] * 3
    assert "all are labelled" in record.remark
    assert dft_queue(run, config.queue, worker="test").unfinished() == 3


def test_seeds_that_were_made_are_all_learned_from(tmp_path: Path) -> None:
    frames = [atoms for _ in range(15) for atoms in seeds()]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.01, seed=number)
    run, config = make_run(tmp_path / "given", frames, surrogate={"kind": "none"})
    assert len(publish_seeds(run, config, "test")) == 60
    assert count_learned(frames) == 50
    assert sides_of(run) == {"train", "validation", "margin"}
    for number, atoms in enumerate(frames):
        atoms.info["seed_number"] = number
    run, config = make_run(tmp_path / "made", frames, surrogate={"kind": "none"})
    publish_seeds(run, config, "test")
    assert count_learned(frames) == 60
    assert sides_of(run) == {"train"}


def sides_of(run: RunDirectory) -> set[str]:
    tasks = [Task.from_dict(read_json(path)) for path in (run.queue / "dft" / "pending").rglob("*.json")]
    return {side_of(task.config_type, task.origin) for task in tasks}


def test_without_a_surrogate_the_seeds_are_labelled_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, config = make_run(tmp_path, surrogate={"kind": "none"})
    with caplog.at_level("INFO"):
        assert len(publish_seeds(run, config, "test")) == 4
    assert "the 4 seeds alone are labelled" in caplog.text
    assert Exploration(run, config, "test").unfinished() == 0

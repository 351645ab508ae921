"""The registry: whole versions only, never overwritten, and a kill at any point is repaired."""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest

from mlip_autopipec.core.errors import DataError, ModelError, NotFoundError
from mlip_autopipec.store import registry as registry_module
from mlip_autopipec.store.registry import FILES, Registry, folder_hash


class Killed(BaseException):
    """Stands for the end of the process."""


def publish(registry, content="x", **facts):
    work = registry.new_work_folder()
    for name in FILES:
        (work / name).write_text(f"{content} {name}")
    return registry.publish(work, {"task_ids": [content], "new_task_ids": [content], "parent": None, **facts})


def test_versions_count_up_and_current_follows(tmp_path):
    registry = Registry(tmp_path / "potentials")
    assert registry.current() is None
    assert registry.current_stamp() is None
    assert registry.versions() == []
    assert publish(registry, "a") == "v0001"
    stamp = registry.current_stamp()
    assert publish(registry, "b") == "v0002"
    assert registry.current_stamp() != stamp
    current = registry.current()
    assert (current.version, current.pinned) == ("v0002", False)
    assert current.sha256 == folder_hash(registry.path("v0002"))
    assert registry.manifest("v0001")["task_ids"] == ["a"]
    assert registry.manifest("v0002")["version"] == "v0002"
    assert {p.name for p in registry.path("v0002").iterdir()} == {*FILES, "manifest.json"}
    assert not list(registry.folder.glob(".work-*"))


def test_pinned_version_stays_current(tmp_path):
    registry = Registry(tmp_path)
    publish(registry)
    publish(registry)
    registry.set_current("v0001", pinned=True)
    assert publish(registry) == "v0003"
    assert registry.current().version == "v0001"
    assert registry.recover() == []
    assert registry.current().pinned
    registry.set_current("v0003")
    assert publish(registry) == "v0004"
    assert registry.current().version == "v0004"


def test_rollback_without_pin_survives_a_restart(tmp_path):
    registry = Registry(tmp_path)
    publish(registry)
    publish(registry)
    registry.set_current("v0001")
    assert registry.recover() == []
    assert registry.current().version == "v0001"


def test_a_current_written_by_hand_survives_a_restart(tmp_path):
    registry = Registry(tmp_path)
    publish(registry)
    publish(registry)
    sha256 = folder_hash(registry.path("v0001"))
    (tmp_path / "current.json").write_text(json.dumps({"version": "v0001", "sha256": sha256, "pinned": False}))
    assert registry.recover() == []
    assert registry.current().version == "v0001"
    assert publish(registry) == "v0003"
    assert registry.current().version == "v0003"


def test_unknown_versions_are_not_found(tmp_path):
    registry = Registry(tmp_path)
    publish(registry)
    for call in (registry.manifest, registry.set_current):
        with pytest.raises(NotFoundError, match="v0009"):
            call("v0009")


def test_an_incomplete_folder_is_not_published(tmp_path):
    registry = Registry(tmp_path)
    work = registry.new_work_folder()
    (work / "potential.yaml").write_text("x")
    with pytest.raises(ModelError, match=r"potential\.yace"):
        registry.publish(work, {})
    assert registry.versions() == []


@pytest.mark.parametrize("name", ["{", '{"version": "v0007", "sha256": "", "pinned": false}', "[]"])
def test_damaged_current_is_an_error_and_recover_writes_it_again(tmp_path, name):
    registry = Registry(tmp_path)
    publish(registry)
    (tmp_path / "current.json").write_text(name)
    with pytest.raises(ModelError, match=r"current\.json"):
        registry.current()
    assert registry.recover() == ["finished publishing v0001"]
    assert registry.current().version == "v0001"


def test_a_folder_without_manifest_is_no_version_and_its_number_is_not_reused(tmp_path):
    registry = Registry(tmp_path)
    publish(registry)
    (tmp_path / "v0002").mkdir()
    assert registry.versions() == ["v0001"]
    registry.recover()
    assert publish(registry) == "v0003"
    assert (tmp_path / ".stray-v0002").is_dir()


@pytest.mark.parametrize("call", ["write_json", "_fsync_file", "fsync_directory", "rename"])
@pytest.mark.parametrize("at", range(8))
def test_a_kill_at_any_step_leaves_old_or_new(tmp_path, monkeypatch, call, at):
    registry = Registry(tmp_path)
    publish(registry, "old")
    owner = os if call == "rename" else registry_module
    original = getattr(owner, call)
    calls = iter(range(100))

    def dying(*args, **kwargs):
        if next(calls) == at:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, call, dying)
    with contextlib.suppress(Killed):
        publish(registry, "new")
    monkeypatch.undo()
    seen = registry.current()
    assert seen.version in {"v0001", "v0002"}
    assert folder_hash(registry.path(seen.version)) == seen.sha256
    registry.recover()
    newest = registry.versions()[-1]
    assert registry.current().version == newest
    assert not list(tmp_path.glob(".work-*"))
    assert publish(registry, "after") == f"v{int(newest[1:]) + 1:04d}"
    assert json.loads((tmp_path / "v0001" / "manifest.json").read_text())["task_ids"] == ["old"]


def _publish_for_ever(folder):
    registry = Registry(folder)
    registry.recover()
    while True:
        publish(registry, "y")


def test_sigkill_never_shows_half_a_version(tmp_path):
    context = multiprocessing.get_context("spawn")
    random.seed(1)
    for _ in range(4):
        process = context.Process(target=_publish_for_ever, args=(tmp_path,))
        before = len(Registry(tmp_path).versions())
        process.start()
        deadline = time.monotonic() + 60
        while len(Registry(tmp_path).versions()) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        registry = Registry(tmp_path)
        seen = registry.current()
        assert folder_hash(registry.path(seen.version)) == seen.sha256
        for version in registry.versions():
            assert registry.manifest(version)["version"] == version
            assert all((registry.path(version) / name).is_file() for name in FILES)


def test_a_work_folder_whose_files_stay_hides_no_error(tmp_path, monkeypatch):
    """As over NFS, where a file that somebody has open gets another name instead of going."""
    registry = Registry(tmp_path)

    def busy(path, ignore_errors=False, **_):
        if not ignore_errors:
            raise OSError(errno.EBUSY, "Device or resource busy", ".nfs0001")

    monkeypatch.setattr(shutil, "rmtree", busy)
    with pytest.raises(ModelError, match="the real one"), registry.work_folder() as work:
        raise ModelError("the real one")
    assert registry.recover() == [f"could not yet remove unfinished {work.name}"]
    monkeypatch.undo()
    assert registry.recover() == [f"removed unfinished {work.name}"]


def test_a_work_folder_stays_unless_its_work_fails(tmp_path):
    registry = Registry(tmp_path)
    with registry.work_folder() as work:
        (work / "potential.yaml").write_text("")
    assert work.is_dir()
    with pytest.raises(ModelError), registry.work_folder(work) as same:
        raise ModelError("gate")
    assert same == work
    assert not work.exists()


@pytest.mark.parametrize(
    "content", ["{}", "[]", "null", '{"task_ids": 3}', '{"task_ids": [1]}', '{"task_ids": [], "files": []}']
)
def test_valid_json_that_is_no_manifest_is_damage(tmp_path, content):
    registry = Registry(tmp_path)
    publish(registry)
    (registry.path("v0001") / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"v0001/manifest.json: no manifest"):
        registry.manifest("v0001")
    assert registry.labels("v0001") == []
    assert "no manifest" in registry.damage("v0001")


def test_a_candidate_does_not_become_current(tmp_path):
    """But walkers hear that it exists: nobody waits for its labels any more."""
    registry = Registry(tmp_path / "potentials")
    publish(registry, "a")
    publish(registry, "b", candidate=["held_out: liquid is worse"])
    current = registry.current()
    assert (current.version, current.newest, current.pinned) == ("v0001", "v0002", False)
    assert registry.candidate("v0002") == "held_out: liquid is worse"
    assert registry.candidate("v0001") == ""
    registry.set_current("v0001")
    assert registry.recover() == []
    assert publish(registry, "c") == "v0003"
    assert registry.current().version == "v0003"


def test_a_kill_before_current_says_so_leaves_a_candidate_a_candidate(tmp_path, monkeypatch):
    registry = Registry(tmp_path / "potentials")
    publish(registry, "a")
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "set_current", lambda *a, **k: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            publish(registry, "b", candidate=["worse"])
    assert registry.recover() == ["finished publishing v0002"]
    current = registry.current()
    assert (current.version, current.newest) == ("v0001", "v0002")
    assert registry.recover() == []

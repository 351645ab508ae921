"""Versions that go, and those that never do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlip_autopipec.core.errors import AutopipeError, NotFoundError
from mlip_autopipec.store.production import Production, write_production
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.retirement import dispensable, is_retired, retire
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import WalkerState, write_state


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Nine versions, each the parent of the next."""
    run = RunDirectory(tmp_path)
    run.create()
    registry, parent = Registry(run.potentials), None
    for number in range(9):
        work = registry.new_work_folder()
        for name in FILES:
            (work / name).write_text(json.dumps({"force_rmse": number}))
        parent = registry.publish(work, {"task_ids": [f"{number:020x}"], "parent": parent})
    return run


def left(run: RunDirectory, keep: int = 2) -> list[str]:
    registry = Registry(run.potentials)
    return [version for version in registry.versions() if version not in dispensable(run, registry, keep)]


def test_the_newest_stay(run: RunDirectory) -> None:
    assert left(run, 3) == ["v0007", "v0008", "v0009"]
    assert left(run, 20) == Registry(run.potentials).versions()


def test_current_and_what_its_refits_go_on_from_stay(run: RunDirectory) -> None:
    Registry(run.potentials).set_current("v0004", pinned=True)
    assert left(run) == ["v0003", "v0004", "v0008", "v0009"]


def test_what_walkers_halts_and_productions_use_stays(run: RunDirectory) -> None:
    for name in ("w00", "w01"):
        run.walker(name).mkdir()
    (run.walkers / "notes.txt").write_text("mine")
    write_state(run.walker("w00"), WalkerState("w00", version="v0002"))
    (run.walker("w01") / "halt.json").write_text('{"version": "v0005"}')
    (run.walker("w00") / "aside").mkdir()
    (run.walker("w00") / "aside" / "0003.json").write_text('{"version": "v0003"}')
    produced = Production("v0006", "", "ace", 5.0, 10, 100, {})
    write_production(run.production / "kept-by-hand", produced)
    assert left(run) == ["v0002", "v0003", "v0005", "v0006", "v0008", "v0009"]


def test_nothing_goes_while_a_file_that_names_versions_is_damaged(run: RunDirectory) -> None:
    run.walker("w00").mkdir()
    (run.walker("w00") / "state.json").write_text("{")
    with pytest.raises(AutopipeError, match=r"state\.json"):
        left(run)


def test_what_is_told_of_a_version_stays(run: RunDirectory) -> None:
    registry = Registry(run.potentials)
    retire(registry, "v0001")
    assert "v0001" not in registry.versions()
    assert is_retired(registry, "v0001")
    assert not is_retired(registry, "v0002")
    told = json.loads((run.potentials / "retired/v0001.json").read_text())
    assert told["manifest"]["task_ids"] == [f"{0:020x}"]
    assert told["metrics"] == {"force_rmse": 0}
    assert not list(run.potentials.glob(".work-*"))
    assert registry.recover() == []
    assert registry.next_version() == "v0010"
    with pytest.raises(NotFoundError):
        retire(registry, "v0001")


def test_a_kill_in_the_middle_is_finished(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(run.potentials)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            retire(registry, "v0001")
    assert registry.damage("v0001") is None  # still whole
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            retire(registry, "v0001")
    assert "v0001" not in registry.versions()
    assert len(registry.recover()) == 2  # of the first and the second kill
    assert not list(run.potentials.glob(".work-*"))

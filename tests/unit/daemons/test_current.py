"""Which version a walker has loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.errors import EngineError
from mlip_autopipec.core.files import write_json
from mlip_autopipec.daemons.current import CurrentPotential
from mlip_autopipec.store.registry import Registry


class Versions:
    """A registry, and an engine that may refuse."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder)
        self.trouble: Exception | None = None
        self.loads = 0

    def publish(self, version: str) -> None:
        (self.registry.path(version)).mkdir()
        write_json(self.registry.path(version) / "manifest.json", {"task_ids": []})
        write_json(self.registry.current_file, {"version": version, "sha256": "", "pinned": False})

    def load(self, folder: Path) -> Any:
        self.loads += 1
        if self.trouble is not None:
            raise self.trouble
        return folder.name


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


@pytest.mark.parametrize(
    "trouble", [EngineError("the GPU is busy"), FileNotFoundError("potential.yaml"), MemoryError("no room")]
)
def test_a_load_that_failed_is_tried_again(
    versions: Versions, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    clock = ManualClock()
    current = CurrentPotential(versions.registry, versions.load, clock)
    versions.publish("v0001")
    current.follow()
    versions.publish("v0002")
    versions.trouble = trouble
    for _ in range(10):
        current.follow()
    assert (current.version, current.evaluator, versions.loads) == ("v0001", "v0001", 2)
    assert str(trouble) in current.missing
    clock.advance(5.0)
    current.follow()
    assert versions.loads == 3
    assert caplog.text.count("is not loaded") == 1
    versions.trouble = None
    current.follow()
    assert current.version == "v0001"
    clock.advance(5.0)
    current.follow()
    assert (current.version, current.evaluator) == ("v0002", "v0002")
    clock.advance(60.0)
    current.follow()
    assert versions.loads == 4


def test_a_new_version_is_tried_at_once(versions: Versions) -> None:
    current = CurrentPotential(versions.registry, versions.load, ManualClock())
    versions.publish("v0001")
    versions.trouble = EngineError("damaged")
    current.follow()
    versions.trouble = None
    versions.publish("v0002")
    current.follow()
    assert current.version == "v0002"

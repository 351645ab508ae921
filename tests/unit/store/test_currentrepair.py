"""Repair of what names the current version: whatever was done to it, walkers find a sound one, or a person is asked."""

import json
import shutil

import pytest

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.store.currentrepair import repair_current
from mlip_autopipec.store.registry import FILES, Registry


@pytest.fixture
def registry(tmp_path):
    made = Registry(tmp_path)
    for content in "abc":
        work = made.new_work_folder()
        for name in FILES:
            (work / name).write_text(content)
        made.publish(work, {"task_ids": [content]})
    return made


def write_current(registry, text):
    registry.current_file.write_text(text)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"version": "v0001"}', '{"version": 5, "sha256": "", "pinned": false}',
     '{"version": "../x", "sha256": "", "pinned": false}', '{"version": "v0009", "sha256": "", "pinned": false}',
     '{"version": "v0001", "sha256": "", "pinned": "no"}', None],
)  # fmt: skip
def test_a_damaged_file_is_written_again(registry, text):
    if text is None:
        registry.current_file.unlink()
    else:
        write_current(registry, text)
        with pytest.raises(ModelError, match=r"current\.json"):
            registry.current()
    assert "now v0003" in repair_current(registry, thorough=False)
    assert registry.current().version == "v0003"
    assert repair_current(registry, thorough=True) == ""


def test_nothing_published_is_nothing_to_repair(tmp_path):
    assert repair_current(Registry(tmp_path / "potentials"), thorough=True) == ""


@pytest.mark.parametrize("harm", ["manifest", "file", "folder", "content"])
def test_a_damaged_version_makes_room_for_the_newest_sound_one(registry, harm):
    newest = registry.path("v0003")
    assert registry.labels("v0003") == ["c"]
    if harm == "folder":
        shutil.rmtree(newest)
    elif harm == "manifest":
        (newest / "manifest.json").write_text("{")
    elif harm == "file":
        (newest / "potential.asi").unlink()
    else:
        (newest / "potential.yaml").write_text("edited")
    assert "now v0002" in repair_current(registry, thorough=True)
    assert registry.current().version == "v0002"
    assert registry.versions() == ["v0001", "v0002"]
    assert (registry.folder / ".stray-v0003").is_dir() == (harm != "folder")
    assert registry.next_version() == ("v0003" if harm == "folder" else "v0004")
    assert registry.labels("v0003") == []


def test_without_any_sound_version_there_is_none(registry):
    for version in registry.versions():
        (registry.path(version) / "potential.yaml").unlink()
    assert "no version is left" in repair_current(registry, thorough=True)
    assert registry.current() is None
    assert registry.versions() == []


def test_a_pin_is_never_undone(registry):
    write_current(registry, json.dumps({"version": "v0009", "sha256": "", "pinned": True}))
    before = registry.current_file.read_text()
    with pytest.raises(ModelError, match="v0009, which does not exist") as caught:
        repair_current(registry, thorough=False)
    assert "remove the file" in caught.value.hint
    registry.recover()
    assert registry.current_file.read_text() == before
    registry.set_current("v0001", pinned=True)
    (registry.path("v0001") / "potential.yaml").write_text("edited")
    assert repair_current(registry, thorough=False) == ""
    with pytest.raises(ModelError, match="pins a damaged version"):
        repair_current(registry, thorough=True)
    assert registry.current().version == "v0001"


def test_a_version_with_a_damaged_manifest_has_no_labels_for_those_who_only_look(registry):
    (registry.path("v0003") / "manifest.json").write_text("{")
    assert registry.labels("v0003") == []
    assert registry.versions()[-1] == "v0003"


def test_a_note_of_a_person_is_no_damage(registry):
    (registry.path("v0003") / "metrics.json").write_text("a note")
    assert repair_current(registry, thorough=True) == ""


def test_a_candidate_takes_the_place_of_a_damaged_version_only_if_there_is_no_other(registry):
    work = registry.new_work_folder()
    for name in FILES:
        (work / name).write_text("d")
    registry.publish(work, {"task_ids": ["d"], "candidate": ["worse"]})
    for version, then in (("v0003", "v0002"), ("v0002", "v0001"), ("v0001", "v0004")):
        (registry.path(version) / "potential.yaml").write_text("damaged")
        repair_current(registry, thorough=True)
        assert registry.current().version == then

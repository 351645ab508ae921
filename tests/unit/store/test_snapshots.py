"""Which snapshots of a walker stay, also when a branch of MD is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlip_autopipec.store.snapshots import Snapshots


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path)


def save(snapshots: Snapshots, step: int, seed: int) -> str:
    name = snapshots.name(step, seed)
    snapshots.path(name).write_text(name)
    return name


def take(snapshots: Snapshots, step: int, seed: int) -> str:
    """As a walker does it: save, name it, prune."""
    name = save(snapshots, step, seed)
    snapshots.prune(name)
    return name


def left(snapshots: Snapshots) -> list[tuple[int, int]]:
    names = sorted(p.stem for p in (snapshots.folder / "snapshots").iterdir())
    return [(int(step), int(seed)) for step, seed in (name.split("-") for name in names)]


def test_the_youngest_stay(snapshots: Snapshots) -> None:
    for step in range(0, 600, 100):
        take(snapshots, step, 1)
    assert left(snapshots) == [(300, 1), (400, 1), (500, 1)]


def test_an_abandoned_branch_crowds_out_no_safe_one(snapshots: Snapshots) -> None:
    names = [take(snapshots, step, 1) for step in (100, 200, 300)]
    assert snapshots.before(names[-1]) == (names[1], 200)
    named = take(snapshots, 200, 2)  # going back to 200 with new velocities
    assert left(snapshots) == [(100, 1), (200, 2)]
    assert snapshots.before(named) == (names[0], 100)
    later = take(snapshots, 340, 2)
    assert snapshots.before(later) == (named, 200)


def test_many_velocities_from_one_step_leave_the_older_steps(snapshots: Snapshots) -> None:
    take(snapshots, 100, 1)
    for seed in range(1, 6):
        named = take(snapshots, 200, seed)
    assert snapshots.before(named) == (snapshots.name(100, 1), 100)


def test_what_a_kill_left_of_an_abandoned_branch_goes_with_the_next_start(snapshots: Snapshots) -> None:
    for step in (100, 200, 300, 400):
        save(snapshots, step, 1)
    named = save(snapshots, 200, 2)  # and killed before the others were removed
    snapshots.prune(named)
    assert left(snapshots) == [(100, 1), (200, 2)]

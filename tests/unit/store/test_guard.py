"""A queue that strangers may write to is refused, with the command that mends it."""

import os
import subprocess

import pytest

from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.store.guard import guard, tighten_umask
from queue_tools import make_task, open_queue


@pytest.fixture
def queue(tmp_path):
    queue = open_queue(tmp_path, "w1")
    queue.publish(make_task(1))
    return queue


@pytest.mark.parametrize("folder", [".", "pending", "done", "tmp", "leases", "../../results"])
def test_a_folder_that_everybody_may_write_to(queue, tmp_path, folder):
    bad = queue.layout.root / folder
    bad.mkdir(exist_ok=True)
    bad.chmod(0o777)
    for act in ("claim", "sweep"):
        with pytest.raises(QueueError, match="everybody may write") as caught:
            getattr(open_queue(tmp_path, "w2"), act)()
        subprocess.run(caught.value.hint, shell=True, check=True)
        getattr(open_queue(tmp_path, "w2"), act)()
        bad.chmod(0o777)
    fresh = open_queue(tmp_path, "w2")
    state = fresh.state(make_task(1).id)
    for refused in (
        lambda: fresh.publish(make_task(2)),
        lambda: fresh.requeue(make_task(1).id),
        lambda: fresh.hold(make_task(1).id),
        lambda: fresh.cancel(make_task(1).id),
    ):
        with pytest.raises(QueueError, match="chmod -R o-w"):
            refused()
    assert fresh.state(make_task(1).id) == state
    assert fresh.state(make_task(2).id) is None


def test_a_foreign_folder(queue, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give folders away")
    os.chown(queue.layout.held, 12345, -1)
    with pytest.raises(QueueError, match="belongs to user 12345") as caught:
        guard(queue.layout, queue.results.folder)
    subprocess.run(caught.value.hint, shell=True, check=True)
    guard(queue.layout, queue.results.folder)


def test_a_link_in_place_of_a_folder(queue, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    queue.layout.held.rmdir()
    queue.layout.held.symlink_to(elsewhere)
    with pytest.raises(QueueError, match="symbolic link"):
        guard(queue.layout, queue.results.folder)


def test_a_loose_umask_makes_no_folder_that_is_refused(tmp_path):
    before = os.umask(0)
    try:
        queue = open_queue(tmp_path, "w1")
        queue.publish(make_task(1))
        assert open_queue(tmp_path, "w2").claim() is not None
        tighten_umask()
        (tmp_path / "file").touch()
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)

"""Children: results, crashes, and that nothing survives its parent."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import runtime_targets as targets

from mlip_autopipec.core.errors import Crashed, NotConverged
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.runtime.child import Child


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.01)


def written_pid(path: Path) -> ProcessIdentity:
    wait_for(lambda: path.exists() and path.read_text() != "", f"{path} was not written")
    identity = ProcessIdentity.of(int(path.read_text()))
    assert identity is not None
    return identity


def test_the_value_of_a_target_comes_back() -> None:
    with Child(targets.add, (2, 3), "adder") as child:
        result = child.wait(20)
        assert result is not None
        assert (result.ok, result.value) == (True, 5)
        assert child.poll() is result


def test_a_serving_child_answers_many_requests_in_one_process() -> None:
    with Child(targets.handler, (10,), serves=True) as child:
        answers = []
        for request in range(3):
            child.send(request)
            result = child.wait(20)
            assert result is not None
            answers.append(result.value)
        assert answers == [(child.pid, 0), (child.pid, 10), (child.pid, 20)]
        assert child.poll() is None
        assert child.alive()


def test_what_a_child_answers_can_be_waited_for() -> None:
    with Child(targets.handler, (10,), serves=True) as child:
        assert not select.select(child.sources(), [], [], 0)[0]
        child.send(4)
        assert select.select(child.sources(), [], [], 20)[0]
        assert child.poll() is not None
        assert not select.select(child.sources(), [], [], 0)[0]


def test_a_dead_child_wakes_once_and_not_for_ever() -> None:
    with Child(targets.handler, (10,), serves=True) as child:
        child.send("die")
        assert select.select(child.sources(), [], [], 20)[0]
        child.poll()
        assert child.sources() == []
        result = child.wait(20)
        assert result is not None
        assert result.died


def test_errors_of_the_house_arrive_whole_and_the_child_goes_on() -> None:
    with Child(targets.handler, (1,), serves=True) as child:
        child.send("raise")
        result = child.wait(20)
        assert result is not None
        assert isinstance(result.error, NotConverged)
        assert "handle" in result.traceback
        child.send(4)
        again = child.wait(20)
        assert again is not None
        assert again.value == (child.pid, 4)


def test_hint_and_transience_survive_the_pipe() -> None:
    with Child(targets.fail, ("house",)) as child:
        error = child.wait(20).error  # type: ignore[union-attr]
    assert isinstance(error, NotConverged)
    assert (error.message, error.hint, error.transient) == ("SCF stopped", "use more steps", True)


def test_foreign_errors_become_words() -> None:
    with Child(targets.fail, ("foreign",)) as child:
        error = child.wait(20).error  # type: ignore[union-attr]
    assert isinstance(error, Crashed)
    assert "CalledProcessError" in error.message
    assert "pw.x" in error.message


def test_a_value_that_cannot_be_pickled_is_an_error_not_a_hang() -> None:
    with Child(targets.unpicklable) as child:
        error = child.wait(20).error  # type: ignore[union-attr]
    assert isinstance(error, Crashed)


@pytest.mark.parametrize(("how", "reason"), [("signal", "killed by SIGSEGV"), ("exit", "exit code 7")])
def test_a_death_is_a_result_with_the_reason(how: str, reason: str) -> None:
    with Child(targets.end, (how,), "victim") as child:
        result = child.wait(20)
        assert result is not None
        assert result.died
        assert result.error is not None
        assert reason in result.error.message
        assert result.error.transient
        assert not child.alive()


def test_a_serving_child_that_dies_while_it_works_is_a_result() -> None:
    with Child(targets.handler, (1,), "worker", serves=True) as child:
        child.send("die")
        result = child.wait(20)
        assert result is not None
        assert result.died
        child.send(1)  # to a dead child: no exception, the same answer again
        assert child.poll() == result


def test_only_a_serving_child_takes_requests() -> None:
    with Child(targets.add, (1, 1)) as child, pytest.raises(ValueError, match="one result"):
        child.send(1)


def test_a_target_that_the_child_could_not_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.add, "__module__", "__main__")
    with pytest.raises(ValueError, match="__main__"):
        Child(targets.add, (1, 1))


def test_children_have_their_own_group_and_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_THREADING_LAYER")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = []
    for name in ("NUMBA_THREADING_LAYER", "OMP_NUM_THREADS"):
        with Child(targets.environment, (name,)) as child:
            found.append(child.wait(20).value)  # type: ignore[union-attr]
    assert found == ["workqueue", "3"]  # a default, and what the user set
    with Child(targets.environment, ("OMP_NUM_THREADS",), environment={"OMP_NUM_THREADS": "2"}) as child:
        assert child.wait(20).value == "2"  # type: ignore[union-attr]
    with Child(targets.group) as child:
        assert child.wait(20).value == (child.pid, child.pid)  # type: ignore[union-attr]


def test_output_of_a_child_goes_to_its_file(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with Child(targets.end, ("signal",), output=log) as child:
        child.wait(20)
    assert "Segmentation fault" in log.read_text()


def test_kill_ends_the_whole_group(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = Child(targets.sleep_with_grandchild, (str(file),))
    grandchild = written_pid(file)
    child.kill()
    wait_for(lambda: not grandchild.alive(), "the grandchild survived")
    assert not child.alive()
    child.close()


def test_sigkill_of_the_owner_leaves_neither_child_nor_grandchild(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = f"import sys; sys.path[:] = {sys.path!r}; import runtime_targets as t; t.owner_of_child({str(file)!r})"
    owner = subprocess.Popen([sys.executable, "-c", code])
    try:
        family = [written_pid(tmp_path / "pid.child"), written_pid(file)]
        assert all(member.alive() for member in family)
    finally:
        owner.kill()
        owner.wait()
    wait_for(lambda: not any(member.alive() for member in family), "somebody survived")

"""Threads of an evaluator: they leave with it, and an interrupted call disturbs no later one."""

import gc
import threading
import time
import weakref

import pytest

from mlip_autopipec.core.compiled.team import Team


def team_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("team-")]


def gone(condition, patience_s=10.0):
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_threads_and_what_they_worked_on_leave_with_their_team():
    class Evaluator:
        def work(self, number):
            done.append(number)

    before, done = set(team_threads()), []
    evaluator, team = Evaluator(), Team(4)
    team.run(evaluator.work)
    assert sorted(done) == [0, 1, 2, 3]
    held = weakref.ref(evaluator)
    del evaluator
    gone(lambda: held() is None)  # though the threads still wait for work
    assert len(set(team_threads()) - before) == 3
    del team
    gc.collect()
    gone(lambda: not set(team_threads()) - before)


@pytest.mark.parametrize("who", [0, 1])
def test_an_error_waits_for_the_others_and_the_next_call_is_whole(who):
    team, finished = Team(3), []

    def broken(number):
        if number == who:
            raise KeyboardInterrupt
        time.sleep(0.05)
        finished.append(number)

    with pytest.raises(KeyboardInterrupt):
        team.run(broken)
    assert len(finished) == 2
    seen = []
    team.run(lambda number: (time.sleep(0.02), seen.append(number)))
    assert sorted(seen) == [0, 1, 2]


def test_an_interrupt_while_waiting_is_kept_until_the_others_are_done():
    team, finished = Team(2), []

    class Impatient:
        """Stands for the queue of finished work: the first look at it is interrupted."""

        def __init__(self, inner):
            self.inner, self.looks = inner, 0

        def get(self):
            self.looks += 1
            if self.looks == 1:
                raise KeyboardInterrupt
            return self.inner.get()

        def put(self, value):
            self.inner.put(value)

    team.run(lambda number: None)
    team._done = Impatient(team._done)
    inner = team._done.inner

    def slow(number):
        if number:
            time.sleep(0.1)
        finished.append(number)

    with pytest.raises(KeyboardInterrupt):
        team.run(slow)
    assert sorted(finished) == [0, 1]
    assert inner.empty()

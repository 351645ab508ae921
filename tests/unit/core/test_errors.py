"""Exit codes of errors."""

from __future__ import annotations

import pickle

import pytest

from mlip_autopipec.core.errors import AutopipeError, ConfigError, Crashed, NotFoundError, QueueError


@pytest.mark.parametrize("kind", [AutopipeError, QueueError, Crashed, ConfigError])
def test_what_may_go_better_next_time_says_try_again(kind: type[AutopipeError]) -> None:
    error = kind("no space left", "free some", transient=True)
    assert error.exit_code == 75
    assert pickle.loads(pickle.dumps(error)).exit_code == 75


def test_what_will_not_keeps_its_own_code() -> None:
    assert [kind("x").exit_code for kind in (AutopipeError, QueueError, ConfigError, NotFoundError)] == [1, 1, 78, 4]

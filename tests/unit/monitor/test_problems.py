"""What `status` says needs a person."""

from __future__ import annotations

import pytest

from mlip_autopipec.monitor.status import problems


@pytest.mark.parametrize(("state", "lines"), [("failing", 1), ("training", 0)])
def test_a_failing_trainer_is_a_problem_and_says_why(state, lines):
    daemon = {"name": "trainer-worker", "state": state, "alive": True, "pid": 1, "detail": {"error": "gate: differ"}}
    facts = {"workflow": {"phase": "otf"}, "daemons": [daemon], "walkers": [], "queue": {}}
    found = problems(facts)
    assert len(found) == lines
    assert all("gate: differ" in line for line in found)

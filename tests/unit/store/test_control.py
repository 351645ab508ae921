"""Wishes are files; only those that somebody reads exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlip_autopipec.store.control import Control


def test_a_wish_is_seen_until_it_is_withdrawn(tmp_path: Path) -> None:
    control = Control(tmp_path / "control")
    for wish in ("stop", "pause"):
        assert not control.wants(wish)
        control.ask(wish, "test")
        control.ask(wish)
        assert control.wants(wish)
        control.withdraw(wish)
        control.withdraw(wish)
        assert not control.wants(wish)


def test_a_wish_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown wish 'drain'"):
        Control(tmp_path).ask("drain")

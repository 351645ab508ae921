"""Files that another NFS host replaces while they are read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mlip_autopipec.core.files import again_if_stale, read_json
from mlip_autopipec.store.document import read_document


class Stale:
    """Reads that fail so often with ESTALE first."""

    def __init__(self, times: int, number: int = errno.ESTALE) -> None:
        self.times, self.number = times, number

    def __call__(self) -> None:
        self.times -= 1
        if self.times >= 0:
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(("stale", "fails"), [(0, False), (1, False), (2, False), (3, True)])
def test_it_is_tried_three_times(stale: int, fails: bool) -> None:
    if fails:
        with pytest.raises(OSError, match="tale"):
            again_if_stale(Stale(stale))
    else:
        again_if_stale(Stale(stale))


def test_other_errors_are_not() -> None:
    trouble = Stale(1, errno.EIO)
    with pytest.raises(OSError, match="rror"):
        again_if_stale(trouble)
    assert trouble.times == 0


def test_readers_do_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    trouble = Stale(2)
    read_text, read = Path.read_text, os.read
    monkeypatch.setattr(Path, "read_text", lambda *a, **k: (trouble(), read_text(*a, **k))[1])
    assert read_json(path) == {"a": 1}
    trouble.times = 2
    monkeypatch.setattr(os, "read", lambda *a: (trouble(), read(*a))[1])
    assert read_document(path) == {"a": 1}

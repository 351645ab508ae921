"""How files of earlier versions are read: step by step, each from one version to the next; never changed on disk.

A step must not touch what the id is the hash of (structure, force mask, labeller), or the task would be another one.
Frozen files of every version lie in `tests/formats`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mlip_autopipec.core.errors import DataError

Step = Callable[[dict[str, Any]], dict[str, Any]]

# Key: the version that a step starts from.
TASK_STEPS: Final[dict[int, Step]] = {}
RESULT_STEPS: Final[dict[int, Step]] = {}


class NewerSchema(DataError):  # noqa: N818  says what is
    """A file of a later version of autopipe: not damaged, only not for us."""


def upgraded(kind: str, data: Mapping[str, Any], current: int, steps: Mapping[int, Step]) -> dict[str, Any]:
    """Return the content of a file as the current version would have written it.

    Parameters
    ----------
    kind
        "task" or "result", for messages.
    current
        The version that this program writes.

    Raises
    ------
    NewerSchema
        The file is of a later version.
    DataError
        It has no version, or one that never was.
    """
    if not isinstance(data, Mapping):
        raise DataError(f"{kind}: not a JSON object")
    version = data.get("schema")
    if type(version) is not int or version < 1:
        raise DataError(f"{kind}.schema: {version!r}, this version reads 1 to {current}")
    if version > current:
        raise NewerSchema(
            f"{kind}.schema: {version}, this version reads 1 to {current}", "install the autopipe that writes here"
        )
    new = dict(data)
    for number in range(version, current):
        new = {**steps[number](new), "schema": number + 1}
    return new

"""Errors of the house: what happened, what the user can do about it, and whether trying again may help."""

from __future__ import annotations

from typing import Final

_TRY_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h


class AutopipeError(Exception):
    """Base of every error that a user may see.

    Parameters
    ----------
    message
        One line: what is wrong, with the field or file and the value.
    hint
        One line: what the user can do.
    transient
        True if the same action may succeed later without any change.

    Attributes
    ----------
    exit_code : of a command or process that ends by it; 75 (try again) for all that are transient
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, transient: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.transient = transient
        if transient:
            self.exit_code = _TRY_AGAIN

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(AutopipeError):
    """A setting is missing, unknown or out of range."""

    exit_code = 78


class NotFoundError(AutopipeError):
    """The user named something that does not exist."""

    exit_code = 4


class QueueError(AutopipeError):
    """The task queue refuses an operation or a file."""


class DataError(AutopipeError):
    """A structure, label or file is not what it claims to be."""


class ModelError(AutopipeError):
    """A potential or active set is unusable."""


class EngineError(AutopipeError):
    """An outside program failed."""


class NotConverged(EngineError):  # noqa: N818  the field says "not converged", not "not converged error"
    """The SCF did not reach its threshold; there is no label."""


class TimedOut(EngineError):  # noqa: N818
    """The program exceeded its time limit."""


class Crashed(EngineError):  # noqa: N818
    """The program ended abnormally."""


class OutputUnreadable(EngineError):  # noqa: N818
    """The program ended but its output cannot be understood."""

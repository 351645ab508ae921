"""When a fit that failed is tried again, and when its new labels have to be given up."""

from __future__ import annotations

from collections.abc import Collection

from mlip_autopipec.runtime.child import Result

_FIRST_S = 2.0
_LONGEST_S = 300.0
# A fit has no chance in it: what fails so often in the same way fails always.
_GIVE_UP_AFTER = 3
# A child that is killed may have had bad luck with the machine's memory: six tries in a minute, then a person looks.
_DEATHS = 6


class Retries:
    """Remembers the failures of the fit of one set of new labels; another set is another matter.

    Attributes
    ----------
    error : of the last failure, for people
    """

    def __init__(self) -> None:
        self.error = ""
        self._tried: frozenset[str] | None = None
        self._kind = ""
        self._in_a_row = 0
        self._pause_s = _FIRST_S
        self._at = 0.0

    def wait(self, new: Collection[str], now: float) -> float:
        """Return for how long, s, a fit with these new labels should not be begun; 0 if it may be; inf: never."""
        return max(0.0, self._at - now) if frozenset(new) == self._tried else 0.0

    def failed(self, new: Collection[str], result: Result, now: float, *, first: bool) -> bool:
        """Take a failure in; True if the new labels should be given up.

        Parameters
        ----------
        new
            The labels that are in no version yet.
        first
            True if there is no version yet: nothing can be given up then, and a person has to look.
        """
        error = result.error
        died = result.died
        lasting = error is not None and not error.transient and not died
        self.error = f"{type(error).__name__}: {error}"
        kind = type(error).__name__ if lasting else "died" if died else ""
        same = kind == self._kind and frozenset(new) == self._tried
        self._in_a_row = self._in_a_row + 1 if same else 1
        self._tried, self._kind = frozenset(new), kind
        self._at = now + (_LONGEST_S if lasting and first else self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        if died and self._in_a_row >= _DEATHS:
            self._at = float("inf")
            self.error += (
                f"; {self._in_a_row} fits in a row ended so, and nothing more is tried with these labels: see "
                "logs/trainer-worker.log, give it more memory or a smaller training.basis, then `autopipe otf revive`"
            )
        return lasting and not first and self._in_a_row >= _GIVE_UP_AFTER

"""Is the run over before its steps are made? Asked by the otf-runner, now and then, of the run's files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from mlip_autopipec.core.errors import AutopipeError, DataError
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.stages.end import RunFacts, is_quiet, why_over
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.calibration import read_calibration
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import read_state

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

log = logging.getLogger(__name__)

# Some hundred small files are read each time, perhaps over a network.
_LOOK_S: Final = 5.0
_SAVE_S: Final = 60.0
_HOUR_S: Final = 3600.0


class RunEnd:
    """Judges a run by the rules of the section `end`, and counts the hours that the otf-runner has worked.

    Attributes
    ----------
    reason : by which rule the run is over; empty while it is not
    """

    def __init__(self, run: RunDirectory, config: Config) -> None:
        self.reason = ""
        self._run = run
        self._config = config
        self._settings = config.end
        self._hours: float | None = None  # of work, at `_since`
        self._since = 0.0
        self._next_look = self._next_save = float("-inf")

    def look(self, now: float) -> bool:
        """Return whether the run is over; reads files only now and then.

        Parameters
        ----------
        now
            Monotonic clock, s.
        """
        if self.reason or now < self._next_look:
            return bool(self.reason)
        self._next_look = now + _LOOK_S
        hours = self._count(now)
        if self._settings.is_set:
            try:
                self.reason = why_over(self._settings, self._facts(hours))
            except (AutopipeError, OSError) as error:  # a file is damaged, or a disk away: the run goes on meanwhile
                log.warning("it is not known whether the run is over: %s", error)
        return bool(self.reason)

    def _count(self, now: float) -> float:
        """Return the hours of work so far, those of earlier starts included."""
        if self._hours is None:
            self._hours, self._since = self._read_hours(), now
        hours = self._hours + (now - self._since) / _HOUR_S
        if now >= self._next_save:
            self._next_save = now + _SAVE_S
            try:
                write_json(self._run.hours, {"hours": round(hours, 5)})
            except OSError as error:  # a full disk: the next minute will do
                log.warning("%s: %s", self._run.hours, error)
        return hours

    def _read_hours(self) -> float:
        try:
            return float(read_json(self._run.hours)["hours"])
        except FileNotFoundError:
            return 0.0
        except (DataError, KeyError, TypeError, ValueError) as error:
            log.warning("%s: damaged, hours are counted from now: %s", self._run.hours, error)
            return 0.0

    def _facts(self, hours: float) -> RunFacts:
        settings, quiet, converged, labels = self._settings, self._quiet(), False, 0
        # Only what a rule asks for is looked up, and the large file last.
        if settings.labels is not None:
            under_way = dft_queue(self._run, self._config.queue, worker="otf-runner").unfinished()
            labels = under_way + sum(1 for _ in Results(self._run.results).ids())
        if settings.quiet_steps is not None and is_quiet(settings.quiet_steps, quiet):
            converged = self._converged()
        return RunFacts(hours=hours, labels=labels, quiet=quiet, converged=converged)

    def _quiet(self) -> list[int]:
        """Return of every walker that still moves the steps since it last asked for a label."""
        found = []
        for plan in walker_plans(self._config.otf):
            state = read_state(self._run.walker(plan.name))
            if state is None:
                found.append(0)
            elif not state.ended:
                found.append(state.step - state.extracted_step)
        return found

    def _converged(self) -> bool:
        """True if the audits of the version in use, compared with the target of now, prove it."""
        found = read_calibration(self._run.calibration)
        current = Registry(self._run.potentials).current()
        if found is None or current is None:
            return False
        same = found.version == current.version and found.target == self._config.otf.target_force_error
        return found.converged and same

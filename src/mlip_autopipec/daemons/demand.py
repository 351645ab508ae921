"""Which labels no version has yet, and whether a fit with them is due."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from typing import Final

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.daemons.intake import NO_FIT, Intake
from mlip_autopipec.daemons.retries import Retries
from mlip_autopipec.runtime.child import Result
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.store.registry import Registry

logger = logging.getLogger(__name__)

# Tasks may still be on their way to the queue when a run has just begun.
_SETTLE_S: Final = 5.0
# A fit of fewer structures than this is not worth walking with.
_FEWEST_LABELS: Final = 2


class Demand:
    """Compares the labels with the newest version.

    Parameters
    ----------
    has_given
        True if the user gave a potential that becomes the first version whatever labels there are.
    unfinished
        Counts the tasks that will still get a label.

    Attributes
    ----------
    version : the newest, None before the first
    waiting_for, error : for people; `error` is empty unless something is wrong
    """

    def __init__(
        self,
        intake: Intake,
        registry: Registry,
        settings: TrainingSettings,
        *,
        has_given: bool,
        unfinished: Callable[[], int],
    ) -> None:
        self.version: str | None = None
        self.waiting_for = ""
        self.error = ""
        self._intake = intake
        self._registry = registry
        self._settings = settings
        self._has_given = has_given
        self._unfinished = unfinished
        self._contained: set[str] = set()  # ids in the newest version
        self._editions: dict[str, int] = {}  # of those whose label was made again
        self._stands_on = ""  # the baseline of the newest version
        self._kept_baseline = False  # no fit with the wanted one succeeds
        self._quiet_since: float | None = None
        self._retries = Retries()

    def read_versions(self) -> None:
        """Read what the newest version contains; one whose manifest is damaged is set aside, and fitted again."""
        self.version, self._contained, self._editions, self._stands_on = None, set(), {}, self._wanted_baseline()
        for version in reversed(self._registry.versions()):
            try:
                manifest = self._registry.manifest(version)
            except DataError as error:
                logger.error("%s; renamed to %s", error, self._registry.set_aside(version))
                continue
            self.version, self._contained = version, set(manifest["task_ids"])
            self._editions = manifest.get("editions", {})
            if manifest.get("trainer") != "given":  # that is what the user brought
                self._stands_on = _baseline(**manifest.get("baseline", {}))
            return

    def new(self) -> set[str]:
        """Return the ids of the labels that are in no version yet, those that were made again included."""
        intake = self._intake
        relabelled = {i for i, n in intake.editions.items() if n > self._editions.get(i, 0)}
        return ((intake.labels - self._contained) | relabelled) & intake.trainable

    def other_baseline(self) -> str:
        """Say if the newest version stands on another baseline than `training` wants: it must be fitted anew."""
        wanted = self._wanted_baseline()
        if self.version is None or self._kept_baseline or self._stands_on == wanted:
            return ""
        return f"{self.version} was fitted with baseline {self._stands_on}, training.baseline is {wanted}: fitted anew"

    def _wanted_baseline(self) -> str:
        return _baseline(self._settings.baseline, self._settings.form_of_baseline)

    def lost(self) -> str:
        """Say which labels of the newest version are nowhere any more: nobody wants the next one from fewer."""
        lost = self._intake.lost(self._contained)
        if not lost:
            return ""
        names = ", ".join(sorted(lost)[:3]) + (", …" if len(lost) > 3 else "")
        return (
            f"{len(lost)} label(s) of {self.version} are neither in results/ nor in start.dataset ({names}): put them "
            "back, or wait for the tasks, which are labelled again; until then there is no new version"
        )

    def is_due(self, now: float) -> bool:
        """True if a fit should begin; otherwise says in `waiting_for` what is missing."""
        if self.lost():
            self.waiting_for = "the labels that are missing"
            return False
        new, first = self.new(), self.version is None
        if (wait := self._retries.wait(new, now)) > 0:
            when = "`autopipe otf revive`" if math.isinf(wait) else f"another try in {wait:.0f} s"
            self.waiting_for = f"{when}, or new labels"
            return False
        if first and self._has_given:
            return True
        if reason := self.other_baseline():
            logger.warning("%s", reason)
            return True
        if not first and not new:
            self.waiting_for = "new labels"
            return False
        wanted = self._settings.min_initial_labels if first else self._settings.min_new_labels
        if len(new) >= wanted:
            return True
        tasks = self._unfinished()
        self.waiting_for = f"{len(new)} of {wanted} {'first' if first else 'new'} labels, {tasks} tasks under way"
        if tasks:
            self._quiet_since, self.error = None, ""
            return False
        return not first or self._no_more_can_come(len(new), now)

    def _no_more_can_come(self, labels: int, now: float) -> bool:
        """Decide a bootstrap that ended with fewer labels than wanted."""
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < _SETTLE_S:
            return False
        if labels >= _FEWEST_LABELS:
            logger.warning("only %d labels for the first fit, and no task is under way", labels)
            return True
        wanted = self._settings.min_initial_labels
        self.error = f"{labels} labels and no task under way: {wanted} are needed for the first potential"
        self.waiting_for = "labels: add structures to start.dataset, or `autopipe queue requeue` what failed"
        return False

    def began(self, labels: int) -> None:
        """Take notice that a fit of so many labels has begun."""
        self.error, self._quiet_since = "", None
        self.waiting_for = f"fit of {labels} labels"

    def succeeded(self) -> None:
        self.waiting_for = ""  # not for the fit any more
        self._retries = Retries()
        self.read_versions()

    def revive(self) -> None:
        """Forget that fits failed: the next one may begin at once."""
        logger.info("another chance, as asked")
        self._retries, self.error = Retries(), ""

    def failed(self, new_ids: Collection[str], result: Result, now: float) -> None:
        """Take the failure of a fit in; labels with which every fit fails are refused."""
        hopeless = self._retries.failed(new_ids, result, now, first=self.version is None)
        self.error = self._retries.error
        logger.error("no new version: %s", self.error)
        if result.traceback:
            logger.debug("%s", result.traceback)
        if hopeless and not new_ids:
            self._kept_baseline = True
        elif hopeless:
            # Walkers wait for these labels: they have to hear that none of them will come.
            self._intake.refuse_all(dict.fromkeys(new_ids, f"{NO_FIT}{self.error}"))
            self.error = f"{len(new_ids)} new label(s) were left out, since every fit with them failed: {self.error}"


def _baseline(kind: str = "none", form: str = "none", **_: object) -> str:
    """Return the name of a baseline, as a manifest or the settings have it."""
    return kind if kind == "none" else f"{kind} ({form})"

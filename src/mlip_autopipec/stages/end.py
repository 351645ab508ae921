"""walkers -> end: is the run over before all of its steps are made?

Reads: steps and extractions of the walkers, labels, hours, what the audits say. Writes: nothing; it decides, the
otf-runner ends the walkers. Next: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


class EndSettings(BaseModel):
    """When MD ends before its steps are made; whatever comes first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quiet_steps: int | None = Field(
        None,
        ge=1,
        description="MD steps that every walker must have made since it last asked for a label: the run ends after "
        "them as soon as the audits say that otf.target_force_error is reached; null: it makes all of its steps",
    )
    labels: int | None = Field(
        None, ge=1, description="labels of this run, computed or under way, at which MD ends; null: any number"
    )
    # Steps are what MD is measured in; hours are what a queue or an electricity bill is.
    hours: float | None = Field(
        None, gt=0, le=100_000, description="hours of work of the otf-runner, all starts together; null: any number"
    )

    @property
    def is_set(self) -> bool:
        """True if anything but the steps ends the run."""
        return any(value is not None for value in (self.quiet_steps, self.labels, self.hours))


@dataclass(frozen=True)
class RunFacts:
    """Where a run stands.

    Attributes
    ----------
    hours : that the otf-runner has worked
    labels : computed, or under way
    quiet : of every walker that still moves, MD steps since it last asked for a label; negative while it repeats some
    converged : the audits prove that the current version is better than the target
    """

    hours: float
    labels: int
    quiet: Sequence[int]
    converged: bool


def why_over(settings: EndSettings, facts: RunFacts) -> str:
    """Return by which rule the run is over, in words for people; empty if it is not."""
    if settings.hours is not None and facts.hours >= settings.hours:
        return f"{facts.hours:.3g} hours of work (end.hours: {settings.hours:g})"
    if settings.labels is not None and facts.labels >= settings.labels:
        return f"{facts.labels} labels, computed or under way (end.labels: {settings.labels})"
    if settings.quiet_steps is not None and facts.converged and is_quiet(settings.quiet_steps, facts.quiet):
        return (
            "converged: the audits' bound is under otf.target_force_error, and no walker asked for a label in its last "
            f"{settings.quiet_steps} steps (end.quiet_steps)"
        )
    return ""


def is_quiet(steps: int, quiet: Sequence[int]) -> bool:
    """True if some walker still moves, and each that does has asked for nothing in its last `steps` steps."""
    return bool(quiet) and min(quiet) >= steps

"""Settings of the task queue, and of what is kept on disk for how long."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class QueueSettings(BaseModel):
    """How the file queue judges the living and the dead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Beats come every 10 s and a shared filesystem may show them 3 s late or more: 12 beats leave no doubt.
    lease_s: float = Field(
        120.0, ge=1, le=86_400, description="s without a beat after which a worker counts as dead; 120 on NFS"
    )
    fsync: bool = Field(True, description="false is faster and loses finished labels on a power cut")
    # What is transient (a full disk, a lost node) is mostly over after a few minutes: 30 + 60 + 120 s.
    retries: int = Field(3, ge=0, le=100, description="number of further tries of a task after transient failures")
    retry_delay_s: float = Field(
        30.0, gt=0, le=86_400, description="s before the first further try; doubles with each, with 25 % jitter"
    )


class RetentionSettings(BaseModel):
    """What is kept, and from when on walkers make room for labels. By default nothing but old snapshots goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A walker writes megabytes per snapshot; a label that finds no room is computed for hours and waits in memory.
    min_free_gb: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="GB; with less free on the run's disk walkers pause, while labels still land; 0: never",
    )
    snapshots: int = Field(
        2, ge=2, le=10_000, description="snapshots of each walker, or more where otf.rewind_steps needs them"
    )
    trajectory_gb: float | None = Field(
        None, gt=0, description="GB of each walker's trajectory, beyond which its oldest frames go; null: all stay"
    )
    excursions: int | None = Field(
        None, ge=0, description="files in each walker's excursions/ (halted frames, abandoned tails); null: all stay"
    )
    attempts_days: float | None = Field(
        None, ge=0, description="days after which the attempts at a label go that is there; null: all stay"
    )
    # The newest, and one to fall back to when its files are damaged.
    versions: int | None = Field(
        None,
        ge=2,
        description="newest versions that stay, besides the current one, its parent and those that a walker, a halt "
        "or a production uses; null: all stay",
    )

"""Settings of the task queue."""

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

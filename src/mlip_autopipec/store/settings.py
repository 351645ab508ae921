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

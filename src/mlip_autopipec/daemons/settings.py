"""Settings of the processes: how many, how patient; and what differs from node to node."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlip_autopipec.engines.espresso.settings import EspressoNode
from mlip_autopipec.engines.gpaw.settings import GpawNode
from mlip_autopipec.engines.vasp.settings import VaspNode


class SupervisorSettings(BaseModel):
    """The processes of this host and their patience."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dft_workers: int = Field(
        1, ge=0, le=1000, description="dft-workers started on this host; 0 if only other hosts label"
    )
    restart_backoff_s: float = Field(
        1.0, gt=0, le=3600, description="s before a crashed process is started again; doubles with every crash in a row"
    )
    # A minute is short for a person and long for a processor.
    restart_backoff_max_s: float = Field(60.0, gt=0, le=3600, description="s, longest pause before a restart")
    # Longer than label_grace_s, so that a worker's own clean end always comes first.
    grace_s: float = Field(30.0, gt=0, le=3600, description="s that a draining process gets before it is killed")
    label_grace_s: float = Field(
        10.0, ge=0, le=3600, description="s that a label in work gets at the end; then its task goes back to the queue"
    )
    label_timeout_s: float = Field(
        86_400.0, gt=0, description="s after which one label is given up as timed out; a day suits plain DFT cells"
    )
    # Longer than a file server's attribute cache hides a new event.
    event_patience_s: float = Field(
        10.0, gt=0, le=3600, description="s that events.jsonl waits for the cause of an event before it is marked late"
    )

    @model_validator(mode="after")
    def _graces_fit(self) -> SupervisorSettings:
        if self.label_grace_s >= self.grace_s:
            raise ValueError(
                f"supervisor.label_grace_s {self.label_grace_s:g}: must be below supervisor.grace_s {self.grace_s:g}, "
                "else a worker is killed before it can give its task back"
            )
        if self.restart_backoff_max_s < self.restart_backoff_s:
            raise ValueError("supervisor.restart_backoff_max_s: must not be below supervisor.restart_backoff_s")
        return self


class NodeSettings(BaseModel):
    """What differs from node to node; never part of a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    espresso: EspressoNode = Field(default_factory=EspressoNode, description="Quantum ESPRESSO on this node")
    gpaw: GpawNode = Field(default_factory=GpawNode, description="GPAW on this node")
    vasp: VaspNode = Field(default_factory=VaspNode, description="VASP on this node")

    def before(self, deadline: float) -> NodeSettings:
        """Return these settings for a machine that is taken away at `deadline`, s of `time.monotonic` on it."""
        engines = {"espresso": self.espresso, "gpaw": self.gpaw, "vasp": self.vasp}
        return self.model_copy(update={name: engine.before(deadline) for name, engine in engines.items()})

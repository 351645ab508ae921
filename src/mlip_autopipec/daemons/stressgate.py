"""May an npt walker begin? Only with a version that has seen stress: without, its density means nothing."""

from __future__ import annotations

from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan
from mlip_autopipec.store.registry import Registry


class StressGate:
    """Holds back the npt walkers of versions without labels with stress."""

    def __init__(self, plan: WalkerPlan, otf: OtfSettings, registry: Registry) -> None:
        self._held = plan.ensemble == "npt" and not otf.npt_without_stress
        self._registry = registry
        self._good: str | None = None

    def missing(self, version: str) -> str:
        """Return what the walker waits for; empty if it may move."""
        if not self._held or version == self._good:
            return ""
        # Potentials of pacemaker and of people do not tell; our own fits do.
        if self._registry.manifest(version).get("stress_labels") != 0:
            self._good = version
            return ""
        return (
            f"npt: labels with stress of whole cells, of which {version} has none; "
            "otf.npt_without_stress: true would go on without"
        )

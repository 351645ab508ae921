"""What the labels of a version say, kept in its `metrics.json`: labellers call a label far from that a surprise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.windows import LabelRange, energy_per_atom, largest_force
from mlip_autopipec.store.registry import Registry

if TYPE_CHECKING:
    from mlip_autopipec.store.dataset import DatasetRow  # ASE's database, which no labeller needs

KEY = "label_range"


def label_range(rows: Sequence[DatasetRow], isolated: Mapping[str, float]) -> LabelRange | None:
    """Return the range of all rows; None without rows, or if an isolated atom's energy (eV) is not known."""
    energies = [energy_per_atom(row.energy, row.composition, isolated) for row in rows]
    known = [energy for energy in energies if energy is not None]
    forces = [largest_force(row.forces, row.force_mask) for row in rows if row.learned.any()]
    return LabelRange.of(known, forces) if known and forces else None


def read_range(registry: Registry) -> LabelRange | None:
    """Return the range of the version that walkers use; None if there is none, or none that can be read now."""
    try:
        current = registry.current()
        metrics = read_json(registry.path(current.version) / "metrics.json") if current is not None else None
    except (AutopipeError, OSError):
        return None
    return LabelRange.from_dict(metrics.get(KEY)) if isinstance(metrics, dict) else None

"""What `autopipe.yaml` leaves open, filled in from its section `material`; and the seeds that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from pydantic import ValidationError

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.stages import policy
from mlip_autopipec.stages.composition import MaterialSettings
from mlip_autopipec.stages.explore import ExploreSettings, count_learned, read_structures
from mlip_autopipec.stages.infer import fill_in, infer, infer_exploration
from mlip_autopipec.structures.seeds.generator import Seeds, generate, start_structure
from mlip_autopipec.structures.seeds.material import Material, of_crystal, of_formula


@dataclass(frozen=True)
class Proposal:
    """A first training set, and where MD starts.

    Attributes
    ----------
    plan : shares of the seeds, with their reasons
    """

    material: Material
    plan: policy.Plan
    seeds: Seeds
    start: Atoms


def material_of(settings: MaterialSettings, folder: Path) -> Material:
    """Return what the section `material` names.

    Parameters
    ----------
    folder
        The run directory, from which paths count.

    Raises
    ------
    ConfigError
        No formula, no known crystal, or a file that holds none.
    """
    if settings.structure is None:
        return of_formula(str(settings.formula))
    file = settings.structure if settings.structure.is_absolute() else folder / settings.structure
    return of_crystal(read_structures(file, "material.structure")[-1], str(settings.structure))


def propose(
    settings: MaterialSettings, folder: Path, evidence: Mapping[str, policy.Evidence] | None = None
) -> Proposal:
    """Make the seeds and the start structure of a material.

    Parameters
    ----------
    evidence
        What the labels of an earlier run told, by `config_type`.

    Raises
    ------
    ConfigError
        As `material_of`.
    """
    material = material_of(settings, folder)
    plan = policy.plan(material, evidence, settings.shares)
    seeds = generate(material, plan.counts(settings.total(len(material.elements))), settings.seed)
    return Proposal(material, plan, seeds, start_structure(material, settings.seed))


def complete(data: Mapping[str, Any], folder: Path, *, is_new: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """Fill in what a configuration leaves open; return it, with the reason by dotted key.

    A configuration without a (correct) section `material` comes back as it is: what is wrong is said by its check.

    Parameters
    ----------
    is_new
        The start files are not in their place yet.

    Raises
    ------
    ConfigError
        As `material_of`.
    """
    section, labeller = data.get("material"), data.get("labeller")
    try:
        settings = MaterialSettings.model_validate(section)
    except ValidationError:
        return dict(data), {}
    material = material_of(settings, folder)
    engine = str(labeller.get("engine")) if isinstance(labeller, dict) else ""
    values = infer(
        material,
        engine,
        settings.total(len(material.elements)),
        learned=None if is_new else _learned(data, folder),
        picks=_picks(data),
    )
    if isinstance(data.get("explore"), dict):
        values += infer_exploration(material, policy.plan(material, overrides=settings.shares).shares)
    return fill_in(data, values)


def _learned(data: Mapping[str, Any], folder: Path) -> int | None:
    """Return how many structures of `start.dataset` are learned from; None if it is not there, or need not be read."""
    start, training = data.get("start"), data.get("training")
    if isinstance(training, dict) and "min_initial_labels" in training:
        return None
    dataset = start.get("dataset") if isinstance(start, dict) else None
    try:
        return None if dataset is None else count_learned(read_structures(folder / str(dataset), "start.dataset"))
    except ConfigError:  # the check of the run says what is wrong with it
        return None


def _picks(data: Mapping[str, Any]) -> int | None:
    """Return how many structures exploration picks; None without a (correct) section that explores."""
    try:
        explore = ExploreSettings.model_validate(data.get("explore"))
    except ValidationError:
        return None
    return explore.picks if explore.explores else None

"""What versions of a potential are made of, and how they differ. Read-only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mlip_autopipec.core.errors import AutopipeError, DataError, ModelError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.gatereport import read_report
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

_ERRORS: Final = ("force_rmse", "force_mae", "energy_rmse_mev", "energy_mae_mev")


def facts_of(registry: Registry, version: str) -> dict[str, Any]:
    """Return what one version is made of, JSON-ready.

    Raises
    ------
    NotFoundError, DataError
        There is no such version, or a file of it is damaged.
    """
    manifest, metrics = registry.manifest(version), _metrics(registry, version)
    current = _current(registry)
    is_current = current == version
    return {
        "version": version,
        "created": manifest.get("created"),
        "parent": manifest.get("parent"),
        "labels": len(manifest["task_ids"]),
        "new": len(manifest.get("new_task_ids", [])),
        "seconds": manifest.get("seconds"),
        "active_set": manifest.get("active_set", {}),
        "candidate": list(manifest.get("candidate", [])),
        "current": is_current,
        "pinned": is_current and registry.is_pinned(),
        "errors": [{"group": group, **numbers} for group, numbers in _groups(metrics).items()],
        "gate": read_report(registry, version).get("checks", []),
    }


def difference(registry: Registry, first: str, second: str) -> dict[str, Any]:
    """Return in what `second` differs from `first`, JSON-ready.

    Raises
    ------
    NotFoundError, DataError
        There is no such version, or a file of it is damaged.
    """
    one, other = registry.manifest(first), registry.manifest(second)
    mine, theirs = set(one["task_ids"]), set(other["task_ids"])
    editions, later = one.get("editions", {}), other.get("editions", {})
    settings, changed = _settings(registry, first), _settings(registry, second)
    keys = sorted(key for key in {*settings, *changed} if settings.get(key) != changed.get(key))
    errors, afterwards = _groups(_metrics(registry, first)), _groups(_metrics(registry, second))
    return {
        "added": sorted(theirs - mine),
        "removed": sorted(mine - theirs),
        "relabelled": sorted(t for t in mine & theirs if editions.get(t, 0) != later.get(t, 0)),
        "settings": {key: [settings.get(key), changed.get(key)] for key in keys},
        "errors": [
            {
                "group": group,
                "error": name,
                "first": errors.get(group, {}).get(name),
                "second": afterwards.get(group, {}).get(name),
            }
            for group in dict.fromkeys([*errors, *afterwards])
            for name in _ERRORS
        ],
    }


def lineage(run: RunDirectory, registry: Registry, version: str) -> list[dict[str, Any]]:
    """Return `version` and its forebears, newest first, each with the labels that made it, JSON-ready.

    Raises
    ------
    NotFoundError, DataError
        There is no such version, or its manifest is damaged.
    """
    steps, name = [], version
    dataset = Dataset(run.dataset)
    while name:
        manifest = registry.manifest(name)
        new = [_label(dataset, task_id) for task_id in manifest.get("new_task_ids", [])]
        parent = manifest.get("parent")
        steps.append({"version": name, "parent": parent, "labels": len(manifest["task_ids"]), "new": new})
        if parent is None or registry.damage(parent) or any(step["version"] == parent for step in steps):
            break
        name = parent
    return steps


def _label(dataset: Dataset, task_id: str) -> dict[str, Any]:
    row = dataset.row(task_id)
    if row is None:
        unknown = dict.fromkeys(("walker", "step", "gamma", "asked_by", "learned", "atoms"))
        return {"label": task_id, "kind": "gone", **unknown}
    walker = row.origin.get("walker", row.origin.get("of", row.origin.get("source")))
    return {
        "label": task_id,
        "kind": row.config_type,
        "walker": walker,
        "step": row.origin.get("step", row.origin.get("number")),
        "gamma": row.uncertainty_gamma or None,
        "asked_by": row.origin.get("version"),
        "learned": int(row.learned.sum()),
        "atoms": len(row.atoms),
    }


def _current(registry: Registry) -> str | None:
    try:
        current = registry.current()
    except ModelError:
        return None
    return current.version if current is not None else None


def _metrics(registry: Registry, version: str) -> dict[str, Any]:
    file = registry.path(version) / "metrics.json"
    try:
        content = read_json(file)
    except FileNotFoundError:
        content = {}
    if not isinstance(content, dict):
        raise DataError(f"{file}: no metrics: it must be a mapping")
    return dict(content)


def _groups(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return errors by group, those of all first."""
    names = ("structures", "learned_atoms", *_ERRORS)
    tables = {"all": metrics, **metrics.get("groups", {})}
    return {group: {name: numbers.get(name) for name in names} for group, numbers in tables.items()}


def _settings(registry: Registry, version: str) -> dict[str, Any]:
    """Return what stands in `train_config.yaml`, one entry per key."""
    try:
        content = read_mapping(registry.path(version) / "train_config.yaml")
    except (AutopipeError, OSError):
        return {}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat

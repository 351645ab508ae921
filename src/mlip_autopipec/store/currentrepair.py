"""Repair of `potentials/current.json` and of the version that it names, after a disk or a hand has damaged them."""

from __future__ import annotations

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.store.registry import Registry


def repair_current(registry: Registry, *, thorough: bool) -> str:
    """Let `current.json` name a sound version again; return what was wrong and done, empty if all is well.

    A damaged version is set aside (`.stray-v0003`), so that its labels count as new and are fitted again.

    Parameters
    ----------
    thorough
        Compare the files of the current version with what was published; otherwise only look whether it is there.

    Raises
    ------
    ModelError
        The version is pinned: only a person can say what is to be used instead.
    """
    try:
        current = registry.current()
    except ModelError as error:
        if registry.is_pinned():
            raise
        return _point_to_newest(registry, error.message)
    if current is None:
        return _point_to_newest(registry, f"{registry.current_file}: missing") if registry.versions() else ""
    damage = registry.damage(current.version) if thorough else None
    if damage is None:
        return ""
    if current.pinned:
        raise ModelError(
            f"{registry.current_file}: pins a damaged version: {damage}",
            "restore that file, name another version, or remove current.json: the trainer then points to the newest",
        )
    return _point_to_newest(registry, damage)


def _point_to_newest(registry: Registry, cause: str) -> str:
    """Point to the newest sound version that is no candidate, or to the newest of those; set damaged ones aside."""
    done = [cause]
    newest_first = registry.versions()[::-1]
    for version in sorted(newest_first, key=lambda version: bool(registry.candidate(version))):
        damage = registry.damage(version)
        if damage is None:
            registry.set_current(version)
            return "; ".join([*done, f"now {version}"])
        done.append(f"{damage}: renamed to {registry.set_aside(version)}")
    registry.current_file.unlink(missing_ok=True)
    return "; ".join([*done, "no version is left"])

"""Which version walkers use, as a person wants it: the command line asks, whoever holds the trainer's office acts."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Final

from mlip_autopipec.core.errors import AutopipeError, ModelError, NotFoundError
from mlip_autopipec.daemons.inoffice import trainers_office
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

logger = logging.getLogger(__name__)

_WISH: Final = re.compile(r"(?P<how>pin|use)-(?P<version>v\d{4,})")


def ask(run: RunDirectory, version: str, *, pinned: bool, lease_s: float) -> bool:
    """Let walkers use `version`; True if that is so now, False if the trainer was asked to see to it.

    Parameters
    ----------
    pinned
        Stay with it when newer versions come.
    lease_s
        `queue.lease_s`, of the trainer's office.

    Raises
    ------
    NotFoundError
        There is no such version.
    ModelError
        Its files are damaged.
    """
    registry, control = Registry(run.potentials), Control(run.control)
    if version not in registry.versions():
        raise NotFoundError(f"{version}: no such version", f"there are: {', '.join(registry.versions()) or 'none'}")
    if damage := registry.damage(version):
        raise ModelError(f"{damage}, so walkers cannot use {version}", "restore that file, or name another version")
    for wish in _wishes(control):
        control.withdraw(wish)
    control.ask(f"{'pin' if pinned else 'use'}-{version}", "autopipe potential")
    office = trainers_office(run, lease_s)
    if not office.take():
        return False
    try:
        fulfil(control, registry)
    finally:
        office.drop()
    return True


def fulfil(control: Control, registry: Registry) -> str:
    """Do what was asked for, and withdraw it; return the version that is current by it, empty if nothing was asked.

    For the holder of the trainer's office.
    """
    done = ""
    for wish in _wishes(control):
        found = _WISH.fullmatch(wish)
        if found is not None:
            version, pinned = found["version"], found["how"] == "pin"
            try:
                registry.set_current(version, pinned=pinned)
                done = version
                logger.info("%s is current%s, as asked", version, " and pinned" if pinned else "")
            except (AutopipeError, OSError) as error:  # it was removed meanwhile, or is damaged
                logger.error("%s: %s", wish, error)
        control.withdraw(wish)
    return done


def _wishes(control: Control) -> Iterator[str]:
    names = [path.name for path in control.folder.iterdir()] if control.folder.is_dir() else []
    return iter(sorted(name for name in names if _WISH.fullmatch(name)))

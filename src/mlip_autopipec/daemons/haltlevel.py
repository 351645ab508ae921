"""The gamma at which a walker halts: `otf.uncertainty_threshold`, or what the calibration says of the target."""

from __future__ import annotations

import logging
from pathlib import Path

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.calibration import read_calibration

log = logging.getLogger(__name__)


class HaltLevel:
    """Follows `calibration.json` where there is a target.

    Parameters
    ----------
    path
        The run's `calibration.json`.
    """

    def __init__(self, path: Path, otf: OtfSettings) -> None:
        self._path = path
        self._otf = otf
        self._seen: object = None
        self._value = otf.uncertainty_threshold

    def __call__(self) -> float:
        """Return the level; costs one `stat` unless the file was replaced."""
        if self._otf.target_force_error is None:
            return self._otf.uncertainty_threshold
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._read()
        return self._value

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _read(self) -> None:
        try:
            found = read_calibration(self._path)
        except DataError as error:  # the level of before is better than none
            log.warning("%s", error)
            return
        # The calibration of an earlier target says nothing about this one.
        usable = found is not None and found.level is not None and found.target == self._otf.target_force_error
        value = float(found.level) if usable and found is not None and found.level is not None else None
        value = self._otf.uncertainty_threshold if value is None else value
        if value != self._value:
            log.info("halt level %.3g -> %.3g: %s", self._value, value, found.reason if found else "no calibration")
        self._value = value

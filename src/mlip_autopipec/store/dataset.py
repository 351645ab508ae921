"""The training set: one ASE database, one writer, one row per task id.

A row is an ASE row, so `ase db dataset.db` shows it. Everything that we ask for later stands in its `data`; what people
search by (`config_type`, `uncertainty_gamma`, `walker`, `step`, `version`) also stands in its key-value pairs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import fsync_directory
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.store.sides import side_of

# ASE refuses key-value strings that could be numbers, and an id such as 12e45… could.
_PREFIX = "task-"
# Somebody's `ase db` may be reading, or a killed writer's journal be rolled back by another process.
_BUSY_S = 60.0
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Of ASE's tables those that nothing works without.
_TABLES = ("systems", "text_key_values")


@dataclass(frozen=True)
class DatasetRow:
    """One labelled structure.

    Attributes
    ----------
    task_id : identity of structure, mask and label settings
    atoms : without calculator
    energy : eV, as labelled (with isolated-atom energies)
    forces : (N, 3) eV/A
    stress : (6,) eV/A^3, ASE sign and order, or None
    force_mask : (N,) 1 = learned, 0 = masked
    config_type : which kind of structure, e.g. `active_learning`
    uncertainty_gamma : extrapolation grade that it was picked for; 0 if it was not
    origin : where it comes from: walker, step, version, or source
    edition : how many earlier labels of this task were set aside by `queue requeue`
    moments : (N,) magnetic moments in spheres around the atoms, Bohr magnetons; None without spin
    flags : what is odd about the label, which is kept all the same: name -> one line for people
    taught : (N,) in place of `force_mask` in a fit (`stages.masking`); never stored
    """

    task_id: str
    atoms: Atoms
    energy: float
    forces: FloatArray
    stress: FloatArray | None
    force_mask: tuple[int, ...]
    config_type: str
    uncertainty_gamma: float = 0.0
    origin: dict[str, Any] = field(default_factory=dict)
    edition: int = 0
    moments: FloatArray | None = None
    flags: dict[str, str] = field(default_factory=dict)
    taught: tuple[int, ...] | None = None

    @property
    def whole(self) -> bool:
        """True if the label masks no atom, as in a cell that was not carved: whatever a fit makes of it."""
        return all(self.force_mask)

    @cached_property
    def learned(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(N,) bool, the atoms whose forces are learned; read only."""
        found = np.asarray(self.force_mask if self.taught is None else self.taught, dtype=bool)
        found.flags.writeable = False
        return found

    @cached_property
    def composition(self) -> dict[str, int]:
        """Number of atoms of each element."""
        return dict(Counter(self.atoms.get_chemical_symbols()))


class Dataset:
    """The database file of one run. Only the trainer opens it to write.

    Parameters
    ----------
    path
        `dataset.db`; made at the first ingest.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _connect(path)

    def ingested(self) -> set[str]:
        """Return the task ids that have a row."""
        if not self.path.exists():
            return set()
        with self._open() as connection:  # through ASE this takes a millisecond per row
            found = connection.execute("select value from text_key_values where key = 'task'").fetchall()
        return {str(value).removeprefix(_PREFIX) for (value,) in found}

    def stamp(self) -> tuple[int, int, int] | None:
        """Return a token that differs whenever the file was written or replaced, None without one; one `stat`."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def damage(self) -> str | None:
        """Return what is wrong with the file, None if nothing is or there is none.

        Raises
        ------
        sqlite3.Error
            It cannot be looked at now: locked, or not ours to read.
        """
        if not self.path.exists():
            return None
        try:
            with self._open() as connection:
                (said,) = connection.execute("pragma quick_check(1)").fetchone()
                for table in _TABLES:
                    connection.execute(f"select 1 from {table} limit 1")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _DAMAGE or "no such table" in str(error):
                return str(error)
            raise
        return None if said == "ok" else str(said)

    def set_aside(self, suffix: str = ".damaged") -> Path:
        """Rename a damaged file to `dataset.db.damaged-N` and return where it lies; there is none afterwards."""
        names = (self.path.with_name(f"{self.path.name}{suffix}-{n}") for n in itertools.count(1))
        kept = next(name for name in names if not name.exists())
        journal = _journal(self.path)
        if journal.exists():  # it belongs to this file, and would be rolled back into the next one
            os.replace(journal, _journal(kept))
        os.replace(self.path, kept)
        fsync_directory(self.path.parent)
        self._db = _connect(self.path)
        return kept

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # Not read-only: a kill during a commit leaves a journal, which the next reader has to roll back.
        address = f"{self.path.resolve().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
            yield connection

    def ingest(self, rows: Iterable[DatasetRow]) -> list[str]:
        """Add `rows` in one transaction and return the ids that were new; an id that is there already is left alone.

        Raises
        ------
        DataError
            Sizes disagree or a number is not finite; nothing is added then.
        """
        known = self.ingested()
        new: dict[str, DatasetRow] = {}
        for row in rows:
            if row.task_id not in known and row.task_id not in new:
                _check(row)
                new[row.task_id] = row
        if new and self.path.exists():
            _write_all(self._db, new.values())
        elif new:
            self._create(new.values())
        return list(new)

    def editions(self) -> dict[str, int]:
        """Return task id -> edition of the rows that replaced an earlier label."""
        if not self.path.exists():
            return {}
        return {row.task.removeprefix(_PREFIX): int(row.edition) for row in self._db.select("edition>0")}

    def replace(self, row: DatasetRow) -> None:
        """Put `row` in the place of the row with its task id, in one transaction.

        Raises
        ------
        DataError
            Sizes disagree or a number is not finite; the old row stays then.
        """
        _check(row)
        with self._db as db:
            old = [found.id for found in db.select(task=_PREFIX + row.task_id)]
            db.delete(old)
            _write(db, row)

    def _create(self, rows: Iterable[DatasetRow]) -> None:
        # ASE makes its tables one by one: a kill between two of them would leave a file that never works again.
        unfinished = self.path.with_name(f".{self.path.name}.new")
        # An old journal would be rolled back into the new file.
        for leftover in (unfinished, _journal(unfinished), _journal(self.path)):
            leftover.unlink(missing_ok=True)
        _write_all(_connect(unfinished), rows)
        os.replace(unfinished, self.path)
        fsync_directory(self.path.parent)

    def ids_of(self, value: str, key: str = "config_type") -> set[str]:
        """Return the task ids of the rows of one kind, or whose `key` (`side`, …) is `value`."""
        if not self.path.exists():
            return set()
        query = (
            "select t.value from text_key_values t join text_key_values c on t.id = c.id "
            "where t.key = 'task' and c.key = ? and c.value = ?"
        )
        with self._open() as connection:
            found = connection.execute(query, (key, value)).fetchall()
        return {str(task).removeprefix(_PREFIX) for (task,) in found}

    def row(self, task_id: str) -> DatasetRow | None:
        """Return one row, None if there is none."""
        if not self.path.exists():
            return None
        return next((_read(row) for row in self._db.select(task=_PREFIX + task_id)), None)

    def rows(self) -> Iterator[DatasetRow]:
        """Yield all rows, oldest first."""
        for _, row in self.numbered_rows():
            yield row

    def numbered_rows(self, after: int = 0) -> Iterator[tuple[int, DatasetRow]]:
        """Yield rows with their numbers, oldest first, from the first number above `after`; a replaced row is new."""
        if self.path.exists():
            for row in self._db.select(f"id>{after}", sort="id"):
                yield int(row.id), _read(row)

    def magnetic(self) -> Iterator[DatasetRow]:
        """Yield the rows that have magnetic moments, oldest first."""
        if self.path.exists():
            for row in self._db.select("mean_moment>=0", sort="id"):
                yield _read(row)

    def flags(self) -> dict[str, dict[str, str]]:
        """Return task id -> flags of the labels that have some."""
        if not self.path.exists():
            return {}
        return {found.task_id: found.flags for found in map(_read, self._db.select("flags"))}

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._db.count()) if self.path.exists() else 0


def _journal(path: Path) -> Path:
    """Return where SQLite keeps what it needs to undo an unfinished transaction."""
    return path.with_name(f"{path.name}-journal")


def _connect(path: Path) -> Any:
    # SQLite's own (rollback journal) locking guards the file; ASE's lock file would outlive a killed writer.
    return ase.db.connect(str(path), type="db", use_lock_file=False)


def _write_all(connection: Any, rows: Iterable[DatasetRow]) -> None:
    """Write `rows` in one transaction."""
    with connection as db:
        for row in rows:
            _write(db, row)


def _check(row: DatasetRow) -> None:
    n = len(row.atoms)
    forces = np.asarray(row.forces, dtype=float)
    if forces.shape != (n, 3) or len(row.force_mask) != n:
        raise DataError(f"label {row.task_id}: {n} atoms, forces {forces.shape}, {len(row.force_mask)} mask entries")
    numbers = [np.array([row.energy]), forces, *([] if row.stress is None else [np.asarray(row.stress, dtype=float)])]
    if not all(np.isfinite(a).all() for a in numbers):
        raise DataError(f"label {row.task_id}: a number is not finite", "look at the labeller's output in attempts/")


def _write(db: Any, row: DatasetRow) -> None:
    atoms = row.atoms.copy()
    results: dict[str, Any] = {"energy": float(row.energy), "forces": np.asarray(row.forces, dtype=float)}
    if row.stress is not None:
        results["stress"] = np.asarray(row.stress, dtype=float)
    if row.moments is not None:
        results["magmoms"] = np.asarray(row.moments, dtype=float)
    atoms.calc = SinglePointCalculator(atoms, **results)
    pairs: dict[str, Any] = {"task": _PREFIX + row.task_id, "uncertainty_gamma": float(row.uncertainty_gamma)}
    wanted = {"config_type": row.config_type, **{key: row.origin.get(key) for key in ("walker", "step", "version")}}
    pairs.update({key: value for key, value in wanted.items() if _searchable(value)})
    if (side := side_of(row.config_type, row.origin)) != "train":
        pairs["side"] = side
    if row.edition:
        pairs["edition"] = row.edition
    if row.moments is not None:
        pairs["mean_moment"] = float(np.abs(row.moments).mean())
    if row.flags:
        pairs["flags"] = ",".join(sorted(row.flags))
    data = {"force_mask": [int(m) for m in row.force_mask], "origin": row.origin, "config_type": row.config_type}
    if row.flags:
        data["flags"] = row.flags
    db.write(atoms, key_value_pairs=pairs, data=data)


def _searchable(value: Any) -> bool:
    """True if ASE takes `value` as a key-value pair: no text that looks like a number or a truth value."""
    if not isinstance(value, str):
        return isinstance(value, int | float)
    try:
        float(value)
    except ValueError:
        return value.lower() not in {"", "true", "false"}
    return False


def _read(row: Any) -> DatasetRow:
    atoms = row.toatoms()
    atoms.calc = None
    return DatasetRow(
        task_id=row.task.removeprefix(_PREFIX),
        atoms=atoms,
        energy=float(row.energy),
        forces=np.asarray(row.forces, dtype=float),
        stress=np.asarray(row.stress, dtype=float) if "stress" in row else None,
        force_mask=tuple(int(m) for m in row.data.force_mask),
        config_type=row.data.config_type,
        uncertainty_gamma=float(row.uncertainty_gamma),
        origin=dict(row.data.origin),
        edition=int(row.get("edition", 0)),
        moments=np.asarray(row.magmoms, dtype=float) if "magmoms" in row else None,
        flags=dict(row.data.get("flags", {})),
    )

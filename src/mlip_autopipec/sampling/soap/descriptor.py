"""SOAP of atoms and of structures; implements `core.interfaces.Descriptor`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.compiled.team import Team, default_threads
from mlip_autopipec.core.compiled.views import Packed
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.sampling.soap.frame import make_frame
from mlip_autopipec.sampling.soap.kernel import describe_slabs
from mlip_autopipec.sampling.soap.records import INNER, OUTER, ROWS, Outcome, Scratch, make_scratch
from mlip_autopipec.sampling.soap.settings import SoapSettings
from mlip_autopipec.sampling.soap.tables import Tables, make_tables

_AVERAGES = {"outer": OUTER, "inner": INNER}


class Soap:
    """Power spectra with Gaussian-type radial functions, numbered as dscribe numbers them.

        p[Z, Z', l, n, n'] = pi sqrt(8 / (2 l + 1)) sum_m c[Z, n, l, m] c[Z', n', l, m]

    for Z <= Z', all l and n, and all n' (n' >= n where Z = Z').

    Parameters
    ----------
    settings
        Species, cutoff, basis.
    threads
        Default: OMP_NUM_THREADS, or all CPUs. Results do not depend on it.

    Raises
    ------
    ConfigError
        The radial functions are linearly dependent.
    """

    def __init__(self, settings: SoapSettings, *, threads: int | None = None) -> None:
        self.settings = settings
        self._tables = Packed(make_tables(settings))
        self._team = Team(threads or default_threads())
        self._scratch: list[Packed[Scratch]] = []

    @property
    def elements(self) -> tuple[str, ...]:
        return self.settings.species

    @property
    def n_features(self) -> int:
        """Length of one power spectrum."""
        return self.settings.n_features

    def environments(self, atoms: Atoms, *, indices: Sequence[int] | NDArray[np.int64] | None = None) -> FloatArray:
        """Return the power spectrum of each atom, or of those at `indices`: (n, n_features).

        Raises
        ------
        DataError
            An element is not among the species, a number is not finite, or the periodic cell has no volume.
        """
        chosen = np.arange(len(atoms)) if indices is None else np.arange(len(atoms))[np.asarray(indices, dtype=int)]
        return self._run(atoms, chosen, ROWS).rows.reshape(len(chosen), self.n_features)

    def structure(self, atoms: Atoms, *, average: str = "outer") -> FloatArray:
        """Return one row (n_features,) for the whole structure.

        Parameters
        ----------
        average
            "outer": mean of the atoms' power spectra; "inner": power spectrum of the mean expansion coefficients,
            which forgets how environments are turned against one another.

        Raises
        ------
        DataError
            As in `environments`, or there are no atoms.
        """
        if average not in _AVERAGES:
            raise ValueError(f"average must be one of {', '.join(_AVERAGES)}, found {average!r}")
        if not len(atoms):
            raise DataError("structure: no atoms to describe")
        outcome = self._run(atoms, np.arange(len(atoms)), _AVERAGES[average])
        numbers = self.n_features if average == "outer" else self._numbers
        mean: FloatArray = outcome.totals.reshape(-1, numbers).sum(axis=0) / len(atoms)
        return mean if average == "outer" else power_spectrum(self._tables.record, mean)

    @property
    def _numbers(self) -> int:
        t = self._tables.record
        return t.n_species * t.n_rows * t.width

    def _run(self, atoms: Atoms, chosen: np.ndarray, wanted: int) -> Outcome:
        frame = make_frame(atoms, self._tags(atoms), chosen, self.settings.reach, wanted)
        numbers = {ROWS: 0, OUTER: self.n_features, INNER: self._numbers}[wanted]
        outcome = Outcome(
            rows=aligned_zeros(frame.n_centres * self.n_features if wanted == ROWS else 0),
            totals=np.zeros(frame.n_slabs * numbers),
        )
        self._make_scratch(len(frame.x))
        tables = Packed(frame).table, Packed(outcome).table
        counter = np.zeros(1, dtype=np.int64)

        def work(member: int) -> None:
            describe_slabs(self._tables.table, tables[0], self._scratch[member].table, tables[1], counter)

        if frame.n_slabs:
            self._team.run(work, min(frame.n_slabs, self._team.size))
        return outcome

    def _tags(self, atoms: Atoms) -> FloatArray:
        index = {symbol: k for k, symbol in enumerate(self.settings.species)}
        symbols = atoms.get_chemical_symbols()
        unknown = sorted(set(symbols) - set(index))
        if unknown:
            raise DataError(
                f"structure: SOAP is set up for {' '.join(index)}, but the structure contains {' '.join(unknown)}",
                "add the element to soap.species",
            )
        return np.array([index[symbol] for symbol in symbols], dtype=float)

    def _make_scratch(self, n_atoms: int) -> None:
        if not self._scratch or n_atoms > self._scratch[0].record.capacity:
            # A little more than needed: the number of images goes up and down.
            room = n_atoms + n_atoms // 8
            self._scratch = [Packed(make_scratch(self._tables.record, room)) for _ in range(self._team.size)]


def power_spectrum(t: Tables, coefficients: FloatArray) -> FloatArray:
    """Return the power spectrum (n_features,) of expansion coefficients as the kernel leaves them, flat."""
    c = coefficients.reshape(t.n_species, t.n_rows, t.width)[:, :, : t.n_max]
    upper = np.triu_indices(t.n_max)
    parts = []
    for mu in range(t.n_species):
        for nu in range(mu, t.n_species):
            for level in range(t.l_max + 1):
                rows = slice(level**2, (level + 1) ** 2)
                products = t.prefactors[level] * (c[mu, rows].T @ c[nu, rows])
                parts.append(products[upper] if mu == nu else products.ravel())
    return np.concatenate(parts)

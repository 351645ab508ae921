"""What a label may say: absolute physical windows, and what is merely unlike the labels so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlip_autopipec.core.errors import DataError


@dataclass(frozen=True)
class LabelRange:
    """What the labels of a potential say, so that the next one can be called a surprise.

    Attributes
    ----------
    lowest, highest : eV per atom, relative to isolated atoms
    largest_force : eV/A, of learned atoms
    """

    lowest: float
    highest: float
    largest_force: float

    @classmethod
    def of(cls, energies_per_atom: Sequence[float], largest_forces: Sequence[float]) -> LabelRange:
        """Return the range of all labels; energies relative to isolated atoms."""
        return cls(min(energies_per_atom), max(energies_per_atom), max(largest_forces))

    @classmethod
    def from_dict(cls, content: Any) -> LabelRange | None:
        """Return what `to_dict` gave; None if `content` is something else."""
        try:
            numbers = {name: float(content[name]) for name in ("lowest", "highest", "largest_force")}
        except (KeyError, TypeError, ValueError):
            return None
        return cls(**numbers)

    def to_dict(self) -> dict[str, float]:
        """Return the range, JSON-ready."""
        return asdict(self)

    def surprise(
        self, energy_per_atom: float | None, largest_force: float, *, energy_margin: float, force_factor: float
    ) -> str:
        """Return in which way a label is unlike all of these; empty if it is not.

        Parameters
        ----------
        energy_per_atom
            eV, relative to isolated atoms; None: unknown.
        energy_margin
            eV per atom beyond the range.
        force_factor
            Dimensionless, times the largest force.
        """
        told = []
        if energy_per_atom is not None and not (
            self.lowest - energy_margin <= energy_per_atom <= self.highest + energy_margin
        ):
            told.append(
                f"energy {energy_per_atom:.3g} eV/atom, labels so far {self.lowest:.3g} to {self.highest:.3g} eV/atom"
            )
        if largest_force > force_factor * self.largest_force:
            told.append(f"force {largest_force:.3g} eV/A, labels so far at most {self.largest_force:.3g} eV/A")
        return "; ".join(told)


def largest_force(forces: ArrayLike, force_mask: Sequence[int]) -> float:
    """Return the length of the largest learned force, eV/A.

    Parameters
    ----------
    forces
        (N, 3) eV/A.
    force_mask
        (N,) 1 = learned, 0 = masked; at least one is learned.
    """
    learned = np.asarray(forces, dtype=float)[np.asarray(force_mask, dtype=bool)]
    return float(np.linalg.norm(learned, axis=1).max())


def energy_per_atom(energy: float, composition: Mapping[str, int], isolated: Mapping[str, float]) -> float | None:
    """Return eV per atom relative to isolated atoms; None where an isolated atom's energy is not known."""
    if not composition.keys() <= isolated.keys():
        return None
    free = sum(isolated[symbol] * count for symbol, count in composition.items())
    return (energy - free) / sum(composition.values())


def check_force(name: str, forces: ArrayLike, force_mask: Sequence[int], limit: float) -> None:
    """Refuse forces that no fit should learn: atoms on top of each other, wrong units.

    Raises
    ------
    DataError
        A learned force is larger than `limit` (eV/A), or not a number.
    """
    largest = largest_force(forces, force_mask)
    if not largest <= limit:
        raise DataError(
            f"{name}: a force of {largest:.3g} eV/A is above training.force_limit {limit:g} eV/A",
            "look at the structure; raise the limit if it is meant",
        )


def check_energy(name: str, per_atom: float | None, window: tuple[float, float]) -> None:
    """Refuse energies that no matter has: a wrong unit, a lost electron, another zero than the isolated atoms'.

    Raises
    ------
    DataError
        `per_atom` (eV, relative to isolated atoms; None is unknown, and passes) is outside `window`.
    """
    if per_atom is not None and not window[0] <= per_atom <= window[1]:
        raise DataError(
            f"{name}: {per_atom:.4g} eV per atom above isolated atoms is outside labelling.energy_window "
            f"[{window[0]:g}, {window[1]:g}] eV",
            "are label and isolated atoms of one method? look at the structure; widen the window if it is meant",
        )

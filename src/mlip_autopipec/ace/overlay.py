"""A pair style of LAMMPS that is added to an ACE potential, as by `pair_style hybrid/overlay`: `zbl` or `lj/cut`.

Unlike the core of `ace.baseline`, which stands in the files' own keys, it is a second model on top: the energy is that
of ACE plus half of every pair's. Functions and extrapolation grade know nothing of it. Numbers are those of LAMMPS
(`pair_zbl.cpp`, and `lj/cut` with `pair_modify shift yes`) to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from ase.data import atomic_numbers

from mlip_autopipec.ace.core_repulsion import DECAYS, STRENGTHS, screened, screening_length
from mlip_autopipec.ace.pair_kernel import LJ, N_NUMBERS, ZBL, add_pairs
from mlip_autopipec.ace.wrapped import WrappedEvaluator
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, FloatArray, Neighbourhood

OVERLAY = "hybrid_overlay"
"""Key of potential files."""
# e^2 / (4 pi epsilon_0) of LAMMPS' units metal, eV A.
_COULOMB = 14.399645


@dataclass(frozen=True)
class LennardJones:
    """One pair of elements of `lj/cut`: 4 epsilon ((sigma/r)^12 - (sigma/r)^6), shifted to 0 at `cutoff`.

    Attributes
    ----------
    elements : in alphabetical order
    epsilon : eV
    sigma, cutoff : A
    """

    elements: tuple[str, str]
    epsilon: float
    sigma: float
    cutoff: float


@dataclass(frozen=True)
class Overlay:
    """What is added to ACE; either `zbl` or Lennard-Jones pairs.

    Attributes
    ----------
    zbl : A, where LAMMPS' zbl begins to fade out, and where it is 0, for all pairs
    pairs : those of `lj/cut`; elements that are in none feel nothing of each other
    """

    zbl: tuple[float, float] | None = None
    pairs: tuple[LennardJones, ...] = ()

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return self.zbl[1] if self.zbl else max((pair.cutoff for pair in self.pairs), default=0.0)

    @property
    def style(self) -> str:
        """LAMMPS' pair style."""
        return "zbl" if self.zbl else "lj/cut"

    def commands(self, kinds: Sequence[str]) -> tuple[str, list[str]]:
        """Return the style with its arguments, and further commands, within `pair_style hybrid/overlay`.

        Parameters
        ----------
        kinds
            Element of each atom type, in order; one may be "NULL".
        """
        places = [(i, j) for i in range(len(kinds)) for j in range(i, len(kinds)) if "NULL" not in (kinds[i], kinds[j])]
        if self.zbl:
            charges = [atomic_numbers.get(kind, 0) for kind in kinds]
            lines = [f"pair_coeff {i + 1} {j + 1} zbl {charges[i]} {charges[j]}" for i, j in places]
            return f"zbl {self.zbl[0]!r} {self.zbl[1]!r}", lines
        found = [(i, j, pair) for i, j in places if (pair := self.pair(kinds[i], kinds[j])) is not None]
        lines = [f"pair_coeff {i + 1} {j + 1} lj/cut {p.epsilon!r} {p.sigma!r} {p.cutoff!r}" for i, j, p in found]
        return f"lj/cut {self.cutoff!r}", [*lines, "pair_modify pair lj/cut shift yes"]

    def added(self, evaluation: Evaluation, frame: Neighbourhood, elements: Sequence[str]) -> Evaluation:
        """Return what ACE says of a frame with the overlay on top.

        Parameters
        ----------
        frame
            Neighbours up to `cutoff` at least; its species are places in `elements`.
        """
        own = self.evaluate(frame, elements)
        return replace(
            evaluation,
            energy=evaluation.energy + own.energy,
            energies=evaluation.energies + own.energies,
            forces=evaluation.forces + own.forces,
            virial=evaluation.virial + own.virial,
        )

    def evaluate(self, frame: Neighbourhood, elements: Sequence[str]) -> Evaluation:
        """Return energies, forces and virial of the overlay alone; parameters as those of `added`."""
        n = frame.n_owned
        energies, forces, virial = np.zeros(n), np.zeros((n, 3)), np.zeros(6)
        positions = np.ascontiguousarray(frame.positions, dtype=np.float64)
        species, first, neighbours = (
            np.ascontiguousarray(x, dtype=np.int32) for x in (frame.species, frame.first, frame.neighbours)
        )
        add_pairs(positions, species, first, neighbours, _table(self, tuple(elements)), energies, forces, virial)
        return Evaluation(float(energies.sum()), energies, forces, virial)

    def pair(self, first: str, second: str) -> LennardJones | None:
        """Return the Lennard-Jones of two elements, None where there is none."""
        wanted = tuple(sorted((first, second)))
        return next((pair for pair in self.pairs if pair.elements == wanted), None)


class OverlaidEvaluator(WrappedEvaluator):
    """An `Evaluator` of ACE alone, with an overlay on top; gamma is that of ACE."""

    def __init__(self, evaluator: Evaluator, overlay: Overlay) -> None:
        super().__init__(evaluator)
        self.overlay = overlay

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        """Evaluate one frame; raises as the evaluator that it is given does."""
        return self.overlay.added(self._evaluator.evaluate(frame, gamma=gamma), frame, self.elements)


def overlay_text(overlay: Overlay) -> str:
    """Return an overlay as potential files have it: `zbl 3.0 4.0`, or `lj/cut Al-Al 0.1 2.3 2.58; Al-Cu …`."""
    if overlay.zbl:
        return f"zbl {overlay.zbl[0]!r} {overlay.zbl[1]!r}"
    pairs = "; ".join(f"{'-'.join(p.elements)} {p.epsilon!r} {p.sigma!r} {p.cutoff!r}" for p in overlay.pairs)
    return f"lj/cut {pairs}"


def read_overlay(text: str, elements: Sequence[str], reach: float) -> Overlay:
    """Return what `overlay_text` wrote.

    Parameters
    ----------
    elements, reach
        Of the potential that it is added to: its neighbour lists end at `reach`, A.

    Raises
    ------
    ValueError
        It says something else, or does not belong to the potential.
    """
    style, _, rest = text.strip().partition(" ")
    if style == "zbl":
        inner, outer = (float(number) for number in rest.split())
        overlay = Overlay(zbl=(inner, outer))
    elif style == "lj/cut":
        overlay = Overlay(pairs=tuple(_read_pair(part, elements) for part in rest.split(";")))
    else:
        raise ValueError(f"{style!r} is neither zbl nor lj/cut")
    check_overlay(overlay, reach)
    return overlay


def check_overlay(overlay: Overlay, reach: float) -> None:
    """Raise `ValueError` for numbers that make no sense, or a cutoff beyond `reach`, A."""
    lengths = overlay.zbl or tuple(x for pair in overlay.pairs for x in (pair.epsilon, pair.sigma, pair.cutoff))
    if not all(math.isfinite(x) and x > 0 for x in lengths):
        raise ValueError("all numbers must be above 0")
    if overlay.zbl and not overlay.zbl[0] < overlay.zbl[1]:
        raise ValueError("the inner cutoff must be below the outer one")
    if overlay.cutoff > reach:
        raise ValueError(f"its cutoff {overlay.cutoff:g} A is beyond that of the potential, {reach:g} A")


def pair_of(name: str, elements: Sequence[str]) -> tuple[str, str]:
    """Return the elements of `Cu-Al` in alphabetical order; `ValueError` if they are none of `elements`."""
    pair = sorted(name.split("-"))
    if len(pair) != 2 or not set(pair) <= set(elements):
        raise ValueError(f"{name!r} is no pair of {' '.join(elements)}, such as {elements[0]}-{elements[-1]}")
    return pair[0], pair[1]


def _read_pair(text: str, elements: Sequence[str]) -> LennardJones:
    name, epsilon, sigma, cutoff = text.split()
    return LennardJones(pair_of(name, elements), float(epsilon), float(sigma), float(cutoff))


@lru_cache(maxsize=8)
def _table(overlay: Overlay, elements: tuple[str, ...]) -> FloatArray:
    """Return (n, n, N_NUMBERS), what the kernel knows of each pair of species."""
    table = np.zeros((len(elements), len(elements), N_NUMBERS))
    for i, first in enumerate(elements):
        for j, second in enumerate(elements):
            if overlay.zbl:
                numbers = _zbl_numbers(atomic_numbers[first], atomic_numbers[second], *overlay.zbl)
            elif (pair := overlay.pair(first, second)) is not None:
                numbers = _lj_numbers(pair)
            else:
                continue
            table[i, j, : len(numbers)] = numbers
    return table


def _zbl_numbers(z_i: int, z_j: int, inner: float, outer: float) -> list[float]:
    strength, length, width = _COULOMB * z_i * z_j, screening_length(z_i, z_j), outer - inner
    end, slope, bend = (strength * float(part[0]) for part in screened(np.array([outer]), length))
    # The polynomial takes value and two derivatives to zero at the outer cutoff.
    cubic = (-3.0 * slope + width * bend) / width**2 / 3.0
    quartic = (2.0 * slope - width * bend) / width**3 / 4.0
    shift = -end + width * slope / 2.0 - width**2 * bend / 12.0
    return [ZBL, outer, inner, cubic, quartic, shift, *(strength * STRENGTHS), *(DECAYS / length)]


def _lj_numbers(pair: LennardJones) -> list[float]:
    twelve, six = 4.0 * pair.epsilon * pair.sigma**12, 4.0 * pair.epsilon * pair.sigma**6
    shift = -(twelve / pair.cutoff**12 - six / pair.cutoff**6)
    return [LJ, pair.cutoff, twelve, six, shift]

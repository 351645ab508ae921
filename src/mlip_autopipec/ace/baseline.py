"""A physical core under an ACE potential: below an inner cutoff, nuclear repulsion takes over.

The form is that of the files' `inner_cutoff_type: zbl` (switching, not additive): an atom whose nearest neighbour is at
r has the energy w(r) E_ace + (1 - w(r)) E_core, with w = 1 from r_in on and 0 from r_in - delta_in down. The functions
of the extrapolation grade stay as they are. Where no pair of the training set is nearer than r_in, w = 1 on all of it:
then the design rows of the fit are those of the potential that MD runs, whatever r_in is.

Under an overlay (`ace.overlay`), which MD adds at all distances, E_core is 0: below r_in ACE is off, and it is alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ase.data import atomic_numbers, covalent_radii

from mlip_autopipec.ace.overlay import Overlay
from mlip_autopipec.ace.records import Configuration

Pair = tuple[str, str]

# Of the shortest trained distance: between, ACE extrapolates, and gamma says so. Where it pulls there, or shoots up so
# that switching it off would, a later one leaves it less room.
BEGINS = (0.79, 0.86, 0.92, 0.98)
# Width of the switch, of the smallest r_in.
_WIDTH = 0.25
# Of the sum of covalent radii: what stands for the shortest distance of a pair that nobody trained.
_UNTRAINED = 0.85


def inner_cutoffs(
    elements: tuple[str, ...], shortest: Mapping[Pair, float], begin: float = BEGINS[0]
) -> dict[Pair, tuple[float, float]]:
    """Return pair (in alphabetical order) -> r_in and delta_in, A.

    All pairs have one delta_in: the neighbour with the smallest r - (r_in - delta_in) alone decides w, and only then
    w is the same on both sides of where another one takes over.

    Parameters
    ----------
    shortest
        Pair -> shortest distance in the training set, A.
    begin
        r_in, of that.
    """
    found = {}
    for first in sorted(elements):
        for second in sorted(elements):
            if first <= second:
                found[first, second] = begin * shortest.get((first, second), untrained_distance(first, second))
    width = _WIDTH * min(found.values())
    return {pair: (r_in, width) for pair, r_in in found.items()}


def untrained_distance(first: str, second: str) -> float:
    """Return what stands for the shortest distance of two elements that nobody trained together, A."""
    return _UNTRAINED * float(covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]])


def with_zbl(configuration: Configuration, cutoffs: Mapping[Pair, tuple[float, float]]) -> Configuration:
    """Return the potential with Ziegler-Biersack-Littmark repulsion below the inner cutoffs of `inner_cutoffs`."""
    return _switched(configuration, cutoffs, 1.0)


def with_overlay(
    configuration: Configuration, cutoffs: Mapping[Pair, tuple[float, float]], overlay: Overlay
) -> Configuration:
    """Return the potential with an overlay on top of it, and switched off below the inner cutoffs."""
    return replace(_switched(configuration, cutoffs, 0.0), overlay=overlay)


def without_baseline(configuration: Configuration) -> Configuration:
    """Return the functions as they are for gamma: no core, never switched off, nothing on top."""
    blocks = [
        replace(b, bond=replace(b.bond, prehc=0.0, inner_cutoff_type="density", r_in=0.0, delta_in=0.0))
        if b.bond is not None and b.bond.has_core
        else b
        for b in configuration.blocks
    ]
    return replace(configuration, blocks=tuple(blocks), overlay=None)


def _switched(
    configuration: Configuration, cutoffs: Mapping[Pair, tuple[float, float]], repulsion: float
) -> Configuration:
    blocks = []
    for block in configuration.blocks:
        if block.bond is not None:
            first, second = sorted((block.elements[0], block.elements[-1]))
            r_in, width = cutoffs[first, second]
            bond = replace(block.bond, inner_cutoff_type="zbl", prehc=repulsion, r_in=r_in, delta_in=width)
            block = replace(block, bond=bond)
        blocks.append(block)
    return replace(configuration, blocks=tuple(blocks))

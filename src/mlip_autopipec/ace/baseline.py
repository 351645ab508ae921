"""A physical core under an ACE potential: below an inner cutoff, nuclear repulsion takes over.

The form is that of the files' `inner_cutoff_type: zbl` (switching, not additive): an atom whose nearest neighbour is at
r has the energy w(r) E_ace + (1 - w(r)) E_core, with w = 1 from r_in on and 0 from r_in - delta_in down. The functions
of the extrapolation grade stay as they are. Where no pair of the training set is nearer than r_in, w = 1 on all of it:
then the design rows of the fit are those of the potential that MD runs, whatever r_in is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ase.data import atomic_numbers, covalent_radii

from mlip_autopipec.ace.records import Configuration

Pair = tuple[str, str]

# Of the shortest trained distance: outside, ACE extrapolates, and gamma says so.
BEGIN = 0.79
# Width of the switch, of the smallest r_in.
_WIDTH = 0.25
# Of the sum of covalent radii: what stands for the shortest distance of a pair that nobody trained.
_UNTRAINED = 0.85


def inner_cutoffs(elements: tuple[str, ...], shortest: Mapping[Pair, float]) -> dict[Pair, tuple[float, float]]:
    """Return pair (in alphabetical order) -> r_in and delta_in, A.

    All pairs have one delta_in: the neighbour with the smallest r - (r_in - delta_in) alone decides w, and only then
    w is the same on both sides of where another one takes over.

    Parameters
    ----------
    shortest
        Pair -> shortest distance in the training set, A.
    """
    found = {}
    for first in sorted(elements):
        for second in sorted(elements):
            if first <= second:
                radii = covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]]
                r_in = BEGIN * shortest.get((first, second), _UNTRAINED * float(radii))
                found[first, second] = r_in
    width = _WIDTH * min(found.values())
    return {pair: (r_in, width) for pair, r_in in found.items()}


def with_zbl(configuration: Configuration, cutoffs: Mapping[Pair, tuple[float, float]]) -> Configuration:
    """Return the potential with Ziegler-Biersack-Littmark repulsion below the inner cutoffs of `inner_cutoffs`."""
    blocks = []
    for block in configuration.blocks:
        if block.bond is not None:
            first, second = sorted((block.elements[0], block.elements[-1]))
            r_in, width = cutoffs[first, second]
            bond = replace(block.bond, inner_cutoff_type="zbl", prehc=1.0, r_in=r_in, delta_in=width)
            block = replace(block, bond=bond)
        blocks.append(block)
    return replace(configuration, blocks=tuple(blocks))

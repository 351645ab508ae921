"""A pool of environments: copper in all the states that an exploration meets, most of them dull."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111

from mlip_autopipec.sampling.soap.descriptor import Soap
from mlip_autopipec.sampling.soap.settings import SoapSettings

ATOMS = 108
# Share of the structures: crystals near equilibrium fill trajectories, the rest is what one must not miss.
KINDS = {"crystal": 0.80, "strained": 0.10, "vacancy": 0.05, "surface": 0.03, "liquid": 0.02}
_BLOCK = 50


class Pool:
    """SOAP rows of random structures, computed anew on every pass, so that no more than a block is in memory."""

    def __init__(self, n_rows: int, threads: int) -> None:
        self.n_rows = n_rows
        self._soap = Soap(SoapSettings(("Cu",)), threads=threads)

    def __iter__(self) -> Iterator[np.ndarray]:
        rng, waiting, left = np.random.default_rng(7), [], self.n_rows
        while left > 0:
            rows = self._soap.environments(structure(rng))[:left]
            left -= len(rows)
            waiting.append(rows)
            if len(waiting) == _BLOCK or left == 0:
                yield np.concatenate(waiting)
                waiting = []


def structure(rng: np.random.Generator) -> Atoms:
    """Return one random structure of about `ATOMS` atoms."""
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    if kind == "surface":
        atoms = fcc111("Cu", (4, 4, 6), a=3.61, vacuum=8.0)
        atoms.pbc = (True, True, False)
    else:
        atoms = bulk("Cu", "fcc", a=3.61, cubic=True).repeat(3)
    if kind == "vacancy":
        del atoms[int(rng.integers(len(atoms)))]
    if kind == "strained":
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.06, size=(3, 3))), scale_atoms=True)
    size = {"crystal": rng.uniform(0.03, 0.15), "liquid": rng.uniform(0.4, 0.7)}.get(str(kind), 0.12)
    atoms.positions += rng.normal(scale=size, size=(len(atoms), 3))
    return atoms

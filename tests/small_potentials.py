"""Potentials that tests make for themselves: Lennard-Jones as an `Evaluator`, and linear ACE fitted on ASE's EMT."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip_autopipec.ace.formats.asi import write_asi
from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.rundir import RunDirectory


class LennardJones:
    """4 eps ((s/r)^12 - (s/r)^6), shifted to zero at the cutoff; gamma = (2.5 A / nearest distance)^6."""

    def __init__(
        self,
        elements: Sequence[str] = ("Ar",),
        *,
        sigma: float = 3.4,
        epsilon: float = 0.0104,
        cutoff: float = 8.5,
        shifted: bool = True,
    ) -> None:
        self.elements = tuple(elements)
        self.cutoff = cutoff
        self.sigma, self.epsilon = sigma, epsilon
        self.shift = self._energy(cutoff) if shifted else 0.0
        self.has_gamma = True
        self.calls = 0

    def _energy(self, r):
        s6 = (self.sigma / r) ** 6
        return 4 * self.epsilon * (s6 * s6 - s6)

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        self.calls += 1
        n = frame.n_owned
        i = np.repeat(np.arange(n), np.diff(frame.first))
        j = frame.neighbours
        d = frame.positions[j] - frame.positions[i]
        r = np.sqrt((d * d).sum(axis=1))
        near = r < self.cutoff
        i, j, d, r = i[near], j[near], d[near], r[near]
        energies = 0.5 * np.bincount(i, self._energy(r) - self.shift, n)
        s6 = (self.sigma / r) ** 6
        slope = 4 * self.epsilon * (6 * s6 - 12 * s6 * s6) / r
        pull = (slope / r)[:, None] * d
        forces = np.array([np.bincount(i, pull[:, k], n) for k in range(3)]).T
        w = -0.5 * np.einsum("ka,kb->ab", pull, d)
        grade = None
        if gamma:
            nearest = np.full(n, np.inf)
            np.minimum.at(nearest, i, r)
            grade = (2.5 / nearest) ** 6
        return Evaluation(
            float(energies.sum()),
            energies,
            forces,
            np.array([w[0, 0], w[1, 1], w[2, 2], w[1, 2], w[0, 2], w[0, 1]]),
            grade,
        )


def distorted(elements: Sequence[str], seed: int, amplitude: float = 0.12, strain: float = 0.04) -> Atoms:
    """A 32-atom fcc cell, elements mixed at random, strained (so triclinic) and rattled."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", a=4.05 if len(elements) == 1 else 3.85, cubic=True).repeat(2)
    atoms.symbols[:] = rng.choice(list(elements), len(atoms))
    atoms.symbols[: len(elements)] = list(elements)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-strain, strain, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=amplitude, size=(len(atoms), 3))
    return atoms


def fit_emt(folder: Path, elements: Sequence[str], frames: int = 16) -> Path:
    """Fit a small linear ACE on EMT; write potential.yaml, .yace (E0 = 0.5, 1.5, ... eV) and .asi; return `folder`."""
    settings = TrainingSettings(cutoff=5.0, nradmax_by_orders=(6, 2, 2), lmax_by_orders=(0, 2, 1))
    basis = make_basis(settings, elements)
    rows, targets, environments = [], [], {e: [] for e in basis.elements}
    for seed in range(frames):
        atoms = distorted(elements, seed, amplitude=0.05 + 0.02 * (seed % 8))
        atoms.calc = EMT()
        design = basis.design(atoms)
        rows += [design.energy[None], design.forces.reshape(-1, basis.n_coefficients)]
        targets += [[atoms.get_potential_energy()], atoms.get_forces().ravel()]
        for element, (_, values) in design.projections.items():
            environments[element].append(values)
    matrix, target = np.vstack(rows), np.concatenate(targets)
    scale = np.linalg.norm(matrix, axis=0)
    coefficients = np.linalg.lstsq(matrix / scale, target, rcond=1e-8)[0] / scale
    energies = {e: 0.5 + i for i, e in enumerate(basis.elements)}
    basis.write(coefficients, energies, folder)
    inverses = {}
    for element, blocks in environments.items():
        values = np.vstack(blocks)
        # Not MaxVol: any well-conditioned square set of rows gives a gamma that the engines must agree on.
        chosen = _independent(values)
        inverses[element] = np.ascontiguousarray(np.linalg.pinv(values[chosen]))
    write_asi(inverses, folder / "potential.asi")
    return folder


def publish_fit(run: RunDirectory, fitted: Path) -> None:
    """Make what `fit_emt` wrote a version of a run; it has learned no label."""
    registry = Registry(run.potentials)
    work = registry.new_work_folder()
    for name in FILES:
        if (fitted / name).exists():
            shutil.copy(fitted / name, work / name)
        else:
            (work / name).write_text("{}")
    registry.publish(work, {"task_ids": []})


def _independent(values: np.ndarray) -> np.ndarray:
    """Rows of the pivots of a QR factorisation of the transpose."""
    from scipy.linalg import qr

    return qr(values.T, mode="r", pivoting=True)[1][: values.shape[1]]

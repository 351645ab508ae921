"""What LAMMPS' arrays say at the present step, in ASE's terms."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.core.conventions import stress_from_virial, voigt_from_tensor
from mlip_autopipec.core.interfaces import Evaluation, FloatArray, IntArray
from mlip_autopipec.engines.lammps.snapshot import Origin

# LAMMPS' metal units measure velocities in A/ps.
VELOCITY = 1000.0 * units.fs
# Of 1 u/A^3.
_GRAMS_PER_CM3 = units._amu * 1e3 * 1e24


def read_frame(lmp: Any, origin: Origin, evaluation: Evaluation | None, tags: IntArray) -> Atoms:
    """Return the atoms in the order and orientation of the start structure.

    Parameters
    ----------
    evaluation, tags
        What the potential says about this very step, for the atoms `tags` (N,); None if nobody asked it.
    """
    order = np.argsort(owned(lmp, "id"))
    said = None if evaluation is None else sorted_by(evaluation, np.argsort(tags))
    positions, velocities = owned(lmp, "x")[order], owned(lmp, "v")[order]
    named, box = symbols(lmp, origin, order), box_vectors(lmp)
    return frame_of(origin, named, positions, velocities, box, present_step(lmp), said, _masses(lmp)[order])


def frame_of(
    origin: Origin,
    symbols: list[str],
    positions: FloatArray,
    velocities: FloatArray,
    box: FloatArray,
    step: int,
    evaluation: Evaluation | None,
    masses: FloatArray | None = None,
) -> Atoms:
    """Return LAMMPS' numbers, by atom id, as atoms in the orientation of the start structure.

    Parameters
    ----------
    positions, velocities : (N, 3) A and A/ps
    box : (3, 3) A
    masses : (N,) u; by default those of the elements
    """
    turned = origin.box
    atoms = Atoms(
        symbols, positions=turned.positions_back(positions), cell=turned.cell_back(box), pbc=turned.pbc, masses=masses
    )
    atoms.set_velocities(turned.turn_back(velocities / VELOCITY))
    atoms.info["step"] = step
    if evaluation is not None:
        _attach(atoms, origin, evaluation)
    return atoms


def sorted_by(evaluation: Evaluation, order: Any) -> Evaluation:
    """Return the same for the atoms in another order."""
    return Evaluation(
        evaluation.energy,
        evaluation.energies[order],
        evaluation.forces[order],
        evaluation.virial,
        None if evaluation.gamma is None else evaluation.gamma[order],
    )


def read_thermo(lmp: Any, origin: Origin, evaluation: Evaluation | None) -> dict[str, float | None]:
    """Return step, energies in eV, temperature in K, pressure in bar, volume in A^3 (see `LammpsMD.thermo`)."""
    kinetic, temperature = heat(lmp, origin)
    dimension, volume, pressure = origin.box.dimension, _volume(lmp, origin), None
    if evaluation is not None and volume is not None:
        trace = float(evaluation.virial[:dimension].sum())
        pressure = (2 * kinetic + trace) / (dimension * volume) * lmp.extract_global("nktv2p")
    return {
        "step": float(present_step(lmp)),
        "potential_energy": None if evaluation is None else evaluation.energy,
        "kinetic_energy": kinetic,
        "temperature": temperature,
        "pressure": pressure,
        "volume": volume,
    }


def heat(lmp: Any, origin: Origin) -> tuple[float, float]:
    """Return kinetic energy, eV, and temperature, K, with the constants and degrees of freedom of LAMMPS."""
    twice = lmp.extract_global("mvv2e") * float((_masses(lmp)[:, None] * owned(lmp, "v") ** 2).sum())
    freedom = origin.box.dimension * (lmp.get_natoms() - 1)
    return 0.5 * twice, twice / (freedom * lmp.extract_global("boltz")) if freedom else 0.0


def density(lmp: Any) -> float:
    """Return the mass density of a three-dimensional run, g/cm^3."""
    return float(_masses(lmp).sum() / np.prod(np.diag(box_vectors(lmp))) * _GRAMS_PER_CM3)


def present_step(lmp: Any) -> int:
    """Return the step number."""
    return int(lmp.extract_global("ntimestep"))


def symbols(lmp: Any, origin: Origin, order: Any = slice(None)) -> list[str]:
    """Return the element of every atom."""
    return [origin.elements[t - 1] for t in owned(lmp, "type")[order]]


def owned(lmp: Any, name: str) -> Any:
    """Return a copy of one of LAMMPS' arrays, without ghosts, in its present order."""
    return np.array(lmp.numpy.extract_atom(name)[: lmp.extract_global("nlocal")])


def box_vectors(lmp: Any) -> FloatArray:
    """Return LAMMPS' box as rows of a lower triangle (3, 3), A."""
    low, high, xy, yz, xz, *_ = lmp.extract_box()
    lx, ly, lz = (high[k] - low[k] for k in range(3))
    return np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])


def _masses(lmp: Any) -> FloatArray:
    by_type = np.array(lmp.numpy.extract_atom("mass")).ravel()
    return np.asarray(by_type[owned(lmp, "type")])


def _volume(lmp: Any, origin: Origin) -> float | None:
    lengths = np.diag(box_vectors(lmp))
    if origin.box.dimension == 2:
        return float(lengths[0] * lengths[1])
    return float(np.prod(lengths)) if all(origin.box.pbc) else None


def _attach(atoms: Atoms, origin: Origin, evaluation: Evaluation) -> None:
    box = origin.box
    results: dict[str, Any] = {"energy": evaluation.energy, "forces": box.turn_back(evaluation.forces)}
    if all(box.pbc) and box.dimension == 3:
        xx, yy, zz, yz, xz, xy = stress_from_virial(evaluation.virial, atoms.get_volume())
        turned = box.tensor_back(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
        results["stress"] = voigt_from_tensor(turned)
    atoms.calc = SinglePointCalculator(atoms, **results)
    if evaluation.gamma is not None:
        atoms.arrays["gamma"] = np.array(evaluation.gamma)

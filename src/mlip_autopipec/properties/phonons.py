"""Phonons by finite displacements (phonopy, doi:10.7566/JPSJ.92.012001)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.cell import Cell

from mlip_autopipec.core.errors import EngineError
from mlip_autopipec.properties.crystal import heights
from mlip_autopipec.properties.property import Property, Value

# Small enough to be harmonic, large enough for the noise of DFT forces.
_DISPLACEMENT: Final = 0.015
_POINTS: Final = 120
# Of q-points in each direction times the cell's height, for the density of states.
_MESH_LENGTH: Final = 60.0
_DOS_POINTS: Final = 200


def phonons(crystal: Atoms, calculator: Any, length: float) -> Property:
    """Return frequencies (THz, imaginary ones negative) along the path of high symmetry and their density of states.

    Parameters
    ----------
    crystal
        At rest.
    length
        A; periodic images of a displaced atom are at least so far apart.

    Raises
    ------
    EngineError
        phonopy is not installed.
    """
    lattice = _force_constants(crystal, calculator, length)
    path = Cell(lattice.primitive.cell).bandpath(npoints=_POINTS)
    lattice.run_band_structure([path.kpts], with_eigenvectors=False)
    bands = np.asarray(lattice.band_structure.frequencies[0])
    place, ticks, labels = path.get_linear_kpoint_axis()
    lattice.run_mesh(_MESH_LENGTH)
    weights, on_mesh = np.asarray(lattice.mesh.weights, dtype=float), np.asarray(lattice.mesh.frequencies)
    lattice.run_total_dos()
    density = lattice.total_dos
    step = max(1, len(density.frequency_points) // _DOS_POINTS)
    values = {
        "highest frequency": float(bands.max()),
        "lowest frequency": float(bands.min()),
        "mean frequency": float((weights @ on_mesh.mean(axis=1)) / weights.sum()),
    }
    return Property(
        "phonons",
        {name: Value(number, "THz") for name, number in values.items()},
        {
            "path": path.path,
            "place": place.tolist(),
            "ticks": ticks.tolist(),
            "labels": list(labels),
            "bands": bands.tolist(),
            "dos_frequencies": np.asarray(density.frequency_points)[::step].tolist(),
            "dos": np.asarray(density.dos)[::step].tolist(),
        },
    )


def _force_constants(crystal: Atoms, calculator: Any, length: float) -> Any:
    try:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError as error:
        raise EngineError(f"phonons need phonopy: {error}", "pip install 'mlip-autopipec[properties]'") from error
    cell = PhonopyAtoms(
        symbols=crystal.get_chemical_symbols(),
        cell=crystal.cell.array,
        scaled_positions=crystal.get_scaled_positions(),
    )
    repeats = np.diag([max(1, int(np.ceil(length / height - 1e-6))) for height in heights(crystal)])
    lattice = Phonopy(cell, supercell_matrix=repeats, primitive_matrix=_primitive(cell))
    lattice.generate_displacements(distance=_DISPLACEMENT)
    lattice.forces = [_forces(moved, calculator) for moved in lattice.supercells_with_displacements or ()]
    lattice.produce_force_constants()
    lattice.symmetrize_force_constants()
    return lattice


def _primitive(cell: Any) -> Any:
    # Asked for by the name "auto" it warns whenever the cell is not primitive.
    from phonopy.structure.cells import guess_primitive_matrix

    return guess_primitive_matrix(cell)


def _forces(moved: Any, calculator: Any) -> Any:
    atoms = Atoms(moved.symbols, cell=moved.cell, scaled_positions=moved.scaled_positions, pbc=True)
    atoms.calc = calculator
    forces = atoms.get_forces()
    # A crystal at rest has none but by symmetry; what is left is noise of the relaxation.
    return forces - forces.mean(axis=0)

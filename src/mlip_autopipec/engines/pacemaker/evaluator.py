"""ACE potentials evaluated by python-ace.

python-ace (imports as `pyace`) is licensed for academic, non-commercial use only: it is an extra, and only this
package imports it. It builds neighbour lists slowly and refuses mixed periodicity, so the list comes from outside.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np

from mlip_autopipec.core.conventions import virial_from_pyace
from mlip_autopipec.core.errors import Crashed, ModelError
from mlip_autopipec.core.interfaces import Evaluation, FloatArray, IntArray, Neighbourhood
from mlip_autopipec.engines.pacemaker.environment import environment
from mlip_autopipec.engines.pacemaker.library import import_pyace


class PyaceEvaluator:
    """A `.yaml` (B-basis) or `.yace` (C-tilde) potential in python-ace.

    Energies of a `.yace` contain the isolated-atom energies E0, those of a `.yaml` do not.

    Parameters
    ----------
    potential
        `.yaml`, or `.yace` (which has no gamma).
    active_set
        `.asi` that belongs to the `.yaml`; without it there is no gamma.

    Raises
    ------
    EngineError
        python-ace is missing.
    ModelError
        A file is missing, unreadable, or does not belong to the other.
    """

    def __init__(self, potential: Path, active_set: Path | None = None) -> None:
        potential = Path(potential)
        if potential.suffix not in (".yaml", ".yace"):
            raise ModelError(f"{potential}: not a potential", "give a .yaml or .yace file")
        if not potential.is_file():
            raise ModelError(f"{potential}: no such potential")
        pyace = import_pyace()
        self._calculator = pyace.ACECalculator()
        # pyace's evaluators keep bare pointers: the bases must live as long as they do.
        try:
            if potential.suffix == ".yaml":
                self._basis = pyace.ACEBBasisSet(str(potential))
                self._fast_basis = self._basis.to_ACECTildeBasisSet()
            else:
                self._basis = self._fast_basis = pyace.ACECTildeBasisSet(str(potential))
        except Exception as error:
            raise ModelError(f"{potential}: python-ace cannot read it: {_one_line(error)}") from error
        # The recursive product needs 2/3 of the time of the B-basis; only gamma needs the latter.
        self._fast = pyace.evaluator.ACERecursiveEvaluator(self._fast_basis)
        self._fast.set_recursive(True)
        self._grading = None
        if active_set is not None:
            self._grading = self._load_active_set(pyace, potential, Path(active_set))

    def _load_active_set(self, pyace: Any, potential: Path, active_set: Path) -> Any:
        if potential.suffix != ".yaml":
            raise ModelError(f"{potential}: a .yace has no extrapolation grade", "give the .yaml with the .asi")
        _check_active_set(active_set, self._basis, self.elements)
        evaluator = pyace.ACEBEvaluator(self._basis)
        try:
            evaluator.load_active_set(str(active_set))
        except Exception as error:
            raise ModelError(f"{active_set}: python-ace cannot read it: {_one_line(error)}") from error
        return evaluator

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(self._basis.elements_name)

    @property
    def cutoff(self) -> float:
        return float(self._basis.cutoffmax)

    @property
    def has_gamma(self) -> bool:
        return self._grading is not None

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        """Evaluate one frame.

        Raises
        ------
        ModelError
            `gamma` is wanted, but no active set was given.
        Crashed
            python-ace refuses the frame (for example two atoms on top of each other).
        """
        if gamma and self._grading is None:
            raise ModelError("gamma needs an active set", "give the .yaml and its .asi")
        # A fresh environment every time: resizing a used one crashes python-ace.
        target = environment(_trimmed(frame, self.cutoff))
        calculator = self._calculator
        calculator.set_evaluator(self._grading if gamma else self._fast)
        try:
            # Without projections pyace leaves the gamma of the previous frame in place.
            calculator.compute(target, compute_projections=gamma)
        except Exception as error:
            raise Crashed(f"python-ace: {_one_line(error)}", "the frame is probably unphysical") from error
        n = frame.n_owned
        forces = np.array(calculator.forces, dtype=float).reshape(-1, 3)
        if len(forces) != n:
            raise Crashed(f"python-ace returned {len(forces)} forces for {n} atoms")
        return Evaluation(
            energy=float(calculator.energy),
            energies=np.array(calculator.energies, dtype=float),
            forces=forces,
            virial=virial_from_pyace(np.array(calculator.virial, dtype=float)),
            gamma=np.array(calculator.gamma_grade, dtype=float) if gamma else None,
        )


def _trimmed(frame: Neighbourhood, cutoff: float) -> Neighbourhood:
    """Leave out the pairs of the skin: turning them into Python lists costs more than finding them."""
    first, neighbours = _within(frame.positions, frame.first, frame.neighbours, cutoff * cutoff)
    return replace(frame, first=first, neighbours=neighbours)


@numba.njit(cache=True)
def _within(positions, first, neighbours, limit):  # type: ignore[no-untyped-def]
    kept = np.empty(len(neighbours), np.int32)
    bounds = np.zeros(len(first), np.int32)
    n = 0
    for i in range(len(first) - 1):
        for k in range(first[i], first[i + 1]):
            j = neighbours[k]
            x = positions[j, 0] - positions[i, 0]
            y = positions[j, 1] - positions[i, 1]
            z = positions[j, 2] - positions[i, 2]
            if x * x + y * y + z * z < limit:
                kept[n] = j
                n += 1
        bounds[i + 1] = n
    return bounds, kept[:n]


def _check_active_set(path: Path, basis: Any, elements: tuple[str, ...]) -> None:
    """Refuse what python-ace would read silently wrong: other dtype or order, compression, sizes of another basis."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist())
        with np.load(path, allow_pickle=False) as arrays:
            inverses: dict[str, FloatArray | IntArray] = {key: arrays[key] for key in arrays.files}
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such active set") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: not an active set: {_one_line(error)}") from error
    if compressed:
        raise ModelError(f"{path}: a compressed archive, which python-ace and LAMMPS read as empty", "use numpy.savez")
    if set(inverses) != set(elements):
        raise ModelError(f"{path}: elements {sorted(inverses)}, but the potential has {sorted(elements)}")
    for i, element in enumerate(elements):
        functions = len(basis.basis_rank1[i]) + len(basis.basis[i])
        density = int(basis.map_embedding_specifications[i].ndensity)
        inverse = inverses[element]
        if inverse.dtype != np.float64 or not inverse.flags.c_contiguous:
            raise ModelError(f"{path}: {element} is not a C-ordered float64 array", "write it again with numpy.savez")
        if inverse.shape not in ((functions, functions), (functions * density, functions * density)):
            raise ModelError(
                f"{path}: {element} has shape {inverse.shape}, the potential has {functions} functions",
                "the active set belongs to another potential",
            )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

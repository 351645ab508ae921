"""Which point of a series is recommended, and what a launcher's command says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.engines.espresso.convergence import Point, Tolerance, compared, recommend
from mlip_autopipec.engines.espresso.launcher import has_launcher, processes_asked, processes_run, reference_blas
from mlip_autopipec.engines.espresso.trial import two_atoms

LIMITS = Tolerance(energy_mev=1.0, force_mev=10.0)


def point(cutoff: float, energy: float, force: float, failed: bool = False) -> Point:
    label = Label(energy, np.array([[force, 0, 0], [-force, 0, 0]]), np.zeros(6))
    return Point(cutoff, 4 * cutoff, 0.2, (1, 1, 1), error="no" if failed else "", label=None if failed else label)


def test_distances_from_the_finest() -> None:
    found = compared([point(10, 0.5, 0.2), point(20, 0, 0, failed=True), point(30, 0.1, 0.21)])
    assert found[0].energy_mev == pytest.approx(200.0)  # per atom
    assert found[0].force_mev == pytest.approx(10.0)
    assert found[1].energy_mev is None
    assert (found[2].energy_mev, found[2].force_mev, found[2].stress_gpa) == (0, 0, 0)
    with pytest.raises(DataError, match="the finest calculation failed: no"):
        compared([point(10, 0, 0), point(20, 0, 0, failed=True)])


@pytest.mark.parametrize(
    ("energies", "forces", "recommended"),
    [
        ([0.1, 0.0005, 0.0004, 0.0], [0.0, 0.0, 0.0, 0.0], 20),
        ([0.1, 0.0005, 0.0004, 0.0], [0.0, 0.02, 0.0, 0.0], 30),  # forces count as well
        ([0.0, 0.1, 0.0004, 0.0], [0.0, 0.0, 0.0, 0.0], 30),  # near by accident, and not again at the next
        ([0.0, 0.0, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0], None),  # the finest is near to itself, which says nothing
    ],
)
def test_recommended(energies: list[float], forces: list[float], recommended: float | None) -> None:
    series = [point(10.0 * (i + 1), 2 * e, f) for i, (e, f) in enumerate(zip(energies, forces, strict=True))]
    found = recommend(compared(series), LIMITS)
    assert (found and found.ecutwfc_ry) == recommended


def test_a_point_that_failed_is_not_recommended() -> None:
    series = compared([point(10, 0, 0), point(20, 0, 0, failed=True), point(30, 0, 0), point(40, 0, 0)])
    found = recommend(series, LIMITS)
    assert found is not None
    assert found.ecutwfc_ry == 30


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("pw.x", 1),
        ("pw.x -nk 2", 1),
        ("/usr/bin/mpirun -np 8 pw.x -nk 2", 8),
        ("mpiexec -n 4 pw.x", 4),
        ("srun --ntasks=16 pw.x", 16),
        ("srun pw.x", None),
        ("mpirun.openmpi -np 3 pw.x", 3),
    ],
)
def test_processes_that_a_command_asks_for(command: str, asked: int | None) -> None:
    assert processes_asked(command.split()) == asked
    assert has_launcher(command.split()) is (command.split()[0] != "pw.x")


def test_processes_that_ran() -> None:
    start = "\n     Program PWSCF v.6.7MaX starts on  1Jan2026\n"
    assert processes_run(start + "     Parallel version (MPI), running on     2 processors\n") == (1, 2)
    hybrid = (
        "     Parallel version (MPI & OpenMP), running on       8 processor cores\n     Number of MPI processes:   4\n"
    )
    assert processes_run(start + hybrid) == (1, 4)
    assert processes_run(start + "     Serial version\n") == (1, 1)
    assert processes_run(2 * start)[0] == 2


@pytest.mark.parametrize("element", ["Al", "Fe", "Si", "Ti", "H", "Ga", "B"])
def test_two_atoms_of_any_element(element: str) -> None:
    atoms = two_atoms(element)
    assert atoms.get_chemical_symbols() == [element] * 2
    assert atoms.pbc.all()
    assert 0.5 < atoms.get_distance(0, 1, mic=True) < 5
    assert not atoms.get_initial_magnetic_moments().any()


@pytest.mark.parametrize(
    ("library", "is_slow"),
    [
        ("blas/libblas.so.3.11.0", True),
        ("openblas-serial/libblas.so.3", False),
        ("atlas/libblas.so.3.10.3", False),
        ("mkl/libmkl_rt.so.2", False),
    ],
)
def test_a_slow_blas_is_told(library: str, is_slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / library
    file.parent.mkdir(exist_ok=True)
    file.touch()
    name = "libblas.so.3" if "blas" in library else file.name
    (tmp_path / name).symlink_to(file)
    for program, text in (
        ("pw.x", ""), ("ldd", f"echo 'libm.so.6 => /lib/libm.so.6 (0x1)'; echo '{name} => {tmp_path / name} (0x2)'"),
    ):  # fmt: skip
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert reference_blas(["mpirun", "-np", "2", "pw.x", "-nk", "2"]) == (str(file) if is_slow else "")
    assert reference_blas(["another", "program"]) == ""

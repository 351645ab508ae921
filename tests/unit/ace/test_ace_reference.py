"""Our ACE evaluator against the numbers of python-ace on every potential and structure of the reference data."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.ace.radial import radial_basis, radial_functions, recurrence_mix, recurrence_start
from mlip_autopipec.ace.reference.tables import reference_tables
from mlip_autopipec.ace.splines import HermiteTable
from mlip_autopipec.core.conventions import stress_from_virial, virial_from_pyace
from mlip_autopipec.core.neighbours import neighbourhood


class Deviations:
    """Collects every number that is off, so that a failure shows all cases at once."""

    def __init__(self) -> None:
        self.worst: dict[str, float] = {}
        self.wrong: list[str] = []

    def compare(self, case: str, quantity: str, found: object, expected: object, tolerance: float) -> None:
        """Compare rows relative to max(1, norm of the expected row); a scalar is its own row."""
        x, y = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
        if x.shape != y.shape:
            self.wrong.append(f"{case} {quantity}: shape {x.shape} for {y.shape}")
            return
        if not x.size:
            return
        rows = (x.reshape(-1, 1), y.reshape(-1, 1)) if x.ndim < 2 else (x.reshape(len(x), -1), y.reshape(len(x), -1))
        error = np.abs(rows[0] - rows[1]).max(axis=1) / np.maximum(1.0, np.linalg.norm(rows[1], axis=1))
        worst = float(error.max()) if np.isfinite(error).all() else float("inf")
        self.worst[quantity] = max(self.worst.get(quantity, 0.0), worst)
        if not worst <= tolerance:
            self.wrong.append(f"{case} {quantity}: {worst:.2e} > {tolerance:.0e}")

    def check(self) -> None:
        print("worst:", {quantity: f"{value:.1e}" for quantity, value in self.worst.items()})
        assert not self.wrong, f"{len(self.wrong)} deviations: " + "; ".join(self.wrong)
        assert self.worst


def _compare_stress(seen: Deviations, case: str, atoms: Atoms, virial: np.ndarray, expected: np.ndarray) -> None:
    """Compare the stress where there is one, else the virial; `expected` is pyace's virial."""
    if atoms.pbc.all():
        found = stress_from_virial(virial, atoms.get_volume())
        seen.compare(
            case, "stress", found[None], stress_from_virial(virial_from_pyace(expected), atoms.get_volume())[None], 1e-7
        )
    seen.compare(case, "virial", virial[None], virial_from_pyace(expected)[None], 1e-7)


def test_energies_forces_stress_and_linear_grade(ace, evaluate, name, path) -> None:
    table, evaluator, seen = ace.table(f"ref_{name}.npz"), ace.evaluator(name, path), Deviations()
    structures = ace.structures(name)
    assert set(structures) == {key.split("/")[0] for key in table}
    for case, atoms in structures.items():
        found = evaluate(evaluator, atoms, gamma=True)
        seen.compare(case, "energy", found.energy, table[f"{case}/energy"], 1e-9)
        seen.compare(case, "energies", found.energies, table[f"{case}/energies"], 1e-9)
        seen.compare(case, "forces", found.forces, table[f"{case}/forces"], 1e-7)
        seen.compare(case, "gamma", found.gamma, table[f"{case}/gamma"], 1e-6)
        _compare_stress(seen, case, atoms, found.virial, table[f"{case}/virial_xx_yy_zz_xy_xz_yz"])
        if f"{case}/stress_voigt_xx_yy_zz_yz_xz_xy" in table:
            stress = stress_from_virial(found.virial, atoms.get_volume())
            seen.compare(case, "stress", stress[None], table[f"{case}/stress_voigt_xx_yy_zz_yz_xz_xy"][None], 1e-7)
    seen.check()


def test_numbers_do_not_depend_on_whether_the_grade_is_asked_for(ace, evaluate, name, path) -> None:
    evaluator, seen = ace.evaluator(name, path), Deviations()
    for case, atoms in ace.structures(name).items():
        without, found = evaluate(evaluator, atoms), evaluate(evaluator, atoms, gamma=True)
        assert without.gamma is None
        seen.compare(case, "energies", without.energies, found.energies, 1e-12)
        seen.compare(case, "forces", without.forces, found.forces, 1e-11)
        seen.compare(case, "virial", without.virial[None], found.virial[None], 1e-11)
    seen.check()


def test_projections_in_the_order_of_pyace(ace, name, path) -> None:
    table, evaluator, seen = ace.table(f"ref_{name}.npz"), ace.evaluator(name, path), Deviations()
    for case, atoms in ace.structures(name).items():
        found = evaluator.projections(neighbourhood(atoms, evaluator.cutoff, evaluator.elements))
        expected, counts = table[f"{case}/projections"], table[f"{case}/nproj"]
        mus = [evaluator.elements.index(symbol) for symbol in atoms.get_chemical_symbols()]
        assert [evaluator.potential.n_functions[mu] for mu in mus] == counts.tolist()
        for atom, count in enumerate(counts):
            # Each projection by itself: the norm of the row would hide the small ones.
            seen.compare(f"{case}[{atom}]", "B", found[atom, :count], expected[atom, :count], 1e-6)
    seen.check()


def test_nonlinear_grade(ace, evaluate, path) -> None:
    table, seen = ace.table("ref_AlNi_fs2.npz"), Deviations()
    evaluator = ace.evaluator("AlNi_fs2", path, "asi.nonlinear")
    for case, atoms in ace.structures("AlNi_fs2").items():
        found = evaluate(evaluator, atoms, gamma=True)
        seen.compare(case, "gamma", found.gamma, table[f"{case}/gamma_nonlinear"], 1e-6)
        seen.compare(case, "energies", found.energies, table[f"{case}/energies"], 1e-9)
    seen.check()


def test_yace_files(ace, evaluate, name, path) -> None:
    table, evaluator, seen = ace.table(f"ref_{name}.npz"), ace.evaluator(name, path, "yace"), Deviations()
    for case, atoms in ace.structures(name).items():
        found = evaluate(evaluator, atoms)
        seen.compare(case, "energies", found.energies, table[f"{case}/energies"], 1e-9)
        seen.compare(case, "ctilde energy", found.energy, table[f"{case}/ctilde_energy"], 1e-9)
        seen.compare(case, "ctilde forces", found.forces, table[f"{case}/ctilde_forces"], 1e-7)
        seen.compare(case, "recursive energy", found.energy, table[f"{case}/recursive_energy"], 1e-9)
        seen.compare(case, "recursive forces", found.forces, table[f"{case}/recursive_forces"], 1e-7)
        _compare_stress(seen, case, atoms, found.virial, table[f"{case}/ctilde_virial"])
    seen.check()


def test_splined_radial_functions(ace, name) -> None:
    table, seen = ace.table(f"radial_{name}.npz"), Deviations()
    potential = ace.evaluator(name).potential
    tables = reference_tables(potential)
    _, K, N, lmax, _ = tables.sizes
    for pair, (i, j) in enumerate(sorted(potential.bonds)):
        case, bond = potential.elements[i] + potential.elements[j], potential.bonds[i, j]
        first, bins = tables.spans[pair]
        rows = slice(first, first + bins + 3)
        splines = HermiteTable(float(tables.pairs[pair, 1]), tables.values[rows], tables.slopes[rows])
        r = table[f"{case}/r"]
        for prefix, found in zip(("", "d"), splines.interpolate(r), strict=True):
            R = found[:, K:-1].reshape(len(r), lmax + 1, N).transpose(0, 2, 1)
            g, core = found[:, : bond.nradbase], found[:, -1]
            scale = 1e-12 if not prefix else 1e-9
            seen.compare(case, f"{prefix}g", g.ravel(), table[f"{case}/{prefix}gr"][:, : bond.nradbase].ravel(), scale)
            seen.compare(case, f"{prefix}R", R.ravel(), table[f"{case}/{prefix}fr"].ravel(), scale)
            seen.compare(case, f"{prefix}core", core, table[f"{case}/{prefix}cr"], scale)
    seen.check()


def test_analytic_radial_functions_are_the_splined_ones(ace, name) -> None:
    table, seen = ace.table(f"radial_{name}.npz"), Deviations()
    potential = ace.evaluator(name).potential
    for (i, j), bond in potential.bonds.items():
        case = potential.elements[i] + potential.elements[j]
        r = table[f"{case}/r"]
        # The spline has one bin, the last, in which it may be far from the function: ChebLinear jumps there.
        here = r < bond.rcut - 0.0011
        g, _ = radial_basis(bond, r[here])
        R = radial_functions(bond, g)
        seen.compare(case, "g", g.ravel(), table[f"{case}/gr"][here, : bond.nradbase].ravel(), 1e-6)
        seen.compare(case, "R", R.ravel(), table[f"{case}/fr"][here, : bond.nradmax, : bond.lmax + 1].ravel(), 1e-6)
    seen.check()


def test_recurrence_gives_the_radial_basis(ace, name) -> None:
    seen = Deviations()
    potential = ace.evaluator(name).potential
    for (i, j), bond in potential.bonds.items():
        r = np.linspace(0.05, bond.rcut + 0.1, 700)
        start, dstart = recurrence_start(bond, r)
        x, dx = start[:, :1], dstart[:, :1]
        t, dt = [start[:, 1:2], start[:, 2:3]], [dstart[:, 1:2], dstart[:, 2:3]]
        for _ in range(bond.nradbase):
            t.append(2.0 * x * t[-1] - t[-2])
            dt.append(2.0 * (dx * t[-2] + x * dt[-1]) - dt[-2])
        mix = recurrence_mix(bond).T
        for quantity, found, expected in zip(
            ("g", "dg"),
            (np.hstack(t)[:, : len(mix)] @ mix, np.hstack(dt)[:, : len(mix)] @ mix),
            radial_basis(bond, r),
            strict=True,
        ):
            seen.compare(f"{i}{j}", quantity, found.ravel(), expected.ravel(), 1e-10)
    seen.check()


@pytest.mark.parametrize("skin", [0.3, 2.0])
def test_a_list_with_skin_changes_nothing(ace, evaluate, name, path, skin) -> None:
    evaluator, seen = ace.evaluator(name, path), Deviations()
    for case in ("triclinic", "cluster", "slab_vac"):
        atoms = ace.structures(name)[case]
        tight = evaluate(evaluator, atoms, gamma=True)
        frame = neighbourhood(atoms, evaluator.cutoff + skin, evaluator.elements)
        wide = evaluator.evaluate(frame, gamma=True)
        seen.compare(case, "energies", wide.energies, tight.energies, 1e-11)
        seen.compare(case, "forces", wide.forces, tight.forces, 1e-10)
        seen.compare(case, "virial", wide.virial[None], tight.virial[None], 1e-10)
        seen.compare(case, "gamma", wide.gamma, tight.gamma, 1e-6)
    seen.check()

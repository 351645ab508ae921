"""What every labeller promises: units, signs, orders, and nothing that depends on how the structure is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms

from mlip_autopipec.core.conventions import voigt_from_tensor
from mlip_autopipec.core.errors import ConfigError, DataError, NotConverged, OutputUnreadable, TimedOut
from mlip_autopipec.core.interfaces import Label, Labeller, Tightenable
from mlip_autopipec.engines.calculators.labeller import AseLabeller
from mlip_autopipec.engines.calculators.settings import AseSettings
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.settings import EspressoSettings
from mlip_autopipec.engines.gpaw.labeller import GpawLabeller
from mlip_autopipec.engines.gpaw.settings import GpawSettings
from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.engines.vasp.labeller import VaspLabeller
from mlip_autopipec.engines.vasp.settings import VaspSettings
from vasp_parts import fake_vasp


@dataclass
class Case:
    """A labeller, a small periodic structure with forces and stress, and the accuracy to expect (eV, A)."""

    labeller: Labeller
    atoms: Atoms
    energy: float
    force: float
    stress: float
    step: float

    def otherwise(self, settings: dict[str, object], node: dict[str, object]) -> Labeller | None:
        """The same labeller with other settings; None if it has no SCF."""
        if not isinstance(self.labeller, EspressoLabeller | GpawLabeller | VaspLabeller):
            return None
        changed = self.labeller.settings.model_copy(update=settings), self.labeller.node.model_copy(update=node)
        return type(self.labeller)(*changed)  # type: ignore[arg-type]


def _argon(_: Path) -> Case:
    # 4 atoms in a 5.3 A cell with a cutoff of 6 A: several images of each neighbour.
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.15, seed=1)
    settings = TeacherSettings(model="lj", sigma=3.4, epsilon=0.0104, cutoff=6.0)
    return Case(TeacherLabeller(settings), atoms, 1e-10, 1e-6, 1e-8, 1e-4)


def copper_gold() -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.75)
    atoms.numbers[1] = 79  # neither first nor last, for engines that sort by element
    atoms.rattle(0.1, seed=2)
    return atoms


def aluminium() -> Atoms:
    # Compressed, so that the stress is large against the Pulay stress of a low cutoff.
    atoms = bulk("Al", "bcc", a=2.9, cubic=True)
    atoms.rattle(0.15, seed=3)
    return atoms


def _emt(_: Path) -> Case:
    return Case(TeacherLabeller(TeacherSettings(model="emt")), copper_gold(), 1e-10, 1e-5, 1e-7, 1e-4)


def _ase(_: Path) -> Case:
    settings = AseSettings(calculator="ase.calculators.emt.EMT", elements=["Al", "Cu", "Au"])
    return Case(AseLabeller(settings), copper_gold(), 1e-10, 1e-5, 1e-7, 1e-4)


def _vasp(folder: Path) -> Case:
    # Files as VASP writes them, with EMT's numbers: to 1e-8 eV, so that steps must not be smaller.
    labeller = VaspLabeller(VaspSettings(), fake_vasp(folder, "Al", "Cu", "Au"))
    return Case(labeller, copper_gold(), 1e-6, 1e-3, 1e-4, 0.01)


def _gpaw(_: Path) -> Case:
    labeller = GpawLabeller(GpawSettings(ecut_ev=200, kspacing=1.2, density_tolerance=1e-7, isolated_box=7.0))
    return Case(labeller, aluminium(), 2e-5, 3e-3, 2e-3, 0.02)


def _espresso(_: Path) -> Case:
    settings = EspressoSettings(
        pseudopotentials={"Al": "Al.pz-vbc.UPF"}, ecutwfc_ry=14, kspacing=1.2, conv_thr_ry=1e-10, isolated_box=8.0
    )
    return Case(EspressoLabeller(settings), aluminium(), 2e-6, 3e-3, 2e-3, 0.02)


CASES: dict[str, Callable[[Path], Case]] = {
    "lj": _argon, "emt": _emt, "espresso": _espresso, "gpaw": _gpaw, "vasp": _vasp, "ase": _ase
}  # fmt: skip
NEEDS = {"espresso": "pw_x", "gpaw": "gpaw"}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if request.param in NEEDS:
        request.getfixturevalue(NEEDS[request.param])
    return CASES[request.param](tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def label(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Label:
    return case.labeller.label(case.atoms, tmp_path_factory.mktemp("label"))


def energy(case: Case, atoms: Atoms, folder: Path) -> float:
    return case.labeller.label(atoms, folder).energy


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def test_is_a_labeller(case: Case) -> None:
    assert isinstance(case.labeller, Labeller)
    assert case.labeller.name


def test_elements_are_checked_before_anything_is_computed(case: Case) -> None:
    case.labeller.check_elements(case.atoms.get_chemical_symbols())
    if case.labeller.name == "teacher lj":  # all species alike
        case.labeller.check_elements(["Og"])
    else:
        with pytest.raises(ConfigError, match="Og"):
            case.labeller.check_elements(["Al", "Og"])


def test_shapes_and_json(case: Case, label: Label) -> None:
    assert isinstance(label.energy, float)
    assert label.forces.shape == (len(case.atoms), 3)
    assert label.stress is not None
    assert label.stress.shape == (6,)
    assert json.loads(json.dumps(label.info, allow_nan=False))["engine"] in case.labeller.name


def test_forces_are_minus_the_gradient_of_the_energy(case: Case, label: Label, tmp_path: Path) -> None:
    direction = np.random.default_rng(4).normal(size=(len(case.atoms), 3))
    direction /= np.linalg.norm(direction)
    energies = []
    for sign in (1, -1):
        moved = case.atoms.copy()
        moved.positions += sign * case.step * direction
        energies.append(energy(case, moved, tmp_path))
    measured = -(energies[0] - energies[1]) / (2 * case.step)
    assert abs(measured) > 20 * case.force
    assert np.sum(label.forces * direction) == pytest.approx(measured, abs=case.force)


def test_stress_has_ases_sign_and_order(case: Case, label: Label, tmp_path: Path) -> None:
    assert label.stress is not None
    # Six different numbers, so that a wrong order of the components shows.
    tensor = np.array([[1.0, 0.4, -0.7], [0.4, -0.3, 0.9], [-0.7, 0.9, 0.5]])
    energies = [energy(case, strained(case.atoms, s * case.step / 10 * tensor), tmp_path) for s in (1, -1)]
    measured = (energies[0] - energies[1]) / (2 * case.step / 10) / case.atoms.get_volume()
    # Voigt's off-diagonal components count twice in the double contraction.
    expected = float(np.sum(label.stress * voigt_from_tensor(tensor) * [1, 1, 1, 2, 2, 2]))
    assert abs(measured) > 10 * case.stress
    assert expected == pytest.approx(measured, abs=case.stress)


def test_a_squeezed_crystal_pushes(case: Case, tmp_path: Path) -> None:
    squeezed = case.labeller.label(strained(case.atoms, -0.04 * np.eye(3)), tmp_path)
    assert squeezed.stress is not None
    assert squeezed.stress[:3].sum() < 0


def test_the_same_twice(case: Case, label: Label, tmp_path: Path) -> None:
    again = case.labeller.label(case.atoms, tmp_path)
    assert again.energy == pytest.approx(label.energy, abs=1e-9)
    assert np.allclose(again.forces, label.forces, atol=1e-9)


def test_what_can_be_tighter_says_the_same(case: Case, label: Label, tmp_path: Path) -> None:
    analytic = case.labeller.name.startswith(("teacher", "ase"))
    assert isinstance(case.labeller, Tightenable) is not analytic
    if isinstance(case.labeller, Tightenable):
        tight = case.labeller.tighter().label(case.atoms, tmp_path)
        assert tight.energy == pytest.approx(label.energy, abs=case.energy)
        assert np.allclose(tight.forces, label.forces, atol=case.force / 10)


def test_nothing_depends_on_the_way_of_writing(case: Case, label: Label, tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(len(case.atoms))
    written = case.atoms[order]
    written.positions += case.atoms.cell[0] - 2 * case.atoms.cell[2]
    # What callers leave in their atoms must not reach the engine.
    written.set_initial_magnetic_moments([1.0] * len(written))
    written.set_constraint(FixAtoms([0]))
    before = written.copy()

    other = case.labeller.label(written, tmp_path)
    assert other.energy == pytest.approx(label.energy, abs=case.energy)
    assert np.allclose(other.forces, label.forces[order], atol=case.force / 10)
    assert np.allclose(other.stress, label.stress, atol=case.stress / 10)
    assert written == before
    assert written.constraints


def test_no_stress_without_a_three_dimensional_period(case: Case, tmp_path: Path) -> None:
    sheet = case.atoms[:1]
    sheet.pbc = (True, True, False)
    flat = case.labeller.label(sheet, tmp_path)
    assert flat.stress is None
    assert np.abs(flat.forces).max() < 10 * case.force


def test_atoms_bind(case: Case, label: Label, tmp_path: Path) -> None:
    alone = {e: case.labeller.isolated_atom_energy(e, tmp_path) for e in set(case.atoms.get_chemical_symbols())}
    assert all(np.isfinite(value) for value in alone.values())
    assert label.energy < sum(alone[e] for e in case.atoms.get_chemical_symbols())


def test_atoms_upon_each_other_have_no_label(case: Case, tmp_path: Path) -> None:
    atoms = case.atoms.copy()
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises((DataError, OutputUnreadable)) as caught:
        case.labeller.label(atoms, tmp_path)
    assert not caught.value.transient


def test_out_of_scf_steps_is_not_converged(case: Case, tmp_path: Path) -> None:
    labeller = case.otherwise({"electron_maxstep": 3, "max_rungs": 0}, {})
    assert (labeller is None) is not isinstance(case.labeller, Tightenable)
    if labeller is not None:
        with pytest.raises(NotConverged, match=r"converge.* 3 ") as caught:
            labeller.label(case.atoms, tmp_path)
        assert "electron_maxstep" in caught.value.hint


def test_out_of_time_is_timed_out(case: Case, tmp_path: Path) -> None:
    labeller = case.otherwise({}, {"max_seconds": 0.02})
    if labeller is not None:
        with pytest.raises(TimedOut) as caught:
            labeller.label(case.atoms, tmp_path)
        assert "max_seconds" in caught.value.hint

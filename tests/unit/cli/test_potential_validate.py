"""`autopipe potential validate`: properties by an ACE that was fitted to EMT, beside EMT's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip_autopipec.cli.main import main
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.stages.train import TrainingSettings, train
from mlip_autopipec.store.dataset import DatasetRow

_TOLERANCE = 0.05


def labelled(number: int) -> DatasetRow:
    """A strained, rattled cell of fcc Al, every third with a vacancy, labelled by EMT."""
    rng = np.random.default_rng(number)
    atoms = bulk("Al", a=4.0 * (1 + rng.uniform(-0.02, 0.03)), cubic=True).repeat(2)
    if number % 3 == 0:
        del atoms[0]
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.02, 0.02, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=(0.02, 0.05, 0.1)[number % 3], size=(len(atoms), 3))
    atoms.calc = EMT()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = None
    return DatasetRow(str(number), atoms, energy, forces, stress, (1,) * len(atoms), "rattled")


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    """An ACE of Al fitted to EMT, whose pairs end at 5.4 A."""
    folder = tmp_path_factory.mktemp("potential")
    settings = TrainingSettings(cutoff=5.5, radial_decay=0.5, nradmax_by_orders=(20, 6, 3), lmax_by_orders=(0, 1, 0))
    basis = make_basis(settings, ["Al"])
    free = Atoms("Al", calculator=EMT()).get_potential_energy()
    rows = [labelled(number) for number in range(24)]
    train(rows, basis, settings, {"Al": free}, folder, design_of=lambda row: basis.design(row.atoms))
    return folder / "potential.yaml"


def validate(potential, out, capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["potential", "validate", str(potential), "--out", str(out), *words])
    captured = capsys.readouterr()
    assert not ended.value.code, captured.err
    return captured.out


def test_elastic_constants_vacancy_and_phonons_are_those_of_the_teacher(potential, tmp_path, capsys):
    only = "lattice,eos,elastic,vacancy,phonons"
    told = validate(potential, tmp_path, capsys, "--against", "teacher:emt", "--only", only, "--json")
    report = json.loads(told)
    assert report["failed"] == []
    lines = {(line["property"], line["quantity"]): line for line in report["table"]}
    judged = [("elastic", c) for c in ("C11", "C12", "C44")] + [("vacancy", "vacancy"), ("lattice", "a")]
    for key in (*judged, ("phonons", "highest frequency")):
        assert abs(lines[key]["relative_difference"]) < _TOLERANCE, lines[key]
    assert lines["elastic", "C11"]["reference"] > lines["elastic", "C12"]["reference"] > 0
    assert lines["lattice", "a"]["reference"] == pytest.approx(3.99, abs=0.01)
    bands = {who: found["phonons"]["curves"]["bands"] for who, found in report["details"]["Al"].items()}
    ours, theirs = (np.asarray(values) for values in bands.values())
    assert ours.shape == theirs.shape == (len(ours), 3)
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < _TOLERANCE * theirs.max()
    for name in ("eos", "elastic", "vacancy", "phonons", "lattice"):
        assert (tmp_path / f"Al-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "validation.json").read_text()) == report


@pytest.mark.slow
def test_everything_of_a_version_against_emt(potential, tmp_path, capsys):
    report = json.loads(
        validate(potential, tmp_path, capsys, "--against", "teacher:emt", "--json", "--md-steps", "800")
    )
    assert report["failed"] == []
    found = {line["property"] for line in report["table"]}
    assert found == {"lattice", "eos", "elastic", "phonons", "vacancy", "surfaces", "melting"}
    (melting,) = [line for line in report["table"] if line["property"] == "melting"]
    assert melting["reference"] == pytest.approx(melting["value"], abs=40.0)
    assert 30 < melting["reference"] < 250


def test_mistakes_are_told(potential, tmp_path, capsys):
    for words, code, told in (
        (["--only", "colour"], 2, "colour"),
        (["--against", "nobody"], 78, "nobody"),
        (["--against", "teacher:abc"], 78, "model"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["potential", "validate", str(potential), "--out", str(tmp_path / "x"), *words])
        assert ended.value.code == code
        assert told in capsys.readouterr().err

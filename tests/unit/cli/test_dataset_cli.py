"""`autopipe dataset`, and which version walkers use: what a person sees and changes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "daemons"))
from trainer_parts import World, labelled

from mlip_autopipec.cli.main import main
from mlip_autopipec.core.conventions import RYDBERG_EV
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.inoffice import trainers_office
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.daemons.pinning import fulfil
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.refusals import read_refusals
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stopped run with three versions of 6, 7 and 8 labels."""
    world = World(tmp_path_factory.mktemp("run"), [labelled(s) for s in range(6)])
    config, registry = world.config, Registry(world.run.potentials)
    intake = Intake(world.run, config.labeller_settings(), force_limit=1e5)
    intake.load()
    intake.take_frames([labelled(s) for s in range(6)])
    fitter = Fitter(FitJob(world.run.root, config.training, config.labeller_settings(), config.node, ("Ar",)))
    parent, known = None, set()
    for seed in (None, 10, 11):
        if seed is not None:
            world.give(world.task(seed, [1, 1, 1, 0, 0, 0, 1, 1, 1]))
            intake.take_results()
        answer = fitter(FitRequest(tuple(sorted(intake.labels)), None, parent, (), parent))
        new = sorted(intake.labels - known)
        parent = registry.publish(answer.folder, {"parent": parent, "new_task_ids": new, **answer.facts})
        known |= set(new)
    return world


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made.run.root, tmp_path / "run")
    return type(made.run)(tmp_path / "run")


@pytest.fixture
def autopipe(run, capsys):
    """Run one command; return (exit code, stdout, stderr)."""

    def call(group, command, *words):
        with pytest.raises(SystemExit) as ended:
            main([group, command, "-C", str(run.root), *map(str, words)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def contents(run):
    return {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file()}


def test_reads_show_all_and_write_nothing(run, autopipe):
    before = contents(run)
    labels = json.loads(autopipe("dataset", "ls", "--json")[1])
    assert len(labels) == 8
    (asked,) = [line for line in labels if line["step"] == 10]
    assert {k: asked[k] for k in ("kind", "side", "learned", "walker", "version", "gamma", "formula")} == {
        "kind": "active_learning", "side": "train", "learned": 6, "walker": "w00", "version": "v0001", "gamma": 7.5,
        "formula": "Ar9",
    }  # fmt: skip
    assert len(json.loads(autopipe("dataset", "ls", "--kind", "bootstrap", "--json")[1])) == 6
    sums = json.loads(autopipe("dataset", "stats", "--json")[1])
    assert (sums["labels"], sums["sides"]) == (8, {"train": 8})
    assert "active_learning" in autopipe("dataset", "stats")[1]
    assert asked["label"] in autopipe("dataset", "ls")[1]
    for words in (("show", "v0002"), ("why", "v0003"), ("diff", "v0001", "v0003")):
        assert autopipe("potential", *words)[0] == 0
    assert contents(run) == before


def test_show_why_and_diff_tell_what_versions_are_made_of(autopipe):
    shown = json.loads(autopipe("potential", "show", "v0002", "--json")[1])
    assert (shown["labels"], shown["new"], shown["parent"], shown["current"]) == (7, 1, "v0001", False)
    assert {"held_out", "gamma_rank", "squeezed_pairs", "equation_of_state"} == {c["name"] for c in shown["gate"]}
    assert shown["errors"][0]["force_rmse"] > 0
    steps = json.loads(autopipe("potential", "why", "v0003", "--json")[1])
    assert [step["version"] for step in steps] == ["v0003", "v0002", "v0001"]
    assert [len(step["new"]) for step in steps] == [1, 1, 6]
    assert {k: steps[0]["new"][0][k] for k in ("walker", "step", "asked_by")} == {
        "walker": "w00", "step": 11, "asked_by": "v0001",
    }  # fmt: skip
    found = json.loads(autopipe("potential", "diff", "v0001", "v0003", "--json")[1])
    assert (len(found["added"]), found["removed"], found["settings"]) == (2, [], {})
    assert autopipe("potential", "show", "v0009")[0] == 4
    assert autopipe("potential", "diff", "v0001", "v0009")[0] == 4


def test_rollback_pins_and_promote_lets_go(run, autopipe):
    registry = Registry(run.potentials)
    assert autopipe("potential", "rollback", "--dry-run")[2] == "would be: v0002 is current and pinned\n"
    assert registry.current().version == "v0003"
    assert autopipe("potential", "rollback")[0] == 0
    assert (registry.current().version, registry.current().pinned) == ("v0002", True)
    assert autopipe("potential", "rollback", "v0001")[2] == "v0001 is current and pinned\n"
    assert json.loads(autopipe("potential", "show", "v0001", "--json")[1])["pinned"] is True
    assert autopipe("potential", "rollback")[0] == 4
    assert autopipe("potential", "promote", "v0003")[0] == 0
    assert (registry.current().version, registry.current().pinned) == ("v0003", False)
    assert autopipe("potential", "promote", "v0007")[0] == 4
    assert not list(run.control.glob("*-v*"))
    with (registry.path("v0002") / "potential.yaml").open("a") as file:
        file.write("# changed\n")
    assert "v0002" in autopipe("potential", "rollback", "v0002")[2]
    assert registry.current().version == "v0003"


def test_a_trainer_at_work_is_asked(run, autopipe):
    registry, office = Registry(run.potentials), trainers_office(run, 60.0)
    assert office.take()
    try:
        assert "asked" in autopipe("potential", "rollback", "v0001")[2]
        assert "asked" in autopipe("potential", "rollback", "v0002")[2]
        assert registry.current().version == "v0003"
        assert fulfil(Control(run.control), registry) == "v0002"
        assert (registry.current().version, registry.current().pinned) == ("v0002", True)
        assert fulfil(Control(run.control), registry) == ""
        code, _, told = autopipe("dataset", "rebuild", "--yes")
        assert (code != 0, "autopipe otf stop" in told) == (True, True)
    finally:
        office.drop()


def test_dropped_labels_stay_out_until_they_are_taken_back(made, run, autopipe):
    task = json.loads(autopipe("dataset", "ls", "--kind", "active_learning", "--json")[1])[0]["label"]
    assert autopipe("dataset", "drop", task[:8])[0] == 78
    assert "would drop" in autopipe("dataset", "drop", task[:8], "--dry-run")[2]
    assert read_refusals(run) == {}
    assert autopipe("dataset", "drop", task[:8], "--yes", "--reason", "wrong spin")[0] == 0
    (line,) = json.loads(autopipe("dataset", "ls", "--side", "refused", "--json")[1])
    assert (line["label"], line["remarks"]) == (task, "dropped by hand: wrong spin")
    intake = Intake(run, made.config.labeller_settings(), force_limit=1e5)
    intake.load()
    intake.take_results()
    assert task not in intake.trainable
    assert task in intake.labels
    assert autopipe("dataset", "rebuild", "--yes")[0] == 0
    assert read_refusals(run) == {task: "dropped by hand: wrong spin"}
    assert autopipe("dataset", "drop", "--undo", task)[0] == 0
    assert read_refusals(run) == {}
    assert autopipe("dataset", "drop", "--undo", task)[0] == 4
    assert autopipe("dataset", "drop", "ffff", "--yes")[0] == 4


def test_a_rebuilt_dataset_is_the_same(run, autopipe):
    before = {row.task_id: row.energy for row in Dataset(run.dataset).rows()}
    assert autopipe("dataset", "rebuild")[0] == 78
    code, _, told = autopipe("dataset", "rebuild", "--yes")
    assert (code, told) == (0, "8 labels; the old database is dataset.db.before-rebuild-1\n")
    assert {row.task_id: row.energy for row in Dataset(run.dataset).rows()} == before
    assert (run.root / "dataset.db.before-rebuild-1").is_file()


def test_what_is_exported_can_be_imported(made, run, autopipe, tmp_path):
    file = tmp_path / "labels.extxyz"
    assert autopipe("dataset", "export", file)[0] == 0
    assert autopipe("dataset", "export", file)[0] == 78
    frames = ase.io.read(file, ":")
    assert len(frames) == 8
    assert frames[-1].arrays["force_mask"].tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert frames[-1].info["walker"] == "w00"
    more = tmp_path / "more.extxyz"
    ase.io.write(more, [*frames[-1:], labelled(50), labelled(51)])
    assert "2 of 3 labels are new" in autopipe("dataset", "import", more, "--dry-run")[2]
    code, _, told = autopipe("dataset", "import", more)
    assert (code, "labeller" in told) == (78, True)
    code, out, told = autopipe("dataset", "import", more, "--yes")
    assert (code, len(out.split()), told) == (0, 2, "2 of 3 labels are new\n")
    intake = Intake(run, made.config.labeller_settings(), force_limit=1e5)
    intake.load()
    intake.take_results()
    assert set(out.split()) <= intake.trainable
    unlabelled = labelled(60)
    unlabelled.calc = None
    ase.io.write(more, unlabelled)
    assert autopipe("dataset", "import", more, "--yes")[0] != 0


RECORDED = Path(__file__).parents[2] / "data" / "espresso"
OUTCAR = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / "OUTCAR_example_1"


def imported(run, autopipe, file):
    """Import a file; return the records."""
    code, out, told = autopipe("dataset", "import", file, "--yes")
    assert code == 0, told
    return [Results(run.results).read(task) for task in out.split()]


def test_outputs_of_quantum_espresso_and_vasp_come_in_with_their_free_energies(run, autopipe):
    (record,) = imported(run, autopipe, RECORDED / "converged.pwo")
    assert record["energy"] == pytest.approx(-16.54689764 * RYDBERG_EV, rel=2e-7)  # F = E - TS of the file
    assert len(record["forces"]) == 4
    assert len(record["stress"]) == 6
    (record,) = imported(run, autopipe, OUTCAR)
    assert record["energy"] == -68.22868532  # and not the energy extrapolated to no smearing, -68.23102426
    assert np.asarray(record["forces"]).shape == (18, 3)
    assert record["task"]["origin"] == {"source": "import", "file": "OUTCAR_example_1:1"}
    unconverged = run.root / "OUTCAR"
    unconverged.write_text(OUTCAR.read_text(errors="replace").replace("EDIFF is reached", "EDIFF was not reached"))
    code, _, told = autopipe("dataset", "import", unconverged, "--yes")
    assert (code != 0, "converge" in told) == (True, True)
    for name in ("not-converged", "killed", "bad-key"):
        assert autopipe("dataset", "import", RECORDED / f"{name}.pwo", "--yes")[0] != 0


@pytest.mark.usefixtures("python_ace")
def test_pacemaker_gets_a_dataframe_in_which_masked_atoms_weigh_nothing(run, autopipe, tmp_path):
    import pandas

    file = tmp_path / "labels.pckl.gzip"
    assert autopipe("dataset", "export", file)[0] == 0
    frame = pandas.read_pickle(file, compression="gzip")
    assert list(frame.columns) == ["ase_atoms", "energy", "energy_corrected", "forces", "w_energy", "w_forces", "name"]
    # pandas 2 has no string columns, and cannot unpickle those of pandas 3.
    assert {str(kind) for kind in frame.dtypes} == {"object", "float64"}
    assert str(frame.columns.dtype) == "object"
    rows = {row.task_id: row for row in Dataset(run.dataset).rows()}
    for _, line in frame.iterrows():
        row = rows[line["name"]]
        assert line["energy"] == row.energy
        assert ((line["w_forces"] > 0) == row.learned).all()
        assert (line["w_energy"] > 0) == row.whole
        assert np.array_equal(line["forces"], row.forces)
        atoms = line["ase_atoms"]
        assert atoms.pbc.all()  # python-ace refuses slabs: vacuum instead
        assert np.allclose(atoms.get_all_distances(mic=True), row.atoms.get_all_distances(mic=True))
    assert frame["w_energy"].sum() == pytest.approx(1.0)
    assert sum(w.sum() for w in frame["w_forces"]) == pytest.approx(1.0)


def test_labels_can_be_looked_at(run, autopipe, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, told = autopipe("dataset", "view", "--kind", "active_learning")
    assert (code, "no screen" in told) == (0, True)
    assert len(ase.io.read(out.strip(), ":")) == 2
    label = json.loads(autopipe("dataset", "ls", "--json")[1])[0]["label"]
    assert len(ase.io.read(autopipe("dataset", "view", label[:12])[1].strip(), ":")) == 1
    assert autopipe("dataset", "view", "ffff")[0] == 4


def test_every_label_says_where_it_comes_from(autopipe):
    labels = json.loads(autopipe("dataset", "ls", "--json")[1])
    asked = [line for line in labels if line["kind"] == "active_learning"]
    assert [line["origin"] for line in asked] == [
        {"walker": "w00", "step": step, "version": "v0001"} for step in (10, 11)
    ]
    assert {line["origin"]["source"] for line in labels if line["kind"] == "bootstrap"} == {"start.dataset"}
    stats = json.loads(autopipe("dataset", "stats", "--json")[1])
    assert (stats["duplicates"], stats["outliers"]) == ([], [])


def test_metrics_and_learning_curve_of_versions(run, autopipe, tmp_path):
    figure = tmp_path / "parity.png"
    found = json.loads(autopipe("potential", "metrics", "v0002", "--plot", figure, "--json")[1])
    kept = json.loads((run.potentials / "v0002" / "metrics.json").read_text())
    for key in ("structures", "force_rmse", "force_mae", "energy_rmse_mev", "energy_mae_mev"):
        assert found["train"][key] == pytest.approx(kept[key], rel=1e-6), key  # what the fit itself said
    assert set(found["train"]["groups"]) == {"bootstrap", "active_learning"}
    assert set(found["train"]["elements"]) == {"Ar"}
    assert found["train"]["force_cosine"] > 0.9
    assert found["validation"]["structures"] == 0
    lines = json.loads(autopipe("potential", "curve", "--plot", tmp_path / "curve.png", "--json")[1])
    assert [(line["version"], line["labels"]) for line in lines] == [("v0001", 6), ("v0002", 7), ("v0003", 8)]
    for file in (figure, tmp_path / "curve.png"):
        assert file.read_bytes().startswith(b"\x89PNG")
    assert "v0003" in autopipe("potential", "metrics")[1]
    assert autopipe("potential", "curve")[0] == 0

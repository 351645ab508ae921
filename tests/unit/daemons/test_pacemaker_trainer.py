"""`trainer: pacemaker` from labels to MD: it refines the linear fit, and its potential is a version as any other."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas
import pytest
from trainer_parts import World, frame, labelled

from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.config import load
from mlip_autopipec.core.errors import ConfigError, Crashed
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.interfaces import Design
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.daemons.refining import labelled as weighted
from mlip_autopipec.daemons.trainer_worker import TrainerWorker
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.engines.pacemaker.dataframe import write_dataframe
from mlip_autopipec.engines.pacemaker.refining import check_command, input_of
from mlip_autopipec.engines.pacemaker.settings import PacemakerSettings
from mlip_autopipec.stages.train import TrainingSettings, Weighting, labelled_design
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.walkerstate import WalkerState, write_state

MASK = [1, 1, 1, 0, 0, 0, 1, 1, 1]
SMALL = {"nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 1]}


def steps_until(worker, condition, timeout_s=300):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, worker.status()
        worker.step(time.monotonic())
        time.sleep(0.02)


pytestmark = pytest.mark.usefixtures("python_ace")


def drawn(number: int, atoms: int, mask: tuple[int, ...], kind: str) -> DatasetRow:
    rng = np.random.default_rng(number)
    return DatasetRow(
        str(number), frame(number)[:atoms], rng.normal(), rng.normal(size=(atoms, 3)), None, mask, kind
    )  # fmt: skip


@pytest.mark.parametrize("draw", range(3))
@pytest.mark.parametrize("balance", [{}, {"kappa": 0.3}, {"kappa": 0.9, "energy_window": {"low_share": 0.6}}])
def test_the_loss_is_that_of_the_linear_fit(tmp_path, balance, draw):
    """Of any predictions, with cells of different sizes; once both are of weights whose sum is 1."""
    settings = TrainingSettings(cutoff=6.0, masked_energy_weight=2.0, group_weights={"heavy": 3.0}, **balance)
    rows = [
        drawn(1, 9, (1,) * 9, "light"), drawn(2, 3, (1,) * 3, "heavy"), drawn(3, 9, tuple(MASK), "light"),
    ]  # fmt: skip
    rng = np.random.default_rng(100 + draw)
    wrong = {row.task_id: (rng.normal(), rng.normal(size=row.forces.shape)) for row in rows}
    given = weighted(rows, settings, {"Ar": 0.0})
    write_dataframe(given, tmp_path / "train.pckl.gzip")
    frames = pandas.read_pickle(tmp_path / "train.pckl.gzip", compression="gzip")
    kappa = input_of(given, 6.0, settings.pacemaker)["fit"]["loss"]["kappa"]
    assert settings.kappa is None or kappa == pytest.approx(settings.kappa, rel=1e-12)
    theirs, ours = 0.0, 0.0
    weighting = Weighting(rows, settings, {"Ar": 0.0})
    for row, (_, line) in zip(rows, frames.iterrows(), strict=True):
        energy, forces = wrong[row.task_id]
        theirs += (1 - kappa) * line["w_energy"] * (energy / len(row.atoms)) ** 2
        theirs += kappa * float(line["w_forces"] @ (forces**2).sum(axis=1))
        design = Design(np.array([row.energy + energy]), (row.forces + forces)[:, :, None], {})
        matrix, targets = labelled_design(row, design, weighting.of(row), {"Ar": 0.0}).rows()
        ours += float(np.sum((matrix[:, 0] - targets) ** 2))
    total = sum(one.energy_weight + one.force_weights.sum() for one in given)
    assert theirs * total == pytest.approx(ours, rel=1e-12)


def fitted(world: World, **pacemaker):
    """Fit all labels of a world; return run, answer and rows."""
    training = {**world.config.training.model_dump(), "trainer": "pacemaker", "pacemaker": pacemaker}
    config = world.config.model_copy(update={"training": type(world.config.training)(**training)})
    intake = Intake(world.run, config.labeller_settings(), force_limit=1e9)
    intake.load()
    intake.take_frames([labelled(s) for s in range(6)])
    intake.take_results()
    job = FitJob(world.run.root, config.training, config.labeller_settings(), config.node, ("Ar",))
    ids = tuple(sorted(intake.labels))
    return Fitter(job)(FitRequest(ids)), list(Dataset(world.run.dataset).rows())


def test_from_labels_to_molecular_dynamics(tmp_path):
    world = World(tmp_path, [], **SMALL)
    world.give(world.task(20, MASK))
    # Of the loss of the linear fit, which misses next to nothing here, pacemaker would find itself at the minimum.
    answer, rows = fitted(world, iterations=4, trainable="all", kappa=0.5)
    assert "candidate" not in answer.facts or answer.facts["candidate"] == []
    registry = Registry(world.run.potentials)
    version = registry.publish(answer.folder, {"parent": None, "new_task_ids": [], **answer.facts})
    assert registry.current().version == version
    folder = registry.path(version)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["iterations"] >= 1
    assert metrics["force_rmse"] < 1.02 * metrics["linear"]["force_rmse"]
    assert read_mapping(folder / "train_config.yaml")["trainer"] == "pacemaker"
    embeddings = {block.embedding.parameters for block in read_yaml(folder / "potential.yaml").blocks}
    assert embeddings == {(1.0, 1.0, 1.0, 0.5)}
    checks = {check["name"]: check["passed"] for check in json.loads((folder / "gate.json").read_text())["checks"]}
    assert False not in checks.values(), checks
    assert checks["squeezed_pairs"] is True
    evaluator = make_evaluator(folder)
    for row in rows:
        found = evaluator.evaluate(neighbourhood(row.atoms, evaluator.cutoff, evaluator.elements), gamma=True)
        assert found.gamma[row.learned].max() < 1.05  # as the gate has it of what was trained on
        assert np.abs(found.forces - row.forces)[row.learned].max() < 0.05
    squeezed = frame(3)
    squeezed.positions[1] += 0.45 * (squeezed.positions[0] - squeezed.positions[1])
    near = evaluator.evaluate(neighbourhood(squeezed, evaluator.cutoff, evaluator.elements), gamma=True)
    assert near.gamma.max() > 5
    atoms = frame(4)
    with LammpsMD(make_evaluator(folder), MDSettings(ensemble="nve", temperature_k=10, timestep_fs=2.0)) as md:
        md.gamma_every = 5
        md.start(atoms)
        md.run(5)
        before = md.thermo()
        md.run(50)
        after = md.thermo()
    total = [t["potential_energy"] + t["kinetic_energy"] for t in (before, after)]
    assert abs(total[1] - total[0]) < 1e-4
    assert after["potential_energy"] != before["potential_energy"]


def test_pacemaker_learns_what_an_overlay_leaves(tmp_path):
    """The gate compares what the trainer says of 10 labels with the files: both have the baseline."""
    pair = {"epsilon": 0.03, "sigma": 3.5, "cutoff": 6.0}
    world = World(tmp_path, [], **SMALL, baseline="lj", lj_pairs={"Ar-Ar": pair})
    answer, rows = fitted(world, iterations=3, trainable="all", kappa=0.5)
    assert (answer.facts["trainer"], "not_refined" in answer.facts) == ("pacemaker", False)
    evaluator = make_evaluator(answer.folder)
    assert evaluator.overlay.pair("Ar", "Ar").epsilon == pair["epsilon"]
    for row in rows:
        found = evaluator.evaluate(neighbourhood(row.atoms, evaluator.cutoff, evaluator.elements))
        assert found.forces == pytest.approx(row.forces, abs=0.03)
        rest = evaluator.overlay.evaluate(neighbourhood(row.atoms, 6.0, ("Ar",)), ("Ar",))
        assert np.abs(rest.forces).max() > 0.06


@pytest.mark.slow
def test_masked_forces_change_nothing(tmp_path):
    potentials = []
    for name, force in (("as-it-is", None), ("absurd", 1e6)):
        world = World(tmp_path / name, [], **SMALL)
        world.give(world.task(20, MASK), force=force)
        answer, rows = fitted(world, iterations=1)
        (masked,) = [row for row in rows if not row.whole]
        isolated = {"Ar": 0.0}
        weights = weighted([masked], world.config.training, isolated)[0].force_weights
        assert weights.tolist() == MASK
        potentials.append((answer.folder / "potential.yaml").read_text())
    assert potentials[0] == potentials[1]


def test_a_missing_program_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no-such-pacemaker"):
        fitted(World(tmp_path, [], **SMALL), command="no-such-pacemaker")


def test_a_fault_of_pacemaker_leaves_the_linear_version(tmp_path):
    answer, _ = fitted(World(tmp_path, [], **SMALL), command="false")
    assert answer.facts["trainer"] == "linear"
    assert "pacemaker ended with 1" in answer.facts["not_refined"]
    assert read_mapping(answer.folder / "train_config.yaml")["trainer"] == "linear"
    assert len(answer.facts["task_ids"]) == 6
    assert answer.unusable == {}


def test_the_last_fit_is_nothing_without_pacemaker(tmp_path):
    world = World(tmp_path, [], pacemaker={"command": "false"}, **SMALL)
    intake = Intake(world.run, world.config.labeller_settings(), force_limit=1e9)
    intake.load()
    intake.take_frames([labelled(s) for s in range(6)])
    config = world.config
    job = FitJob(world.run.root, config.training, config.labeller_settings(), config.node, ("Ar",))
    with pytest.raises(Crashed):
        Fitter(job)(FitRequest(tuple(sorted(intake.labels)), trainer="pacemaker"))


def test_settings_are_read_from_the_file(tmp_path):
    world = World(
        tmp_path, [], trainer="pacemaker", pacemaker={"evaluator": "tensorpot", "command": "/opt/tp/pacemaker"}
    )
    assert load(world.run).training.pacemaker.command == "/opt/tp/pacemaker"


@pytest.mark.slow
def test_the_last_version_of_a_run_is_one_of_pacemaker(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)], final="pacemaker", pacemaker={"iterations": 1}, **SMALL)
    registry = Registry(world.run.potentials)
    worker = TrainerWorker(world.run, world.config)
    try:
        worker.start()
        steps_until(worker, lambda: registry.versions() == ["v0001"])
        worker.step(time.monotonic())
        assert worker.status()[1]["uningested"] == 1  # the run is not over before the last fit
        for plan in walker_plans(world.config.otf):
            (world.run.walkers / plan.name).mkdir(parents=True)
            write_state(world.run.walkers / plan.name, WalkerState(plan.name, state="done"))
        beat = {"name": "otf-runner", "pid": 1, "host": "h", "process_start": "p", "detail": {}, "updated": ""}
        write_json(world.run.heartbeats / "otf-runner.json", {**beat, "counter": 1, "state": "finished"})
        steps_until(worker, lambda: len(registry.versions()) == 2)
        steps_until(worker, lambda: worker.status()[1]["uningested"] == 0)
        assert "error" not in worker.status()[1]
    finally:
        worker.close()
    assert [registry.manifest(v)["trainer"] for v in registry.versions()] == ["linear", "pacemaker"]
    assert registry.manifest("v0002")["task_ids"] == registry.manifest("v0001")["task_ids"]
    assert registry.current().version == "v0002"


def test_the_program_is_looked_for_before_the_run():
    check_command(PacemakerSettings())
    with pytest.raises(ConfigError, match="no-such-pacemaker"):
        check_command(PacemakerSettings(command="no-such-pacemaker"))

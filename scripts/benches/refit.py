"""The trainer: a cold fit, a refit after a few more labels, and python-ace's fits of the same functions beside it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import click
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.ace.linear import LabelledDesign, fit
from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.config import load
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.daemons.fitjob import FitAnswer, FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

# 520 functions of two elements, and cells of 54 atoms: solid to liquid-like disorder at several volumes.
TRAINING = {"cutoff": 5.5, "nradmax_by_orders": [8, 3, 2], "lmax_by_orders": [0, 3, 2]}
ELEMENTS = ("Al", "Cu")
PACEMAKER = (100, 50)  # structures, iterations
# python-ace's own evaluator has no derivatives by coefficients: an iteration takes an evaluation for each of them.
SMALL = {"cutoff": 5.5, "nradmax_by_orders": [4, 1], "lmax_by_orders": [0, 1]}
TARGETS = {"refit": 20.0, "design": 8.0, "memory_gib": 2.0}


def structures(count: int, seed: int) -> list[Atoms]:
    """Return rattled, strained alloys labelled by EMT."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Al", "bcc", a=3.1 * rng.uniform(0.96, 1.04), cubic=True).repeat(3)
        atoms.symbols = rng.choice(ELEMENTS, len(atoms))
        atoms.rattle(rng.uniform(0.02, 0.2), rng=rng)
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        found.append(atoms)
    return found


def make_run(root: Path, frames: Sequence[Atoms]) -> RunDirectory:
    """Return a run directory in which no daemon works."""
    run = RunDirectory(root)
    run.create()
    run.start.mkdir()
    ase.io.write(run.start / "structure.extxyz", frames[0])
    data = {
        "start": {"structure": "start/structure.extxyz", "dataset": "start/structure.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
        "training": TRAINING,
    }
    run.config_file.write_text(dump_mapping(data))
    return run


def fits(count: int, more: int) -> dict[str, Any]:
    """Seconds of a cold fit of `count` structures and of a refit after `more`, in one trainer's child."""
    frames = structures(count + more, 1)
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(Path(scratch), frames)
        config, registry = load(run), Registry(run.potentials)
        intake = Intake(run, config.labeller_settings(), force_limit=1e5)
        intake.load()
        job = FitJob(run.root, config.training, config.labeller_settings(), config.node, ELEMENTS, None, "ace")
        fitter = Fitter(job)

        def timed(parent: str | None) -> tuple[FitAnswer, float, float]:
            held = tuple(sorted(intake.judging))
            request = FitRequest(tuple(sorted(intake.trainable)), parent=parent, held=held, current=parent)
            begin, cpu = time.perf_counter(), time.process_time()
            answer = fitter(request)
            return answer, time.perf_counter() - begin, time.process_time() - cpu

        intake.take_frames(frames[:count])
        cold, cold_s, cold_cpu_s = timed(None)
        version = registry.publish(cold.folder, cold.facts)
        intake.take_frames(frames)
        warm, warm_s, warm_cpu_s = timed(version)
        metrics = read_json(warm.folder / "metrics.json")
        return {
            "structures": count,
            "atoms": sum(map(len, frames[:count])),
            "functions": metrics["fit"]["n_columns"],
            "learned": len(cold.facts["task_ids"]),
            "new": len(warm.facts["task_ids"]) - len(cold.facts["task_ids"]),
            "cold_s": cold_s,
            "refit_s": warm_s,
            "cold_cpu_s": cold_cpu_s,
            "refit_cpu_s": warm_cpu_s,
            "force_rmse": metrics["force_rmse"],
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def design(count: int) -> dict[str, Any]:
    """CPU seconds for the design matrix of some structures: ours and that of `pyace.linearacefit`."""
    import pandas as pd
    from pyace import BBasisConfiguration
    from pyace.linearacefit import LinearACEDataset

    frames = structures(count, 2)
    basis = make_basis(TrainingSettings.model_validate(TRAINING), ELEMENTS)
    basis.design(frames[0])
    begin = _cpu_s()
    for atoms in frames:
        basis.design(atoms)
    ours = _cpu_s() - begin
    table = pd.DataFrame(
        {
            "ase_atoms": frames,
            "energy_corrected": [a.get_potential_energy() for a in frames],
            "forces": [a.get_forces() for a in frames],
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        basis.write(np.zeros(basis.n_coefficients), dict.fromkeys(ELEMENTS, 0.0), Path(scratch))
        dataset = LinearACEDataset(BBasisConfiguration(str(Path(scratch) / "potential.yaml")), table)
        begin = _cpu_s()
        dataset.construct_design_matrix(max_workers=1)  # in a process of its own
        theirs = _cpu_s() - begin
    return {"structures": count, "atoms": sum(map(len, frames)), "ours_s": ours, "pyace_s": theirs}


def _cpu_s() -> float:
    """Return the CPU time of this process and of its children that have ended, s."""
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def pacemaker(count: int, iterations: int) -> dict[str, Any]:
    """Seconds and training errors of `pacemaker` and of our fit, of the same functions to the same structures."""
    import pandas as pd

    frames = structures(count, 3)
    energies, forces = [a.get_potential_energy() for a in frames], [a.get_forces() for a in frames]
    basis = make_basis(TrainingSettings.model_validate(SMALL), ELEMENTS)
    basis.design(frames[0])
    begin = time.perf_counter()
    labels = [
        LabelledDesign(str(k), basis.design(a), energies[k], forces[k], np.ones(len(a), dtype=bool), 100.0, 1.0)
        for k, a in enumerate(frames)
    ]
    fitted = fit(labels, basis.ranks)
    result: dict[str, Any] = {
        "structures": count,
        "functions": basis.n_coefficients,
        "iterations": iterations,
        "ours_s": time.perf_counter() - begin,
    }
    isolated = dict.fromkeys(ELEMENTS, 0.0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        basis.write(fitted.coefficients, isolated, folder)
        result |= _errors("ours", folder / "potential.yaml", frames)
        basis.write(np.zeros(basis.n_coefficients), isolated, folder)
        table = pd.DataFrame({"ase_atoms": [a.copy() for a in frames], "energy_corrected": energies, "forces": forces})
        table.to_pickle(folder / "data.pckl.gzip", compression="gzip", protocol=4)
        settings = {
            "cutoff": SMALL["cutoff"],
            "seed": 1,
            "data": {"filename": "data.pckl.gzip"},
            "potential": "potential.yaml",
            "fit": {
                "loss": {"kappa": 0.3}, "optimizer": "BFGS", "maxiter": iterations,
                "trainable_parameters": {"ALL": ["func"]},
            },
            "backend": {"evaluator": "pyace"},
        }  # fmt: skip
        (folder / "input.yaml").write_text(dump_mapping(settings))
        program = str(Path(sys.executable).with_name("pacemaker"))
        begin = time.perf_counter()
        with (folder / "out").open("w") as out:
            subprocess.run([program, "input.yaml"], cwd=folder, stdout=out, stderr=out, check=True)
        result["pacemaker_s"] = time.perf_counter() - begin
        return result | _errors("pacemaker", folder / "output_potential.yaml", frames)


def _errors(name: str, potential: Path, frames: Sequence[Atoms]) -> dict[str, float]:
    evaluator = load_evaluator(potential)
    said = [evaluator.evaluate(neighbourhood(a, evaluator.cutoff, evaluator.elements)) for a in frames]
    forces = np.concatenate([(s.forces - a.get_forces()).ravel() for s, a in zip(said, frames, strict=True)])
    energies = [(s.energy - a.get_potential_energy()) / len(a) for s, a in zip(said, frames, strict=True)]
    return {f"{name}_force_rmse": _rms(forces), f"{name}_mev_per_atom": 1e3 * _rms(np.array(energies))}


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def part(name: str, *arguments: int) -> dict[str, Any]:
    """Run one part in a process of its own, whose peak memory is its own."""
    words = [sys.executable, "-P", __file__, "--part", name, *map(str, arguments)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(result: dict[str, Any]) -> None:
    speed, rows = result["fit"], result["design"]
    print_table("fit of EMT alloys (seconds, one thread)", tuple(speed), [tuple(speed.values())])
    print_table("design matrix (CPU seconds)", (*rows, "ratio"),
                [(*rows.values(), rows["pyace_s"] / rows["ours_s"])])  # fmt: skip
    print_table("beside pacemaker (training errors; seconds)", tuple(result["pacemaker"]),
                [tuple(result["pacemaker"].values())])  # fmt: skip
    checks = [
        ("cold fit to refit, CPU time", TARGETS["refit"], speed["cold_cpu_s"] / speed["refit_cpu_s"], True),
        ("cold fit to refit", TARGETS["refit"], speed["cold_s"] / speed["refit_s"], True),
        ("design matrix to python-ace's", TARGETS["design"], rows["pyace_s"] / rows["ours_s"], True),
        ("peak memory, GiB", TARGETS["memory_gib"], speed["peak_gib"], False),
    ]
    print_table("targets", ("what", "wanted", "found", "met"), [
        (what, wanted, found, "yes" if (found >= wanted) == least else "NO") for what, wanted, found, least in checks
    ])  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--structures", "count", default=1000, show_default=True)
@click.option("--new", default=20, show_default=True, help="Structures that come before the refit.")
@click.option("--part", "name", hidden=True)
@click.argument("arguments", nargs=-1, type=int)
def main(as_json: bool, count: int, new: int, name: str | None, arguments: tuple[int, ...]) -> None:
    """Measure a cold fit, a refit, the design matrix beside python-ace's, and a fit beside pacemaker's."""
    if name is not None:
        print(json.dumps({"fit": fits, "design": design, "pacemaker": pacemaker}[name](*arguments)))
        return
    result = {"fit": part("fit", count, new), "design": part("design", 10)}
    result["pacemaker"] = part("pacemaker", *PACEMAKER)
    print(json.dumps(result)) if as_json else show(result)


if __name__ == "__main__":
    main()

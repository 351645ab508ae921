"""Accuracy on DFT data of Mo and Si (Zuo et al. 2020): fit on train, errors on test; ladder; design beside pyace."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase.io
import click
import numpy as np
from ase import Atoms

from mlip_autopipec.ace.basis_size import (
    DEFAULT_RUNG,
    ENERGY_WEIGHT,
    FORCE_WEIGHT,
    LENGTH_POWER,
    RANK_STIFFNESS,
    Choice,
    choose_basis,
)
from mlip_autopipec.ace.calculator import ACECalculator
from mlip_autopipec.ace.cutoff_search import CutoffSearch, best_cutoff
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.fitting import AceBasis
from mlip_autopipec.ace.linear import Fit, LabelledDesign, RowReducer, Triangle, solve
from mlip_autopipec.ace.references import FittedReferences, fitted_references
from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.neighbours import neighbourhood

# Mean absolute errors, meV/atom and eV/A; better than the best of GAP and MTP, doi:10.1021/acs.jpca.9b08723.
TARGETS = {"Mo": (2.1, 0.088), "Si": (2.1, 0.058)}
FOLDS = 5


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root-mean-square errors: energies in meV/atom, force components in eV/A."""

    energy_mae: float
    force_mae: float
    energy_rmse: float
    force_rmse: float
    groups: dict[str, tuple[float, float]]


def errors(frames: Sequence[Atoms], predictions: Sequence[tuple[float, np.ndarray]]) -> Errors:
    """Compare (energy, forces) with the labels."""
    energy = np.array(
        [(p[0] - a.get_potential_energy()) / len(a) * 1e3 for a, p in zip(frames, predictions, strict=True)]
    )
    force = [(p[1] - a.get_forces()).ravel() for a, p in zip(frames, predictions, strict=True)]
    groups = {}
    for name in sorted({a.info["group"] for a in frames}):
        members = [i for i, a in enumerate(frames) if a.info["group"] == name]
        groups[name] = (
            float(np.abs(energy[members]).mean()),
            float(np.abs(np.concatenate([force[i] for i in members])).mean()),
        )
    every = np.concatenate(force)
    return Errors(
        float(np.abs(energy).mean()),
        float(np.abs(every).mean()),
        float(np.sqrt(np.mean(energy**2))),
        float(np.sqrt(np.mean(every**2))),
        groups,
    )


def designs(basis: AceBasis, frames: Sequence[Atoms], threads: int) -> Iterator[tuple[int, Any]]:
    """Yield (index, design), computed by threads, a few ahead."""
    ahead = 2 * threads
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(frames), ahead):
            yield from enumerate(pool.map(basis.design, frames[first : first + ahead]), start=first)


def labelled(atoms: Atoms, design: Any, references: Mapping[str, float]) -> LabelledDesign:
    """Return a frame's rows with the recipe's weights."""
    return LabelledDesign(
        name=str(atoms.info.get("description", "")),
        design=design,
        energy=atoms.get_potential_energy() - sum(references[s] for s in atoms.get_chemical_symbols()),
        forces=atoms.get_forces(),
        learned=np.ones(len(atoms), dtype=bool),
        energy_weight=ENERGY_WEIGHT,
        force_weight=FORCE_WEIGHT,
    )


@dataclass(frozen=True)
class Run:
    """One fit: what it used, how long its parts took, and where the potential is.

    Attributes
    ----------
    parts : rows of each fold, reduced
    """

    choice: Choice
    basis: AceBasis
    fit: Fit
    references: FittedReferences
    parts: list[Triangle]
    seconds: dict[str, float]
    folder: Path


def folds_of(frames: Sequence[Atoms]) -> np.ndarray:
    """Return the fold of each frame, drawn so that every fold holds every group alike."""
    order = np.lexsort((np.random.default_rng(0).random(len(frames)), [a.info["group"] for a in frames]))
    fold = np.empty(len(frames), dtype=int)
    fold[order] = np.arange(len(frames)) % FOLDS
    return fold


def fitted(parts: Iterable[Triangle], basis: AceBasis, ridge: float | None) -> Fit:
    """Fit the rows of some folds with the recipe's prior."""
    reducer = RowReducer(basis.n_coefficients)
    for part in parts:
        reducer.merge(part)
    stiffness = RANK_STIFFNESS ** (np.array(basis.ranks) - 1.0)
    return solve(reducer.triangle(), stiffness, ridge=ridge, length_power=LENGTH_POWER)


def searched(frames: Sequence[Atoms]) -> tuple[CutoffSearch, FittedReferences, float]:
    """Return what the recipe chooses once for all rungs, and the seconds that it takes."""
    begin = time.perf_counter()
    references = fitted_references(frames, [atoms.get_potential_energy() for atoms in frames])
    search = best_cutoff(frames, lambda place, design: labelled(frames[place], design, references.energies))
    return search, references, time.perf_counter() - begin


def train(
    frames: Sequence[Atoms],
    rung: int,
    threads: int,
    folder: Path,
    search: CutoffSearch,
    references: FittedReferences,
) -> Run:
    """Choose a basis, fit it, write the potential; keep the rows in the folder for the folds."""
    clock = [time.perf_counter()]
    n_rows = sum(1 + 3 * len(atoms) for atoms in frames)
    choice = choose_basis(frames, n_rows, rung=rung, cutoff=search.cutoff)
    basis = AceBasis(choice.configuration)
    clock.append(time.perf_counter())
    reducers = [RowReducer(basis.n_coefficients) for _ in range(FOLDS)]
    fold = folds_of(frames)
    with (folder / "rows").open("wb") as rows:
        for index, design in designs(basis, frames, threads):
            design.energy.tofile(rows)
            design.forces.tofile(rows)
            reducers[fold[index]].add(*labelled(frames[index], design, references.energies).rows())
    parts = [reducer.triangle() for reducer in reducers]
    clock.append(time.perf_counter())
    result = fitted(parts, basis, choice.ridge)
    clock.append(time.perf_counter())
    basis.write(result.coefficients, references.energies, folder)
    spent = dict(zip(("basis", "rows", "solve"), np.diff(clock).tolist(), strict=True))
    return Run(choice, basis, result, references, parts, {**spent, "total": clock[-1] - clock[0]}, folder)


def cross_validate(run: Run, frames: Sequence[Atoms]) -> Errors:
    """Return the errors on frames that the fit did not see."""
    coefficients = [
        fitted((part for k, part in enumerate(run.parts) if k != left_out), run.basis, run.choice.ridge).coefficients
        for left_out in range(FOLDS)
    ]
    found = []
    with (run.folder / "rows").open("rb") as rows:
        for atoms, left_out in zip(frames, folds_of(frames), strict=True):
            design = np.fromfile(rows, count=(1 + 3 * len(atoms)) * run.basis.n_coefficients)
            values = design.reshape(-1, run.basis.n_coefficients) @ coefficients[left_out]
            constant = sum(run.references.energies[s] for s in atoms.get_chemical_symbols())
            found.append((float(values[0]) + constant, values[1:].reshape(-1, 3)))
    return errors(frames, found)


def predictions(run: Run, frames: Sequence[Atoms], threads: int) -> list[tuple[float, np.ndarray]]:
    """Return (energy, forces) by the engine that runs MD, from the written `.yace`."""
    calculator = ACECalculator(run.folder / "potential.yace", threads=threads)
    found = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = calculator
        found.append((copy.get_potential_energy(), copy.get_forces()))
    return found


def evaluation_time(run: Run, atoms: Atoms) -> float:
    """Microseconds per atom for energy and forces, one thread, best of repeats, without the neighbour list."""
    potential = ACECalculator(run.folder / "potential.yace").evaluator.potential
    evaluator = AceEvaluator(potential, threads=1)
    frame = neighbourhood(atoms, evaluator.cutoff, evaluator.elements)
    best = np.inf
    for _ in range(20):
        begin = time.perf_counter()
        evaluator.evaluate(frame, gamma=False)
        best = min(best, time.perf_counter() - begin)
    return 1e6 * best / len(atoms)


def beside_pyace(run: Run, frames: Sequence[Atoms]) -> dict[str, float]:
    """Seconds of one thread for the design matrix of some frames: ours and that of `pyace.linearacefit`."""
    import pandas as pd
    from pyace import BBasisConfiguration
    from pyace.linearacefit import LinearACEDataset

    basis = AceBasis(run.choice.configuration)
    basis.design(frames[0])  # compiles
    begin = time.perf_counter()
    ours = [basis.design(atoms) for atoms in frames]
    middle = time.perf_counter()
    table = pd.DataFrame(
        {
            "ase_atoms": list(frames),
            "energy_corrected": [a.get_potential_energy() for a in frames],
            "forces": [a.get_forces() for a in frames],
        }
    )
    dataset = LinearACEDataset(BBasisConfiguration(str(run.folder / "potential.yaml")), table)
    dataset.construct_design_matrix(max_workers=1)
    end = time.perf_counter()
    forces = np.concatenate([design.forces for design in ours])
    theirs = np.asarray(dataset.get_design_matrix(max_workers=1))[len(frames) :].reshape(forces.shape)
    difference = np.abs(theirs - forces).max() / np.abs(forces).max()
    return {
        "atoms": len(forces),
        "functions": basis.n_coefficients,
        "ours_s": middle - begin,
        "pyace_s": end - middle,
        "ratio": (end - middle) / (middle - begin),
        "relative_difference": float(difference),
    }


def knee(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the highest rung whose errors (geometric mean) fell by at least 1 % for 10 % more evaluation time."""
    best = rows[0]
    for row in rows[1:]:
        gain = np.log(best["energy_mae"] * best["force_mae"] / (row["energy_mae"] * row["force_mae"])) / 2
        if gain >= 0.1 * np.log(row["evaluation_us"] / best["evaluation_us"]):
            best = row
    return int(best["rung"])


def element_rows(
    element: str, data: Path, rungs: Sequence[int], threads: int, *, folds: bool, test: bool, pyace: int
) -> tuple[list[dict[str, Any]], dict[str, float] | None]:
    """Fit every rung for one element; test and pyace only for the last."""
    frames = ase.io.read(data / f"{element}-train.extxyz", ":")
    rows, beside = [], None
    search, references, search_s = searched(frames)
    for rung in rungs:
        with tempfile.TemporaryDirectory() as scratch:
            run = train(frames, rung, threads, Path(scratch), search, references)
            fit_s = search_s + run.seconds["total"]
            click.echo(f"{element} rung {rung}: {fit_s:.0f} s; {run.references.warning}", err=True)
            row: dict[str, Any] = {
                "element": element,
                "rung": run.choice.rung,
                "functions": run.choice.n_functions,
                "cutoff": run.choice.cutoff,
                "errors_by_cutoff": search.errors,
                "evaluation_us": evaluation_time(run, frames[0] * (2, 2, 2)),
                "fit_s": fit_s,
                "seconds": {"cutoff": search_s, **run.seconds},
                "resolved": run.fit.report.n_resolved,
                "ridge": run.fit.report.ridge,
            }
            if folds:
                row |= asdict(cross_validate(run, frames))
            if rung == rungs[-1] and test:
                held_out = ase.io.read(data / f"{element}-test.extxyz", ":")
                row["test"] = asdict(errors(held_out, predictions(run, held_out, threads)))
                row["targets"] = TARGETS[element]
            if rung == rungs[-1] and pyace:
                beside = beside_pyace(run, frames[:pyace])
            rows.append(row)
    return rows, beside


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=Path("../shared/data/zuo2020"))
@click.option("--element", "elements", multiple=True, type=click.Choice(sorted(TARGETS)), help="Default: both.")
@click.option("--ladder", default="", help="Rungs to cross-validate on train, as 6,8,10; default: only the recipe's.")
@click.option("--cv/--no-cv", "folds", default=True, help="Cross-validate on train.")
@click.option("--test/--no-test", default=True, help="Open the test files.")
@click.option("--pyace", default=0, help="Frames whose design matrix pyace makes too; 0 leaves it out.")
@click.option("--threads", default=min(2, os.cpu_count() or 1), show_default=True)
def main(
    as_json: bool,
    data: Path,
    elements: tuple[str, ...],
    ladder: str,
    folds: bool,
    test: bool,
    pyace: int,
    threads: int,
) -> None:
    """Fit Mo and Si with one recipe, chosen on the train files only."""
    rungs = sorted({int(word) for word in ladder.split(",") if word} | {DEFAULT_RUNG})
    rows: list[dict[str, Any]] = []
    beside: dict[str, dict[str, float]] = {}
    for element in elements or sorted(TARGETS):
        found, peer = element_rows(element, data, rungs, threads, folds=folds, test=test, pyace=pyace)
        rows += found
        if peer:
            beside[element] = peer
    knees = {e: knee([r for r in rows if r["element"] == e]) for e in {r["element"] for r in rows} if folds}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    missed = [
        f"{row['element']} {name} {row['test'][name]:.4f} > {limit}"
        for row in rows
        if "test" in row
        for name, limit in zip(("energy_mae", "force_mae"), row["targets"], strict=True)
        if row["test"][name] > limit
    ]
    if as_json:
        print(json.dumps({"rows": rows, "knee": knees, "pyace": beside, "peak_gib": memory, "missed": missed}))
    else:
        _show(rows, knees, beside)
        click.echo(f"peak memory {memory:.2f} GiB")
    if missed:
        click.echo(f"missed: {'; '.join(missed)}", err=True)
        sys.exit(1)


def _show(rows: list[dict[str, Any]], knees: dict[str, int], beside: dict[str, dict[str, float]]) -> None:
    columns = (
        "element",
        "rung",
        "functions",
        "cutoff",
        "evaluation_us",
        "fit_s",
        "resolved",
        "energy_mae",
        "force_mae",
    )
    print_table(
        f"{FOLDS}-fold cross-validation on train: meV/atom, eV/A; evaluation in us per atom, one thread",
        columns,
        ([r.get(c) for c in columns] for r in rows),
    )
    for element, rung in sorted(knees.items()):
        click.echo(f"knee of {element}: rung {rung}; the recipe's default is {DEFAULT_RUNG}")
    tested = [r for r in rows if "test" in r]
    if tested:
        names = ("energy_mae", "force_mae", "energy_rmse", "force_rmse")
        table = ([r["element"], *(r["test"][n] for n in names), *r["targets"]] for r in tested)
        print_table("test: meV/atom, eV/A", ("element", *names, "energy_limit", "force_limit"), table)
        groups = ([r["element"], g, *v] for r in tested for g, v in r["test"]["groups"].items())
        print_table("test by group", ("element", "group", "energy_mae", "force_mae"), groups)
    if beside:
        columns = ("atoms", "functions", "ours_s", "pyace_s", "ratio", "relative_difference")
        table = ([element, *(values[c] for c in columns)] for element, values in beside.items())
        print_table("design matrix, one thread", ("element", *columns), table)


if __name__ == "__main__":
    main()

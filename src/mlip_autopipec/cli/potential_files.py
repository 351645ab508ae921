"""`autopipe potential info|convert|compare|evaluate`: work with potential files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from mlip_autopipec.cli.figures import require_matplotlib
from mlip_autopipec.cli.options import json_option
from mlip_autopipec.cli.potential_inputs import (
    bad_input,
    blame,
    check_target,
    each_structure,
    find_potential,
    load,
    run_folder_option,
)
from mlip_autopipec.core.errors import ConfigError

_file = click.Path(path_type=Path, dir_okay=False)
_threads = click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the engine."
)
_yes = click.option("--yes", "replace", is_flag=True, help="Replace the file if it exists.")


@click.command()
@click.argument("potential")
@run_folder_option
@json_option
def info(potential: str, run_folder: Path, as_json: bool) -> None:
    """Say what is in POTENTIAL, a .yaml or .yace file or a version."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.potentialfile import describe

    files = find_potential(potential, run_folder)
    with bad_input():
        facts = describe(files.potential, files.active_set)
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"{facts['file']}: {facts['format']}, {' '.join(facts['elements'])}, cutoff {facts['cutoff_a']:g} A")
    energies = facts["isolated_energies_ev"] or {}
    ranks = sorted({int(rank) for counts in facts["functions"].values() for rank in counts})
    print_table(
        "functions by rank",
        ("element", *(f"rank {rank}" for rank in ranks), "all", "embedding", "weights (eV)", "exponents", "E0 (eV)"),
        (
            (element, *(counts.get(str(rank), 0) for rank in ranks), sum(counts.values()), embedding["kind"],
             _listed(embedding["weights_ev"]), _listed(embedding["exponents"]), energies.get(element))
            for (element, counts), embedding in zip(
                facts["functions"].items(), facts["embedding"].values(), strict=True)
        ),
    )  # fmt: skip
    print_table(
        "pairs",
        ("pair", "cutoff (A)", "radial basis", "parameters", "g", "R", "l", "inner cutoff", "r_in (A)",
         "width (A)", "core repulsion"),
        (
            (name, pair["cutoff_a"], pair["radial_basis"], _listed(pair["radial_parameters"]), pair["nradbase"],
             pair["nradmax"], pair["lmax"], pair["inner_cutoff"], pair["inner_cutoff_a"],
             pair["inner_cutoff_width_a"], _listed(pair["core_repulsion"] or []))
            for name, pair in facts["pairs"].items()
        ),
    )  # fmt: skip
    if facts["overlay"]:
        click.echo(f"overlay, which MD adds (pair_style hybrid/overlay): {facts['overlay']}")
    found = facts.get("active_set")
    sizes = ", ".join(f"{element} {size}" for element, size in found["sizes"].items()) if found else ""
    click.echo(
        f"active set: {found['file']}, {found['kind']}, {sizes}" if found else "active set: none beside the file"
    )


@click.command()
@click.argument("source", type=_file)
@click.argument("target", type=_file)
@click.option("--e0", "energies", multiple=True, metavar="EL=EV", help="Isolated-atom energy, eV (default 0).")
@_yes
@json_option
def convert(source: Path, target: Path, energies: tuple[str, ...], replace: bool, as_json: bool) -> None:
    """Convert SOURCE.yaml (B-basis) to TARGET.yace (C-tilde), which LAMMPS and python-ace read."""
    from mlip_autopipec.ace.basis import make_basis
    from mlip_autopipec.ace.conversion import to_products
    from mlip_autopipec.ace.formats.yace_writing import write_yace
    from mlip_autopipec.ace.formats.yaml_reading import read_yaml

    if source.suffix not in (".yaml", ".yml"):
        raise click.UsageError(f"{source}: SOURCE must be a .yaml file; a .yace has lost its B-basis")
    if target.suffix != ".yace":
        raise click.UsageError(f"{target}: TARGET must end in .yace")
    isolated = energies_by_element(energies)
    files = find_potential(str(source), Path())
    check_target(target, replace)
    with bad_input():
        basis = make_basis(read_yaml(files.potential))
    unknown = sorted(set(isolated) - set(basis.elements))
    if unknown:
        raise ConfigError(f"--e0: {unknown[0]} is not in {source}", f"it has {' '.join(basis.elements)}")
    part = target.with_name(target.name + ".part")
    write_yace(to_products(basis, isolated), part)
    os.replace(part, target)
    written = {element: isolated.get(element, 0.0) for element in basis.elements}
    if as_json:
        click.echo(json.dumps({"file": str(target), "isolated_energies_ev": written}))
        return
    click.echo(f"{target}: E0 (eV) " + ", ".join(f"{element} {energy:g}" for element, energy in written.items()))


@click.command()
@click.argument("first")
@click.argument("second")
@click.argument("structures", type=_file)
@click.option("--plot", "figure", type=_file, help="Write a parity plot (png, pdf, svg).")
@_threads
@_yes
@run_folder_option
@json_option
def compare(
    first: str, second: str, structures: Path, figure: Path | None, threads: int, replace: bool, run_folder: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Compare the potentials FIRST and SECOND (files or versions) on STRUCTURES, without isolated-atom energies."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.parity import Parity, plot

    if figure is not None:
        require_matplotlib(figure)
        check_target(figure, replace)
    one, two = (load(find_potential(name, run_folder).potential, None, threads) for name in (first, second))
    parity = Parity(one, two)
    for number, atoms in enumerate(each_structure(structures), start=1):
        with blame(structures, number):
            parity.add(atoms)
    table = parity.table()
    if figure is not None:
        plot(parity, (first, second), figure)
    if as_json:
        click.echo(json.dumps(table))
        return
    print_table(
        f"{first} and {second} on {table['structures']} structures, {table['atoms']} atoms",
        ("quantity", "unit", "values", "RMSE", "largest deviation"),
        ((name, q["unit"], q["values"], q["rmse"], q["max"]) for name, q in table["quantities"].items()),
    )


@click.command()
@click.argument("potential")
@click.argument("structures", type=_file)
@click.option("-o", "--output", type=_file, required=True, help="Extended xyz file to write.")
@click.option("--active-set", type=_file, help="`.asi` file, for gamma. Default: that of a version.")
@_threads
@_yes
@run_folder_option
@json_option
def evaluate(
    potential: str, structures: Path, output: Path, active_set: Path | None, threads: int, replace: bool,
    run_folder: Path, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate STRUCTURES by POTENTIAL (file or version): energies, forces, stress, and gamma per atom, as extxyz."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.evaluated import write_evaluated

    files = find_potential(potential, run_folder)
    if active_set is None and not Path(potential).exists():
        active_set = files.active_set
    if not structures.is_file():
        next(each_structure(structures))
    check_target(output, replace)
    evaluator = load(files.potential, active_set, threads)
    part, frames = output.with_name(output.name + ".part"), []
    try:
        with part.open("w", encoding="utf-8") as handle:
            for number, atoms in enumerate(each_structure(structures), start=1):
                with blame(structures, number):
                    frames.append(write_evaluated(evaluator, atoms, handle))
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)
    if as_json:
        click.echo(json.dumps({"file": str(output), "gamma": evaluator.has_gamma, "structures": frames}))
        return
    print_table(
        f"{output}: {len(frames)} structures",
        ("structure", "atoms", "energy (eV)", "energy (eV/atom)", "largest force (eV/A)", "largest gamma"),
        ((n, f["atoms"], f["energy"], f["energy_per_atom"], f["force_max"], f["gamma_max"])
         for n, f in enumerate(frames, start=1)),
    )  # fmt: skip


def energies_by_element(words: tuple[str, ...]) -> dict[str, float]:
    """Return element -> eV of `Al=-3.2`."""
    found: dict[str, float] = {}
    for word in words:
        element, _, number = word.partition("=")
        try:
            found[element] = float(number)
        except ValueError:
            raise click.UsageError(f"--e0 {word}: expected ELEMENT=ENERGY, for example Al=-3.2") from None
    return found


def _listed(values: list[Any]) -> str:
    return " ".join(f"{value:.4g}" for value in values)

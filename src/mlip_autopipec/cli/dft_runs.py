"""`autopipe dft test` and `autopipe dft convergence`: what runs pw.x at once, without a queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.figures import require_matplotlib
from mlip_autopipec.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlip_autopipec.engines.espresso.convergence import Point, Scan, Tolerance
    from mlip_autopipec.engines.espresso.trial import Finding

_UNHEALTHY = 3
_DEFAULT_ELEMENT = "Al"

_run_option = click.option(
    "-C",
    "--run",
    "run_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Run directory whose settings are used; without it: what the program chooses by itself.",
)
_command_option = click.option("--command", help="Program with its launcher, if not the node's.")
_pseudo_option = click.option(
    "--pseudo-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of pseudopotentials, if not the node's.",
)


def _changed(node: Any, command: str | None, pseudo_dir: Path | None) -> Any:
    changes = {"command": command, "pseudo_dir": pseudo_dir}
    return node.model_copy(update={key: value for key, value in changes.items() if value is not None})


@click.command("test")
@click.option("--element", "elements", multiple=True, help="Element to try; repeatable.  [default: the run's, or Al]")
@_run_option
@_command_option
@_pseudo_option
@json_option
def trial(
    elements: tuple[str, ...], run_folder: Path | None, command: str | None, pseudo_dir: Path | None, as_json: bool
) -> None:
    """Check pw.x, its MPI and pseudopotentials, and run two atoms: SCF, and forces against finite differences.

    Exit code 3 if something has to be mended; the output says how.
    """
    _check_symbols(elements)
    findings = []
    for finding in _findings(elements, run_folder, command, pseudo_dir):
        findings.append(finding)
        if not as_json:
            click.echo(f"{'ok  ' if finding.ok else 'BAD '} {finding.check}: {finding.said}")
            if finding.fix:
                click.echo(f"     fix: {finding.fix}")
    healthy = all(finding.ok for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": healthy, "findings": [vars(finding) for finding in findings]}))
    if not healthy:
        raise SystemExit(_UNHEALTHY)


def _check_symbols(elements: tuple[str, ...]) -> None:
    from ase.data import atomic_numbers

    for element in elements:
        if element == "X" or element not in atomic_numbers:
            raise click.UsageError(f"--element {element}: is no element symbol; write e.g. Al")


def _findings(
    elements: tuple[str, ...], run_folder: Path | None, command: str | None, pseudo_dir: Path | None
) -> Iterator[Finding]:
    from mlip_autopipec.cli.dft import settings_for
    from mlip_autopipec.engines.espresso.trial import try_element, try_program
    from mlip_autopipec.runtime.tether import tethered

    settings, node = settings_for(elements or (_DEFAULT_ELEMENT,), run_folder)
    node = _changed(node, command, pseudo_dir)
    program = try_program(node)
    yield program
    if not program.ok:
        return
    for element in elements or sorted(settings.pseudopotentials or settings.elements):
        # Without a run, elements have nothing to do with each other: no functional that all of them must have.
        own = settings if run_folder else settings_for((element,), None)[0]
        yield from try_element(element, own, node, tethered([]))


@click.command()
@click.argument("structure", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--cutoffs", help="ecutwfc in Ry, e.g. 20,30,40,60.  [default: around the settings']")
@click.option("--kspacings", help="1/A with 2 pi included, e.g. 0.4,0.3,0.2.  [default: around the settings']")
@click.option("--mev-per-atom", default=2.0, show_default=True, help="Energies nearer than this are converged.")
@click.option("--mev-per-a", default=10.0, show_default=True, help="Forces nearer than this are converged.")
@click.option("--plot", "figure", type=click.Path(path_type=Path, dir_okay=False), help="Write a figure (png, pdf).")
@_run_option
@_command_option
@_pseudo_option
@json_option
def convergence(
    structure: Path, cutoffs: str | None, kspacings: str | None, mev_per_atom: float, mev_per_a: float,
    figure: Path | None, run_folder: Path | None, command: str | None, pseudo_dir: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Which cutoff and which k-points are enough for STRUCTURE (any format of ASE; its last frame)?

    Runs pw.x once for each line of the two tables. Choose a structure as small as those of the run will be dense:
    a distorted cell of few atoms. Exit code 3 if no point of the series is near enough to the finest.
    """
    from mlip_autopipec.cli.dft import settings_for
    from mlip_autopipec.engines.espresso.convergence import Scan, Tolerance
    from mlip_autopipec.runtime.tether import tethered
    from mlip_autopipec.stages.explore import read_structures

    if figure is not None:
        require_matplotlib(figure)
    atoms = read_structures(structure, "STRUCTURE")[-1]
    settings, node = settings_for(atoms.get_chemical_symbols(), run_folder)
    scan = Scan(
        atoms, settings, _changed(node, command, pseudo_dir), tethered([]),
        cutoffs_ry=_numbers(cutoffs, "--cutoffs"), spacings=_numbers(kspacings, "--kspacings"),
        note=lambda point: click.echo(_progress(point), err=True),
    )  # fmt: skip
    tolerance = Tolerance(mev_per_atom, mev_per_a)
    series = {"cutoffs": scan.cutoffs(), "kpoints": scan.kpoints()}
    if figure is not None:
        from mlip_autopipec.monitor.convergenceplot import plot

        plot(series["cutoffs"], series["kpoints"], tolerance, figure)
    facts = _facts(scan, series, tolerance)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    if not facts["converged"]:
        raise SystemExit(_UNHEALTHY)


def _numbers(text: str | None, option: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")] if text else []
    except ValueError as error:
        raise click.UsageError(f"{option} {text}: write numbers with commas between them") from error
    if text and (len(set(numbers)) < 2 or min(numbers) <= 0):
        raise click.UsageError(f"{option} {text}: needs two different numbers above 0 at least")
    return numbers


def _progress(point: Point) -> str:
    grid = "x".join(str(count) for count in point.kpoints)
    return f"{point.ecutwfc_ry:g} Ry, {grid}: " + (point.error or f"{point.seconds:.1f} s")


def _facts(scan: Scan, series: dict[str, list[Point]], tolerance: Tolerance) -> dict[str, Any]:
    from mlip_autopipec.engines.espresso.convergence import recommend

    best = {name: recommend(points, tolerance) for name, points in series.items()}
    cutoff, kpoints = best["cutoffs"], best["kpoints"]
    wanted = {
        "ecutwfc_ry": cutoff and cutoff.ecutwfc_ry,
        "ecutrho_ry": cutoff and cutoff.ecutrho_ry,
        "kspacing": kpoints and kpoints.kspacing,
    }
    return {
        "tolerance": vars(tolerance),
        "rattled_a": scan.rattled_a,
        **{name: [point.record() for point in points] for name, points in series.items()},
        "recommended": {key: value for key, value in wanted.items() if value is not None},
        "converged": all(best.values()),
    }


def _print(facts: dict[str, Any]) -> None:
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.core.yamlfile import dump_mapping

    if facts["rattled_a"]:
        click.echo(f"the forces vanish by symmetry: the atoms were moved by {facts['rattled_a']:g} A at random")
    for name, title in (("cutoffs", "cutoffs, at coarse k-points"), ("kpoints", "k-points, at the settings' cutoffs")):
        print_table(
            f"{title}: distance from the last line",
            ("ecutwfc (Ry)", "ecutrho (Ry)", "spacing (1/A)", "grid", "meV/atom", "meV/A", "GPa", "s", "failed"),
            (
                (
                    p["ecutwfc_ry"], p["ecutrho_ry"], p["kspacing"], "x".join(map(str, p["kpoints"])),
                    p["energy_mev"], p["force_mev"], p["stress_gpa"], p["seconds"], p["error"],
                )
                for p in facts[name]
            ),
        )  # fmt: skip
    limits = f"{facts['tolerance']['energy_mev']:g} meV/atom and {facts['tolerance']['force_mev']:g} meV/A"
    if facts["recommended"]:
        click.echo(f"the cheapest within {limits} of the finest:")
        click.echo(dump_mapping({"labeller": facts["recommended"]}), nl=False)
    for name, option in (("ecutwfc_ry", "--cutoffs"), ("kspacing", "--kspacings")):
        if name not in facts["recommended"]:
            click.echo(f"{name}: nothing but the finest is within {limits}: give finer {option}")

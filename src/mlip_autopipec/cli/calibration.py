"""`autopipe otf calibration`: how wrong the potential is where gamma says that it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mlip_autopipec.cli.figures import require_matplotlib
from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.store.rundir import RunDirectory


@click.command()
@click.option(
    "--plot", "figure", type=click.Path(path_type=Path, dir_okay=False), help="Write error over gamma (png, pdf, svg)."
)
@click.option("--yes", "replace", is_flag=True, help="Replace the file if it exists.")
@run_option
@json_option
def calibration(run: RunDirectory, figure: Path | None, replace: bool, as_json: bool) -> None:
    """Show true force errors over gamma, as the audits tell.

    Audits are random environments below the halt level that no fit has seen. Bounds are of the 95 % quantile of the
    force error of one atom, eV/A.
    """
    from mlip_autopipec.cli.potential_inputs import check_target
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.calibration import load_calibration, plot, summary

    if figure is not None:
        require_matplotlib(figure)
        check_target(figure, replace)
    found = load_calibration(run)
    facts = summary(found)
    if figure is not None:
        plot(found, figure)
    if as_json:
        click.echo(json.dumps(facts))
        return
    _print_verdict(facts)
    columns = (
        ("gamma up to", "gamma_up_to"), ("audits", "audits"), ("median error", "median"),
        ("95 % (75 % sure)", "bound_75"), ("95 % (95 % sure)", "bound_95"), ("above target", "above_target"),
        ("labels", "labels"), ("their median", "labels_median"),
    )  # fmt: skip
    print_table(
        f"{facts['version']}: force error (eV/A)",
        [title for title, _ in columns],
        ([("all" if key == "gamma_up_to" and row[key] is None else row[key]) for _, key in columns]
         for row in facts["relation"]),
    )  # fmt: skip
    print_table(
        "versions",
        ("version", "audits", "halt level", "bound (eV/A)"),
        ((name, told.get("audits"), told.get("level"), told.get("bound")) for name, told in facts["versions"].items()),
    )


def _print_verdict(facts: dict[str, Any]) -> None:
    if facts["target"] is None:
        click.echo("no otf.target_force_error: walkers halt at otf.uncertainty_threshold")
        return
    level = "otf.uncertainty_threshold" if facts["level"] is None else f"{facts['level']:.3g}"
    click.echo(f"target {facts['target']:g} eV/A: halt level {level}: {facts['reason']}")
    bound = "too few audits for a bound" if facts["bound"] is None else f"bound {facts['bound']:.3g} eV/A"
    click.echo(f"{'converged' if facts['converged'] else 'not converged'}: {bound}")

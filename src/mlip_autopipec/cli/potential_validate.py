"""`autopipe potential validate`: physical properties by a potential, beside those by a reference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.figures import require_matplotlib
from mlip_autopipec.cli.options import json_option
from mlip_autopipec.cli.potential_inputs import bad_input, each_structure, find_potential, run_folder_option
from mlip_autopipec.core.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from ase import Atoms

    from mlip_autopipec.properties.validation import Demand, Outcome


@click.command()
@click.argument("potential", required=False)
@click.option(
    "--against",
    metavar="LABELLER",
    help="Reference: run (the labeller of the run), teacher:emt, ase:DOTTED.PATH, a version or a potential file.",
)
@click.option("--only", help="Only these properties, with commas: lattice, eos, elastic, phonons, vacancy, …")
@click.option(
    "--structure",
    "structures",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Unit cell of a crystal; may be repeated. Default: the crystal of each element after ASE's table.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("validation"), show_default=True)
@click.option("--length", default=10.0, show_default=True, help="A; between periodic images of a defect.")
@click.option("--melting-temperature", type=float, help="K; default: guessed from the bulk modulus.")
@click.option("--md-steps", default=1500, show_default=True, type=click.IntRange(100), help="Of each stretch of MD.")
@click.option("--plots/--no-plots", default=True, help="One PNG for each property.")
@run_folder_option
@json_option
def validate(
    potential: str | None, against: str | None, only: str | None, structures: tuple[Path, ...], out: Path,
    length: float, melting_temperature: float | None, md_steps: int, plots: bool, run_folder: Path, as_json: bool,
) -> None:  # fmt: skip
    """Compute properties of crystals and melt by POTENTIAL, a version or a file (default: the current version).

    Lattice, equation of state, elastic constants, phonons, vacancy, surfaces, foreign or exchanged atoms, and the
    energy between solid and liquid: as a table, in OUT as figures and validation.json.
    """
    from mlip_autopipec.core.files import write_json
    from mlip_autopipec.monitor.validation import comparison, draw, failures
    from mlip_autopipec.properties.validation import Demand

    if plots:
        require_matplotlib(out / "figures.png")
    demand = Demand(_wanted(only), length, melting_temperature, md_steps)
    name = potential or _current(run_folder)
    files = find_potential(name, run_folder)
    out.mkdir(parents=True, exist_ok=True)
    calculators = {name: _potential(files.potential, files.active_set)}
    if against is not None:
        calculators[f"{against} (reference)"] = _reference(against, run_folder, out)
    lines: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    figures: list[Path] = []
    curves: dict[str, Any] = {}
    pure, crystals = _crystals(structures, next(iter(calculators.values())).evaluator.elements, demand)
    for crystal, outcomes in _outcomes(crystals, pure, calculators, demand):
        lines += comparison(crystal, outcomes)
        failed += failures(crystal, outcomes)
        figures += draw(crystal, outcomes, out) if plots else []
        curves[crystal] = {who: {p: q.to_dict() for p, q in o.found.items()} for who, o in outcomes.items()}
        # What an error in the next crystal must not take along: a reference may have computed for hours.
        write_json(out / "validation.json", {"potential": name, "against": against, "table": lines, "details": curves})
    report = {"potential": name, "against": against, "table": lines, "failed": failed,
              "figures": [str(file) for file in figures], "details": curves}  # fmt: skip
    _finish(report, out / "validation.json", as_json)


def _finish(report: dict[str, Any], target: Path, as_json: bool) -> None:
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.core.files import write_json

    write_json(target, report)
    if as_json:
        click.echo(json.dumps(report))
        return
    print_table(
        f"{report['potential']} against {report['against'] or 'nothing'}",
        ("crystal", "property", "quantity", "unit", "potential", "reference", "difference (%)"),
        (
            (line["crystal"], line["property"], line["quantity"], line["unit"], line["value"], line["reference"],
             None if line["relative_difference"] is None else 100 * line["relative_difference"])
            for line in report["table"]
        ),
    )  # fmt: skip
    for line in report["failed"]:
        click.echo(f"{line['crystal']}: no {line['property']} by {line['by']}: {line['reason']}", err=True)
    click.echo(f"{target}, {len(report['figures'])} figures", err=True)


def _outcomes(crystals: dict[str, Atoms], pure: dict[str, Atoms], calculators: dict[str, Any], demand: Demand) -> Any:
    """Yield name of crystal, and who -> outcome; the reference looks at the potential's own melt."""
    from mlip_autopipec.properties.validation import pure_energies
    from mlip_autopipec.properties.validation import validate as compute

    energies = {who: pure_energies(pure, c) if len(pure) > 1 else None for who, c in calculators.items()}
    for crystal, atoms in crystals.items():
        outcomes: dict[str, Outcome] = {}
        frames = None
        for who, calculator in calculators.items():
            tell = lambda what, who=who, crystal=crystal: click.echo(f"{crystal} by {who}: {what}", err=True)  # noqa: E731
            outcomes[who] = compute(atoms, calculator, demand, pure=energies[who], frames=frames, tell=tell)
            frames = frames or outcomes[who].frames
        yield crystal, outcomes


def _wanted(only: str | None) -> tuple[str, ...]:
    from mlip_autopipec.properties.validation import PROPERTIES

    if only is None:
        return PROPERTIES
    wanted = tuple(word.strip() for word in only.split(","))
    for word in wanted:
        if word not in PROPERTIES:
            raise click.UsageError(f"--only {word}: known are {', '.join(PROPERTIES)}")
    return wanted


def _current(run_folder: Path) -> str:
    from mlip_autopipec.store.registry import Registry
    from mlip_autopipec.store.rundir import RunDirectory

    current = Registry(RunDirectory(run_folder).require().potentials).current()
    if current is None:
        raise NotFoundError(f"{run_folder}: no version yet", "give a version or a potential file")
    return current.version


def _potential(potential: Path, active_set: Path | None) -> Any:
    from mlip_autopipec.daemons.validating import by_potential

    with bad_input():
        return by_potential(potential, active_set)


def _reference(name: str, run_folder: Path, out: Path) -> Any:
    """Return the calculator that `--against` names."""
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.settings import NodeSettings
    from mlip_autopipec.daemons.validating import by_labeller, named_labeller
    from mlip_autopipec.store.rundir import RunDirectory

    if re.fullmatch(r"v\d+", name) or Path(name).suffix in (".yaml", ".yace"):
        return _potential(find_potential(name, run_folder).potential, None)
    if name == "run":
        config = load_in_force(RunDirectory(run_folder).require())
        settings, node = config.labeller_settings(), config.node
    else:
        settings, node = named_labeller(name), NodeSettings()
    folder = out / "reference"
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: exists already", "give another --out, or remove it")
    folder.mkdir(exist_ok=True)
    with bad_input():
        return by_labeller(settings, node, folder)


def _crystals(
    structures: tuple[Path, ...], elements: tuple[str, ...], demand: Demand
) -> tuple[dict[str, Atoms], dict[str, Atoms]]:
    """Return crystals of the pure elements, where they are needed, and those to validate, by name."""
    from mlip_autopipec.core.errors import DataError
    from mlip_autopipec.properties.crystal import reference_crystal

    given = {}
    for file in structures:
        for number, atoms in enumerate(each_structure(file), start=1):
            if unknown := sorted(set(atoms.get_chemical_symbols()) - set(elements)):
                raise ConfigError(f"{file}: {unknown[0]} is not in the potential", f"it has {' '.join(elements)}")
            atoms.calc = None
            given[file.stem if number == 1 else f"{file.stem}-{number}"] = atoms
    pure: dict[str, Atoms] = {}
    for element in elements if not given or "solutes" in demand.properties else ():
        try:
            pure[element] = reference_crystal(element)
        except DataError as error:
            if not given:
                raise ConfigError(error.message, error.hint) from error
    return pure, given or pure

"""Properties by a potential beside those by a reference: the table, and one figure for each. Read-only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import EngineError
from mlip_autopipec.properties.validation import Outcome

Outcomes = Mapping[str, Outcome]
"""Who computed it -> what was found; the potential first."""


def comparison(crystal: str, outcomes: Outcomes) -> list[dict[str, Any]]:
    """Return one line per quantity: the potential's value, the reference's, and the relative difference; JSON-ready."""
    ours, *others = outcomes.values()
    theirs = others[0] if others else None
    lines = []
    for name, found in ours.found.items():
        reference = theirs.found.get(name) if theirs is not None else None
        for quantity, value in found.values.items():
            other = reference.values.get(quantity) if reference is not None else None
            # Of a number that is zero but for noise no share can be told.
            relative = (value.number - other.number) / abs(other.number) if other and abs(other.number) > 1e-3 else None
            lines.append(
                {
                    "crystal": crystal,
                    "property": name,
                    "quantity": quantity,
                    "unit": value.unit,
                    "value": value.number,
                    "reference": other.number if other else None,
                    "relative_difference": relative,
                }
            )
    return lines


def failures(crystal: str, outcomes: Outcomes) -> list[dict[str, str]]:
    """Return what could not be computed, by whom, and why; JSON-ready."""
    return [
        {"crystal": crystal, "property": name, "by": who, "reason": reason}
        for who, outcome in outcomes.items()
        for name, reason in outcome.failed.items()
    ]


def draw(crystal: str, outcomes: Outcomes, folder: Path) -> list[Path]:
    """Write `CRYSTAL-PROPERTY.png` for each property that anybody has; return the files.

    Raises
    ------
    EngineError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EngineError(
            f"figures need matplotlib: {error}", "pip install 'mlip-autopipec[properties]', or --no-plots"
        ) from error
    names = dict.fromkeys(name for outcome in outcomes.values() for name in outcome.found)
    files = []
    for name in names:
        figure = Figure(figsize=(7.0 if name == "phonons" else 4.6, 3.8), layout="constrained")
        if name == "eos":
            _volumes(figure, outcomes)
        elif name == "phonons":
            _bands(figure, outcomes)
        else:
            _bars(figure, name, outcomes)
        figure.suptitle(f"{crystal}: {name}", fontsize="medium")
        files.append(folder / f"{crystal}-{name}.png")
        figure.savefig(files[-1], dpi=150)
    return files


def _curves(name: str, outcomes: Outcomes) -> list[tuple[str, Mapping[str, Any], str]]:
    """Return who, curves and line style of each."""
    styles = ("-", "--")
    return [
        (who, outcome.found[name].curves, style)
        for (who, outcome), style in zip(outcomes.items(), styles, strict=False)
        if name in outcome.found
    ]


def _volumes(figure: Any, outcomes: Outcomes) -> None:
    panel = figure.subplots()
    for who, curve, style in _curves("eos", outcomes):
        panel.plot(curve["volumes"], curve["energies"], f"o{style}", markersize=4, label=who)
    panel.set_xlabel("volume (A$^3$/atom)")
    panel.set_ylabel("energy above the minimum (eV/atom)")
    panel.legend(frameon=False)


def _bands(figure: Any, outcomes: Outcomes) -> None:
    panel, density = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for number, (who, curve, style) in enumerate(_curves("phonons", outcomes)):
        # Lattice constants differ a little, so paths do: what is compared are the same fractions of it.
        place = [x / curve["place"][-1] for x in curve["place"]]
        lines = panel.plot(place, curve["bands"], style, color=f"C{number}", linewidth=1)
        lines[0].set_label(who)
        density.plot(curve["dos"], curve["dos_frequencies"], style, color=f"C{number}", linewidth=1)
        if number == 0:
            panel.set_xticks([x / curve["place"][-1] for x in curve["ticks"]], [_point(x) for x in curve["labels"]])
    panel.axhline(0, color="0.7", linewidth=0.8)
    panel.grid(axis="x", color="0.8")
    panel.set_ylabel("frequency (THz)")
    panel.legend(frameon=False, fontsize="small")
    density.set_xlabel("density of states")


def _point(label: str) -> str:
    return "$\\Gamma$" if label == "G" else label


def _bars(figure: Any, name: str, outcomes: Outcomes) -> None:
    panel = figure.subplots()
    quantities = list(dict.fromkeys(q for o in outcomes.values() if name in o.found for q in o.found[name].values))
    width = 0.8 / len(outcomes)
    for number, (who, outcome) in enumerate(outcomes.items()):
        if name in outcome.found:
            values = outcome.found[name].values
            shown = [(place, values[q].number) for place, q in enumerate(quantities) if q in values]
            panel.bar([x + number * width for x, _ in shown], [y for _, y in shown], width, label=who)
    panel.set_xticks([x + width * (len(outcomes) - 1) / 2 for x in range(len(quantities))], quantities)
    if len(quantities) > 3:
        panel.tick_params(axis="x", rotation=45)
    panel.set_ylabel(", ".join(_units(name, outcomes)))
    panel.legend(frameon=False, fontsize="small")


def _units(name: str, outcomes: Outcomes) -> Sequence[str]:
    found = (value.unit for o in outcomes.values() if name in o.found for value in o.found[name].values.values())
    return list(dict.fromkeys(found))

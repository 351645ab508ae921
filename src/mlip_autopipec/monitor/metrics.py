"""How wrong a potential is on labels: energies, forces, stress; by group, element and between phases. Read-only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.units import GPa

from mlip_autopipec.core.conventions import stress_from_virial
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Evaluator, FloatArray
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.store.dataset import DatasetRow

# eV/A; the direction of a smaller force is noise.
_DIRECTED: Final = 0.02
_SHOWN_POINTS: Final = 20_000


@dataclass(frozen=True)
class Said:
    """What a potential says of a label.

    Attributes
    ----------
    row : the label
    energy : eV, relative to isolated atoms, the label's own
    predicted : eV, the same by the potential
    forces : (N, 3) eV/A, by the potential
    stress : (6,) eV/A^3, by the potential; None where the label has none
    """

    row: DatasetRow
    energy: float
    predicted: float
    forces: FloatArray
    stress: FloatArray | None


def said_by(evaluator: Evaluator, rows: Sequence[DatasetRow], isolated: Mapping[str, float]) -> list[Said]:
    """Evaluate labels.

    Parameters
    ----------
    evaluator
        Of a `.yaml`, whose energies leave isolated atoms out.
    isolated
        Energy of one free atom per element, eV.

    Raises
    ------
    ModelError
        It does not know an element.
    DataError
        The energy of an isolated atom is missing.
    """
    found = []
    for row in rows:
        if missing := sorted(set(row.atoms.get_chemical_symbols()) - set(isolated)):
            raise DataError(
                f"label {row.task_id}: no energy of an isolated {missing[0]} atom is known",
                "give it in training.reference_energies, and wait for the next version",
            )
        result = evaluator.evaluate(neighbourhood(row.atoms, evaluator.cutoff, evaluator.elements))
        energy = row.energy - sum(isolated[symbol] for symbol in row.atoms.get_chemical_symbols())
        stress = None if row.stress is None else stress_from_virial(result.virial, row.atoms.get_volume())
        found.append(Said(row, energy, result.energy, result.forces, stress))
    return found


def measures(said: Sequence[Said]) -> dict[str, Any]:
    """Return errors of all labels, by group and by element, and of energies between groups; JSON-ready.

    Energies in meV/atom and stress in GPa, of whole cells; forces in eV/A, of learned atoms; null where there are none.
    """
    groups: dict[str, list[Said]] = defaultdict(list)
    for one in said:
        groups[one.row.config_type].append(one)
    return {
        **_errors(said),
        "groups": {name: _errors(members) for name, members in sorted(groups.items())},
        "elements": _by_element(said),
        "phases": _between(groups),
    }


def _errors(said: Sequence[Said]) -> dict[str, Any]:
    energies = [1e3 * (s.predicted - s.energy) / len(s.row.atoms) for s in said if s.row.whole]
    forces = [(s.forces - s.row.forces)[s.row.learned] for s in said]
    stresses = [(predicted - true) / GPa for true, predicted in _stresses(said)]
    return {
        "structures": len(said),
        **_named("energy", "_mev", np.asarray(energies)),
        **_named("force", "", np.concatenate([np.zeros((0, 3)), *forces])),
        "force_cosine": _cosine(said),
        **_named("stress", "_gpa", np.asarray(stresses)),
    }


def _named(name: str, unit: str, differences: Any) -> dict[str, float | None]:
    if not differences.size:
        return {f"{name}_rmse{unit}": None, f"{name}_mae{unit}": None}
    rmse, mae = np.sqrt(np.mean(differences**2)), np.mean(np.abs(differences))
    return {f"{name}_rmse{unit}": float(rmse), f"{name}_mae{unit}": float(mae)}


def _cosine(said: Sequence[Said]) -> float | None:
    """Return the mean cosine between predicted and true forces that have a direction."""
    cosines = []
    for s in said:
        theirs, ours = s.row.forces[s.row.learned], s.forces[s.row.learned]
        lengths = np.linalg.norm(theirs, axis=1)
        directed = lengths > _DIRECTED
        product = np.einsum("ij,ij->i", theirs[directed], ours[directed])
        ours_long = np.maximum(np.linalg.norm(ours[directed], axis=1), 1e-12)
        cosines.append(product / (lengths[directed] * ours_long))
    every = np.concatenate([np.zeros(0), *cosines])
    return float(every.mean()) if every.size else None


def _by_element(said: Sequence[Said]) -> dict[str, Any]:
    found: dict[str, list[FloatArray]] = defaultdict(list)
    for s in said:
        symbols = np.asarray(s.row.atoms.get_chemical_symbols())
        for element in sorted(set(symbols)):
            found[element].append((s.forces - s.row.forces)[s.row.learned & (symbols == element)])
    return {element: _named("force", "", np.concatenate(blocks)) for element, blocks in sorted(found.items())}


def _between(groups: Mapping[str, Sequence[Said]]) -> list[dict[str, Any]]:
    """Return the difference of mean energies of each two groups of one composition, meV/atom: true, and predicted."""
    means = {}
    for name, members in groups.items():
        whole = [s for s in members if s.row.whole]
        compositions = {_composition(s.row) for s in whole}
        if len(compositions) == 1:
            energies = np.array([(s.energy, s.predicted) for s in whole]) / [[len(s.row.atoms)] for s in whole]
            means[name] = (compositions.pop(), 1e3 * energies.mean(axis=0))
    found = []
    for one, other in combinations(sorted(means), 2):
        if means[one][0] == means[other][0]:
            true, predicted = (means[other][1] - means[one][1]).tolist()
            found.append({"groups": [one, other], "label": true, "potential": predicted, "error": predicted - true})
    return found


def _composition(row: DatasetRow) -> tuple[tuple[str, float], ...]:
    symbols, counts = np.unique(row.atoms.get_chemical_symbols(), return_counts=True)
    return tuple(zip(symbols.tolist(), (counts / len(row.atoms)).round(4).tolist(), strict=True))


def draw_parity(sides: Mapping[str, Sequence[Said]], target: Path) -> None:
    """Write a figure: predicted over true energies, forces and stresses, in one colour for each side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.8), layout="constrained")
    panels = figure.subplots(1, 3)
    for name, said in sides.items():
        for panel, (true, predicted) in zip(panels, _points(said), strict=True):
            panel.plot(true[:_SHOWN_POINTS], predicted[:_SHOWN_POINTS], ".", markersize=3, label=name)
    for panel, quantity in zip(panels, ("energy (eV/atom)", "force (eV/A)", "stress (GPa)"), strict=True):
        ends = [*panel.get_xlim()]
        panel.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
        panel.set_xlabel(f"label: {quantity}")
        panel.set_ylabel(f"potential: {quantity}")
    panels[0].legend(frameon=False)
    figure.savefig(target, dpi=150)


def _points(said: Sequence[Said]) -> list[tuple[FloatArray, FloatArray]]:
    """Return true and predicted values of energies, forces and stresses."""
    whole = [s for s in said if s.row.whole]
    energies = [(np.array([s.energy / len(s.row.atoms)]), np.array([s.predicted / len(s.row.atoms)])) for s in whole]
    forces = [(s.row.forces[s.row.learned].ravel(), s.forces[s.row.learned].ravel()) for s in said]
    return [_joined(energies), _joined(forces), _joined([(t / GPa, p / GPa) for t, p in _stresses(said)])]


def _joined(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    nothing = np.zeros(0)
    return np.concatenate([nothing, *(t for t, _ in pairs)]), np.concatenate([nothing, *(p for _, p in pairs)])


def _stresses(said: Sequence[Said]) -> list[tuple[FloatArray, FloatArray]]:
    """Return true and predicted stress of whole cells that have one."""
    return [(s.row.stress, s.stress) for s in said if s.row.whole and s.row.stress is not None and s.stress is not None]


def draw_curve(lines: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write the learning curve: errors on each side over the number of labels of the versions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    named = (("energy_rmse_mev", "energy RMSE (meV/atom)"), ("force_rmse", "force RMSE (eV/A)"))
    for panel, (key, label) in zip(panels, named, strict=True):
        for side in ("train", "validation"):
            points = [(line["labels"], line[side][key]) for line in lines if line[side] and line[side][key]]
            panel.plot([x for x, _ in points], [y for _, y in points], "o-", markersize=3, label=side)
        panel.set_xlabel("labels")
        panel.set_ylabel(label)
        panel.set_yscale("log")
    panels[0].legend(frameon=False)
    figure.savefig(target, dpi=150)

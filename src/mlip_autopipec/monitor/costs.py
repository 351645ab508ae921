"""What labels cost: core-seconds by size, by rung and by end. Read-only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from mlip_autopipec.store.costs import Cost, read_costs
from mlip_autopipec.store.rundir import RunDirectory


def costs(run: RunDirectory) -> dict[str, Any]:
    """Return the ledger of a run, added up; JSON-ready, times in core-seconds."""
    return summary(read_costs(run.costs))


def summary(lines: Iterable[Cost]) -> dict[str, Any]:
    """Add costs up.

    Returns
    -------
    dict
        `labels`, `reused`, `without_label` (attempts), `core_s`, `core_s_without_label`, `core_s_per_label`, and the
        tables `sizes` (by elements and number of atoms, in powers of two), `rungs`, `ends`.
    """
    sizes: dict[tuple[str, int], list[Cost]] = defaultdict(list)
    rungs: dict[str, list[tuple[float, str]]] = defaultdict(list)
    ends: dict[str, list[Cost]] = defaultdict(list)
    for cost in lines:
        ends[cost.end].append(cost)
        sizes[_size(cost)].append(cost)
        for name, seconds, end in cost.rungs:
            rungs[name].append((cost.cores * seconds, end))
    every = [cost for group in ends.values() for cost in group]
    labels, total = len(ends["done"]), sum(cost.core_seconds for cost in every)
    lost = sum(cost.core_seconds for cost in every if cost.end not in ("done", "reused"))
    return {
        "labels": labels,
        "reused": len(ends["reused"]),
        "without_label": len(every) - labels - len(ends["reused"]),
        "core_s": total,
        "core_s_without_label": lost,
        "core_s_per_label": total / labels if labels else None,
        "sizes": [_of_size(*size, sizes[size]) for size in sorted(sizes)],
        "rungs": [_of_rung(name, runs) for name, runs in rungs.items()],
        "ends": {end: {"attempts": len(g), "core_s": sum(c.core_seconds for c in g)} for end, g in ends.items() if g},
    }


def _size(cost: Cost) -> tuple[str, int]:
    """Return the elements, and the smallest power of two that holds all atoms."""
    return "-".join(sorted(cost.species)), 1 << max(0, cost.n_atoms - 1).bit_length()


def _of_size(elements: str, most: int, group: list[Cost]) -> dict[str, Any]:
    done = [cost for cost in group if cost.end == "done"]
    spent = sum(cost.core_seconds for cost in group)
    of_labels = sum(cost.core_seconds for cost in done)
    return {
        "elements": elements,
        "atoms": f"{most // 2 + 1}-{most}" if most > 2 else str(most),
        "attempts": len(group),
        "labels": len(done),
        "reused": sum(cost.end == "reused" for cost in group),
        "core_s": spent,
        "core_s_per_label": of_labels / len(done) if done else None,
        "core_s_per_atom": of_labels / sum(cost.n_atoms for cost in done) if done else None,
    }


def _of_rung(name: str, runs: list[tuple[float, str]]) -> dict[str, Any]:
    return {
        "rung": name,
        "runs": len(runs),
        "converged": sum(end == "converged" for _, end in runs),
        "core_s": sum(spent for spent, _ in runs),
    }

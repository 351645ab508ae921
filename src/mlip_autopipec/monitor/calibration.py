"""How wrong the potential is, as a table and a plot. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.stages.calibrate import LEVEL_CONFIDENCE, QUANTILE, Pair, failure_bound, upper_quantile
from mlip_autopipec.store.calibration import Calibration, read_calibration
from mlip_autopipec.store.rundir import RunDirectory

LEVELS: Final = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, float("inf"))


def load_calibration(run: RunDirectory) -> Calibration:
    """Read the run's calibration.

    Raises
    ------
    NotFoundError
        There is none yet.
    """
    found = read_calibration(run.calibration)
    if found is None:
        raise NotFoundError(
            f"{run.calibration}: not there yet",
            "it comes with the first label that a walker asked for; is the run started?",
        )
    return found


def pairs_of(calibration: Calibration) -> list[Pair]:
    """Return the calibration's pairs."""
    return [Pair(**pair) for pair in calibration.pairs]


def relation(pairs: Sequence[Pair], target: float | None) -> list[dict[str, Any]]:
    """Return one row per level of gamma, JSON-ready.

    Each says of the audits up to it (`audits`): the median force error, a 75 % and a 95 % confidence bound of its 95 %
    quantile (eV/A; None: too few audits), and of the target how many audits exceed it and an upper bound of the share
    that does. Labels that are no audits are counted (`labels`) with their median error, but bound nothing: they are
    where gamma was high.
    """
    rows = []
    lower = 0.0
    for upper in LEVELS:
        audits = [p.error for p in pairs if p.audit and p.gamma <= upper]
        others = [p.error for p in pairs if not p.audit and lower < p.gamma <= upper]
        failures = None if target is None else sum(error > target for error in audits)
        rows.append(
            {
                "gamma_up_to": None if np.isinf(upper) else upper,
                "audits": len(audits),
                "median": _median(audits),
                "bound_75": upper_quantile(audits, QUANTILE, LEVEL_CONFIDENCE),
                "bound_95": upper_quantile(audits),
                "above_target": failures,
                "share_bound": None if failures is None else failure_bound(failures, len(audits), LEVEL_CONFIDENCE),
                "labels": len(others),
                "labels_median": _median(others),
            }
        )
        lower = upper
    return rows


def summary(calibration: Calibration) -> dict[str, Any]:
    """Return everything that `autopipe otf calibration --json` prints."""
    pairs = pairs_of(calibration)
    return {
        "version": calibration.version,
        "target": calibration.target,
        "level": calibration.level,
        "reason": calibration.reason,
        "bound": calibration.bound,
        "converged": calibration.converged,
        "relation": relation(pairs, calibration.target),
        "versions": calibration.versions,
        "pairs": _plain(calibration.pairs),
    }


def plot(calibration: Calibration, target: Path) -> None:
    """Write a figure: true force error over gamma, of audits and labels, with the bound of their 95 % quantile."""
    from matplotlib.figure import Figure

    pairs = pairs_of(calibration)
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for audit, style, name in ((False, ".", "labels, before they were learned"), (True, "o", "audits")):
        chosen = [p for p in pairs if p.audit is audit]
        gammas, errors = [max(p.gamma, 1e-2) for p in chosen], [max(p.error, 1e-6) for p in chosen]
        axes.plot(gammas, errors, style, markersize=4, label=name)
    audited = sorted({p.gamma for p in pairs if p.audit})
    for confidence, width in ((LEVEL_CONFIDENCE, 1.0), (0.95, 2.0)):
        bounds = [upper_quantile((p.error for p in pairs if p.audit and p.gamma <= g), QUANTILE, confidence)
                  for g in audited]  # fmt: skip
        known = [(g, b) for g, b in zip(audited, bounds, strict=True) if b is not None]
        if known:
            label = f"95 % of what lies below, {confidence:.0%} sure"
            axes.step(*zip(*known, strict=True), where="post", linewidth=width, label=label)
    if calibration.target is not None:
        axes.axhline(calibration.target, color="0.5", linestyle="--", label="target")
    if calibration.level is not None:
        axes.axvline(calibration.level, color="0.5", linestyle=":", label="halt level")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("gamma")
    axes.set_ylabel("true force error (eV/A)")
    axes.set_title(f"{calibration.version}")
    axes.legend(fontsize="small")
    figure.savefig(target, dpi=150)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _plain(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**pair, "level": pair["level"] if np.isfinite(pair["level"]) else None} for pair in pairs]

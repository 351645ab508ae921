"""A whole number divided by weights."""

from __future__ import annotations

from collections.abc import Mapping


def divided(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Divide a number by weights: whole numbers that sum to it, one at least for each weight above 0 if it suffices.

    By largest remainders; ties by name, so that the order does not matter. Without a weight above 0: nothing.
    """
    wanted = {name: weight for name, weight in sorted(weights.items()) if weight > 0}
    least = 1 if total >= len(wanted) else 0
    spare = total - least * len(wanted)
    exact = {name: spare * weight / sum(wanted.values()) for name, weight in wanted.items()}
    counts = {name: least + int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: int(exact[name]) - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts

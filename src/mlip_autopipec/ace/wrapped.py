"""An evaluator that changes what another one says; its elements, cutoff and whether it has a grade stay the same."""

from __future__ import annotations

from mlip_autopipec.core.interfaces import Evaluator


class WrappedEvaluator:
    """What is common to those: a subclass adds `evaluate`."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    @property
    def elements(self) -> tuple[str, ...]:
        return self._evaluator.elements

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return self._evaluator.cutoff

    @property
    def has_gamma(self) -> bool:
        return self._evaluator.has_gamma

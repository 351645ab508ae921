"""Whether the labels of a halt have helped: gamma of the halted frame by the current version, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Collection

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluator, FloatArray
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.stages.swap import Decision, decide
from mlip_autopipec.store.halts import Halt
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry


class HaltJudge:
    """Decides about the halts of one walker.

    Parameters
    ----------
    level
        Gives the gamma above which MD halts.
    refused
        Gives the task ids whose label the dataset refused.
    """

    def __init__(
        self,
        queue: TaskQueue,
        registry: Registry,
        level: Callable[[], float],
        refused: Callable[[], Collection[str]],
    ) -> None:
        self._queue = queue
        self._registry = registry
        self._level = level
        self._refused = refused
        self._gammas: dict[tuple[int, str], FloatArray] = {}  # of halted frames, by number and version

    def decide(
        self, halt: Halt, version: str, evaluator: Evaluator, *, reseeds_in_a_row: int, reseed_limit: int
    ) -> Decision:
        """Decide how a halt goes on under the current version."""
        refused = self._refused()
        newest = self._newest(version)
        return decide(
            halted_version=halt.version,
            current_version=version,
            contained={*self._registry.labels(version), *self._registry.labels(newest)},
            holder=newest,
            task_states={t: "refused" if t in refused else self._queue.state(t) for t in halt.task_ids},
            threshold=self._level(),
            reseeds_in_a_row=reseeds_in_a_row,
            reseed_limit=reseed_limit,
            gamma_now=lambda: float(self.gamma(halt, version, evaluator).max()),
            refusal=halt.refusal,
        )

    def gamma(self, halt: Halt, version: str, evaluator: Evaluator) -> FloatArray:
        """Return (N,) gamma of the halted frame under `version`.

        Raises
        ------
        ModelError
            The version has no active set.
        """
        key = (halt.number, version)
        if key not in self._gammas:
            frame = neighbourhood(halt.atoms(), evaluator.cutoff, evaluator.elements)
            gamma = evaluator.evaluate(frame, gamma=True).gamma
            if gamma is None:
                raise ModelError(f"{version}: has no active set, so nothing can be watched", "roll back to another")
            self._gammas[key] = gamma
        return self._gammas[key]

    def forget(self, halt: Halt) -> None:
        """Free what was kept of a halt that has ended."""
        self._gammas = {key: gamma for key, gamma in self._gammas.items() if key[0] != halt.number}

    def brought_labels(self, halt: Halt, version: str) -> bool:
        """True if `version` has labels of this halt that the halted one did not have."""
        held, now = self._registry.labels(halt.version), self._registry.labels(version)
        return any(task in now and task not in held for task in halt.task_ids)

    def _newest(self, version: str) -> str:
        """Return the version whose labels nobody needs to wait for: `version`, or a newer one that the user left.

        The trainer has used those, so no further version will come for their sake.
        """
        try:
            current = self._registry.current()
        except ModelError:  # the trainer repairs it, or asks a person
            return version
        # `newest` is replaced together with the current version: a version that is just being published is neither.
        return current.newest if current is not None and current.version == version else version

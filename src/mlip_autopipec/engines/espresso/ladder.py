"""How an SCF that failed is rescued: from the class of its failure and the rungs tried so far to the next rung.

`LADDER` below is the whole policy. Each class of failure has its rungs, in the order in which they are tried; the next
rung is the first of the class that was not tried yet, and what earlier rungs changed stays changed. A rung changes one
setting of `Scf`. Classes without a line do not climb: overlapping atoms or bad inputs fail at once. To change how an
SCF is rescued, change a line of `LADDER`, or add a `Rung`.

Nothing here reads or starts anything: `climb` is a function of what happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from mlip_autopipec.engines.espresso.failures import Failure, Kind


@dataclass(frozen=True)
class Scf:
    """What a rung may change; everything else of the input stays as it is.

    Attributes
    ----------
    bands : number of Kohn-Sham states; None: pw.x chooses
    """

    electron_maxstep: int
    mixing_beta: float
    degauss_ry: float
    conv_thr_ry: float
    mixing_mode: Literal["plain", "TF", "local-TF"] = "plain"
    mixing_ndim: int = 8
    diagonalization: Literal["david", "cg"] = "david"
    startingwfc: Literal["atomic+random", "random"] = "atomic+random"
    bands: int | None = None


@dataclass(frozen=True)
class Step:
    """One run of pw.x.

    Attributes
    ----------
    rung : its name
    scf : the settings it was made with
    failure : None if it converged
    states : number of Kohn-Sham states, if pw.x said it
    """

    rung: str
    scf: Scf
    failure: Failure | None
    seconds: float = 0.0
    iterations: int = 0
    states: int | None = None

    def record(self) -> dict[str, Any]:
        """Return what stands in `rungs.json`."""
        failure = self.failure
        return {
            "rung": self.rung,
            "end": "converged" if failure is None else str(failure.kind),
            "reason": "" if failure is None else failure.message,
            "seconds": round(self.seconds, 2),
            "iterations": self.iterations,
            "scf": asdict(self.scf),
        }


@dataclass(frozen=True)
class Rung:
    """One way to try again.

    Attributes
    ----------
    name : unique
    field : the one setting of `Scf` that it changes; empty if it only starts anew
    value : the setting's new value, from the last step
    start : from the density of free atoms, of the last run, or of the last run that converged
    """

    name: str
    field: str
    value: Callable[[Step], Any] = lambda step: None
    start: Literal["atoms", "last", "converged"] = "atoms"

    def apply(self, step: Step) -> Scf:
        """Return the settings of the last step with this rung's change."""
        return replace(step.scf, **{self.field: self.value(step)}) if self.field else step.scf


@dataclass(frozen=True)
class End:
    """No further rung: `label` says which step's output is the label (None: there is none), `reason` why it ends."""

    reason: str
    label: int | None = None


FIRST: Final = "as wanted"
NEAR: Final = "as wanted, from a neighbour's density"

MORE_STEPS: Final = Rung("more steps", "electron_maxstep", lambda s: 3 * s.scf.electron_maxstep, start="last")
SMALLER_MIXING: Final = Rung("smaller mixing", "mixing_beta", lambda s: min(0.2, s.scf.mixing_beta / 2))
# Screens the long waves of charge that slosh in long cells and slabs.
LOCAL_TF: Final = Rung("local-TF mixing", "mixing_mode", lambda s: "local-TF")
LONGER_MEMORY: Final = Rung("longer mixing memory", "mixing_ndim", lambda s: 20)
SMALLEST_MIXING: Final = Rung("smallest mixing", "mixing_beta", lambda s: min(0.05, s.scf.mixing_beta / 2))
LARGER_SMEARING: Final = Rung("larger smearing", "degauss_ry", lambda s: max(4 * s.scf.degauss_ry, 0.01))
LARGEST_SMEARING: Final = Rung("largest smearing", "degauss_ry", lambda s: max(4 * s.scf.degauss_ry, 0.03))
MORE_BANDS: Final = Rung("more bands", "bands", lambda s: math.ceil(1.3 * s.states) + 4 if s.states else None)
CONJUGATE_GRADIENTS: Final = Rung("conjugate gradients", "diagonalization", lambda s: "cg")
RANDOM_START: Final = Rung("random wave functions", "startingwfc", lambda s: "random")
TIGHTER: Final = Rung("tighter threshold", "conv_thr_ry", lambda s: s.scf.conv_thr_ry / 100, start="last")
ANEW: Final = Rung("start anew", "")
# Not in the ladder: what follows a success with larger smearing, repeated until the wanted width is reached. A step is
# a factor of 4 at first, and its square root after each step that failed, from the last density that converged.
_STEP_BACK: Final = "smaller smearing"
_STEP: Final = 4.0
_SHORTEST_STEP: Final = 1.15

LADDER: Final[Mapping[Kind, tuple[Rung, ...]]] = {
    Kind.NOT_CONVERGED: (MORE_STEPS, SMALLER_MIXING, LOCAL_TF, LARGER_SMEARING),
    # Free atoms and small molecules oscillate between occupations, which only smearing mends; long cells slosh.
    Kind.OSCILLATING: (
        SMALLER_MIXING,
        LARGER_SMEARING,
        LOCAL_TF,
        LARGEST_SMEARING,
        LONGER_MEMORY,
        MORE_BANDS,
        SMALLEST_MIXING,
    ),
    Kind.LOOSE_FORCES: (TIGHTER,),
    Kind.DIAGONALISATION: (CONJUGATE_GRADIENTS, RANDOM_START, MORE_BANDS, SMALLER_MIXING),
    Kind.CHOLESKY: (CONJUGATE_GRADIENTS, RANDOM_START),
    Kind.TOO_FEW_BANDS: (MORE_BANDS,),
    Kind.LOST_DENSITY: (ANEW,),
    # Conjugate gradients hold one set of wave functions instead of several.
    Kind.MEMORY: (CONJUGATE_GRADIENTS,),
}


def climb(history: Sequence[Step], *, max_rungs: int, accept_changed_smearing: bool = False) -> Rung | End:
    """Return what to do after the runs so far.

    Parameters
    ----------
    history
        All runs, the first with the wanted settings.
    max_rungs
        Largest number of rungs after the first run.
    accept_changed_smearing
        If the wanted smearing cannot be reached again, take the label of the smallest one that converged.
    """
    last = history[-1]
    wanted = history[0].scf.degauss_ry
    if last.failure is None and last.scf.degauss_ry <= wanted:
        return End("converged", label=len(history) - 1)
    if [step.rung for step in history] == [NEAR] and last.failure is not None and last.failure.kind in LADDER:
        return ANEW  # before anything is changed: perhaps only the start was bad
    if len(history) > max_rungs:
        return _give_up(history, f"all {max_rungs} rungs are used", accept_changed_smearing)
    step_back = _step_back(history, wanted)
    if step_back is not None:
        return step_back
    if last.failure is None:
        return _give_up(history, "the wanted smearing is out of reach", accept_changed_smearing)
    tried = {step.rung for step in history}
    for rung in LADDER.get(last.failure.kind, ()):
        if rung.name not in tried and (rung is ANEW or rung.apply(last) != last.scf):
            # What once converged is the best that there is to start from.
            has_converged = any(step.failure is None for step in history)
            return replace(rung, start="converged") if has_converged and rung.start == "atoms" else rung
    known = last.failure.kind in LADDER
    reason = f"every rung for '{last.failure.kind}' was tried" if known else f"no rung helps: {last.failure.kind}"
    return _give_up(history, reason, accept_changed_smearing)


def _step_back(history: Sequence[Step], wanted: float) -> Rung | None:
    """Return the next step towards the wanted smearing, if one is due."""
    last = history[-1]
    converged = [step.scf.degauss_ry for step in history if step.failure is None]
    is_stuck = last.failure is not None and last.failure.kind not in (Kind.OSCILLATING, Kind.NOT_CONVERGED)
    if not converged or is_stuck:
        return None
    failures = sum(1 for step in history if step.rung.startswith(_STEP_BACK) and step.failure is not None)
    factor = _STEP ** (0.5**failures)
    if factor < _SHORTEST_STEP:
        return None
    smaller = converged[-1] / factor
    smaller = wanted if smaller < 1.5 * wanted and factor > 2 else max(wanted, smaller)
    return Rung(f"{_STEP_BACK} {smaller:.4g} Ry", "degauss_ry", lambda _: smaller, start="converged")


def _give_up(history: Sequence[Step], reason: str, accept_changed_smearing: bool) -> End:
    converged = [i for i, step in enumerate(history) if step.failure is None]
    if converged and accept_changed_smearing:
        best = min(converged, key=lambda i: history[i].scf.degauss_ry)
        return End(f"{reason}; label with a smearing of {history[best].scf.degauss_ry:g} Ry", label=best)
    return End(reason)

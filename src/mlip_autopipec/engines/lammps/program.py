"""LAMMPS as a program of its own, e.g. `mpirun -np 64 lmp`: the generated script, run in blocks.

For clusters where LAMMPS' Python library is not there. A block begins from a restart and ends with one, so that a kill
costs at most the block. The snapshots are those of the library: a walker may go on with either.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import ConfigError, Crashed, DataError, EngineError, TimedOut
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.create import check_box
from mlip_autopipec.engines.lammps.endstate import EndState, read_end, read_looks
from mlip_autopipec.engines.lammps.forces import EXPLOSION_ADVICE, check_elements
from mlip_autopipec.engines.lammps.native import PACE, NativePotential
from mlip_autopipec.engines.lammps.outcome import RunOutcome
from mlip_autopipec.engines.lammps.schedule import SetPoints
from mlip_autopipec.engines.lammps.script import DATA, END, GAMMA, INPUT, LOG, Block, Watch, block_commands, data_file
from mlip_autopipec.engines.lammps.settings import LARGEST_SEED, LammpsSettings, MDSettings
from mlip_autopipec.engines.lammps.snapshot import Origin, pack, unpack
from mlip_autopipec.engines.lammps.state import frame_of
from mlip_autopipec.engines.lammps.swaps import Tally

log = logging.getLogger(__name__)

_LOOK_S = 0.1
_BEGIN = "begin.restart"
_OUTPUT = "lammps.out"


class LammpsProgram:
    """One MD walker with the face of `LammpsMD`; see there.

    Parameters
    ----------
    evaluator
        A `NativePotential`: its files are what LAMMPS reads.
    lammps
        The command.
    folder
        Where it runs: input, log, dumps and restarts of the last block stay there.
    wrap
        Gives the command that is really started, e.g. one that dies with this process.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        settings: MDSettings,
        lammps: LammpsSettings,
        folder: Path,
        *,
        wrap: Callable[[Sequence[str]], list[str]] = list,
    ) -> None:
        self.gamma_every = 1
        self.halt_above = np.inf
        self.tally = Tally()
        self.settings = settings
        self.folder = folder
        self._potential = _native(evaluator)
        self._lammps = lammps
        self._wrap = wrap
        self._course = settings.course()
        self._origin: Origin | None = None
        self._end: EndState | None = None
        self._source = DATA
        self._step = 0
        self._draw: tuple[float, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, atoms: Atoms, velocity_seed: int | None = None) -> None:
        """Begin at step 0 with the momenta of `atoms`, or with a Maxwell-Boltzmann draw if it has none.

        Raises
        ------
        DataError, ModelError, ConfigError
            As `LammpsMD.start`.
        """
        check_elements(self._potential, set(atoms.get_chemical_symbols()))
        origin = Origin(tuple(self._potential.elements), BoxMap.of(atoms, self.settings.dimension))
        check_box(self.settings, origin.box)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / DATA, data_file(origin, atoms))
        seed = self.settings.seed if velocity_seed is None else velocity_seed
        draw = None if atoms.has("momenta") else (self._course.at(0).temperature, seed)
        self._origin, self._source, self._step, self._end, self._draw = origin, DATA, 0, None, draw

    def restore(self, path: Path) -> None:
        """Go back to what `save` wrote, here or in `LammpsMD`."""
        origin, restart, step = unpack(path)
        if step is None:
            raise DataError(
                f"{path}: a snapshot of an earlier version does not tell its step", "let LAMMPS' library run"
            )
        if origin.box.dimension != self.settings.dimension:
            raise ConfigError(f"{path}: a {origin.box.dimension}-dimensional state, not what the settings say")
        check_box(self.settings, origin.box)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _BEGIN).write_bytes(restart)
        self._origin, self._source, self._step, self._end, self._draw = origin, _BEGIN, step, None, None

    def snapshot(self) -> bytes:
        """Return the whole state: what `restore` takes in a file."""
        self._settle()
        return pack(self._known(), (self.folder / _BEGIN).read_bytes(), self._step)

    def run(self, steps: int) -> RunOutcome:
        """Advance by `steps` or to the halt, whichever comes first, in one program call for each leg of the schedule.

        Raises
        ------
        Crashed
            LAMMPS failed.
        TimedOut
            It wrote nothing for longer than `lammps.timeout_s`.
        """
        target, looks = self._step + steps, []
        halted, escaped, first = False, "", True
        while first or (self._step < target and not halted and not escaped):
            leg = self._course.leg(self._step)
            stop = target if leg.end is None else min(target, leg.end)
            end = self._run_block(stop - self._step)
            new = read_looks(self.folder / GAMMA)
            looks += new
            halted = bool(new) and new[-1][0] == end.step and not new[-1][1] <= self.halt_above
            if end.step < stop and not halted:
                escaped = self._escape(end, stop)
            first = False
        return _outcome(self._settle(), looks, halted, escaped)

    def swap(self, evaluator: Evaluator) -> None:
        """Go on with another potential from the next block on."""
        potential = _native(evaluator)
        check_elements(potential, {self._known().elements[t - 1] for t in set(self._settle().types.tolist())})
        if potential.elements != self._known().elements:
            raise EngineError("the new potential's elements stand in another order", "start MD anew from a snapshot")
        self._potential, self._end = potential, None

    def reseed(self, seed: int, temperature: float | None = None) -> None:
        """Draw new velocities at `temperature`, K (default: what the schedule says now)."""
        self._draw, self._end = (self.set_points().temperature if temperature is None else temperature, seed), None

    def frame(self) -> Atoms:
        """Return the present frame, as `LammpsMD.frame`."""
        end, origin = self._settle(), self._known()
        symbols = [origin.elements[t - 1] for t in end.types]
        return frame_of(origin, symbols, end.positions, end.velocities, end.box, end.step, end.evaluation)

    def set_points(self) -> SetPoints:
        """Return what the schedule wants at the present step."""
        return self._course.at(self._step)

    @property
    def step(self) -> int:
        return self._step

    def close(self) -> None:
        """End the program if one is running."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _known(self) -> Origin:
        if self._origin is None:
            raise EngineError("MD has not been started", "call start or restore first")
        return self._origin

    def _settle(self) -> EndState:
        """Return the present state; let LAMMPS look at it, without a step, if it has not yet."""
        return self._end if self._end is not None else self._run_block(0)

    def _run_block(self, steps: int) -> EndState:
        """Let LAMMPS make one block, and take its end as the present state."""
        leg = self._course.leg(self._step)
        seed = (self.settings.seed + 7919 * self._step) % LARGEST_SEED + 1
        block = Block(self._source, self._step, steps, leg, seed, self._draw)
        watch = Watch(self.gamma_every, self.halt_above)
        lines = block_commands(block, self._known(), self.settings, self._potential, watch)
        write_text(self.folder / INPUT, "\n".join(lines) + "\n")
        for name in (f"{END}.dump", f"{END}.restart", GAMMA, LOG):
            if name != self._source:
                (self.folder / name).unlink(missing_ok=True)
        self._call()
        end = read_end(self.folder / f"{END}.dump", self.folder / LOG)
        if not np.isfinite(end.evaluation.forces).all() or not np.isfinite(end.evaluation.energy):
            raise Crashed(f"MD exploded: the forces of step {end.step} are not finite", EXPLOSION_ADVICE)
        # The restart that the next block begins from must not be the one that it writes.
        os.replace(self.folder / f"{END}.restart", self.folder / _BEGIN)
        self._source, self._step, self._end, self._draw = _BEGIN, end.step, end, None
        return end

    def _call(self) -> None:
        """Run the command to its end, watching its log."""
        words = [*shlex.split(str(self._lammps.command)), "-in", INPUT, "-log", LOG, "-screen", "none", "-nocite"]
        with (self.folder / _OUTPUT).open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    self._wrap(words), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            except OSError as error:
                raise Crashed(f"lammps.command: {words[0]}: does not start: {error}", "correct the command") from error
            try:
                self._wait()
            finally:
                code = self._process.poll()
                self.close()
        if code != 0:
            raise Crashed(f"LAMMPS failed: exit code {code}: {_reason(self.folder)}", _advice(_reason(self.folder)))

    def _wait(self) -> None:
        """Wait for the end of the program as long as its log grows."""
        process, size, since = self._process, -1, time.monotonic()
        while process is not None and process.poll() is None:
            now = (self.folder / LOG).stat().st_size if (self.folder / LOG).exists() else 0
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > self._lammps.timeout_s:
                raise TimedOut(
                    f"LAMMPS wrote nothing into {self.folder / LOG} for {self._lammps.timeout_s:g} s",
                    "is it hung? else raise lammps.timeout_s",
                )
            time.sleep(_LOOK_S)

    def _escape(self, end: EndState, stop: int) -> str:
        bounds = self.settings.density_bounds
        if bounds is None:
            raise Crashed(f"LAMMPS ended at step {end.step}, before {stop}", _reason(self.folder))
        return f"density {end.density:.4g} g/cm^3 at step {end.step}, outside [{bounds[0]:g}, {bounds[1]:g}]"


def check_command(command: str) -> None:
    """Refuse a command that is no LAMMPS with ML-PACE; asks it for its styles.

    Raises
    ------
    ConfigError
    """
    words = [*shlex.split(command), "-h"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"lammps.command: {command!r}: does not run: {error}", "give the command as in a shell"
        ) from error
    if "LAMMPS" not in done.stdout:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ConfigError(f"lammps.command: {command!r}: is no LAMMPS: {said}", "it must run `lmp`")
    if PACE not in done.stdout.split():
        raise ConfigError(
            f"lammps.command: {command!r}: this LAMMPS has no pair_style {PACE}",
            "name a LAMMPS that was built with the package ML-PACE, or leave lammps.command out",
        )


def _native(evaluator: Evaluator) -> NativePotential:
    if not isinstance(evaluator, NativePotential):
        raise EngineError("LAMMPS as a program evaluates the potential itself", "take otf.engine: native or auto")
    return evaluator


def _outcome(end: EndState, looks: list[tuple[int, float, int]], halted: bool, escaped: str) -> RunOutcome:
    worst = None
    if looks:
        worst = looks[-1] if halted else max(looks, key=lambda look: look[1])
    return RunOutcome(
        step=end.step,
        halted=halted,
        gamma_max=None if worst is None else worst[1],
        gamma_argmax=-1 if worst is None else worst[2] - 1,
        potential_energy=end.evaluation.energy,
        temperature=end.temperature,
        checks=tuple(dict.fromkeys((step, gamma) for step, gamma, _ in looks)),
        escaped=escaped,
    )


def _reason(folder: Path) -> str:
    """Return LAMMPS' own words."""
    for name in (LOG, _OUTPUT):
        file = folder / name
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        if told := [line for line in lines if line.startswith("ERROR")]:
            return told[-1]
    return f"see {folder / _OUTPUT}"


def _advice(reason: str) -> str:
    exploded = "ost atoms" in reason or "Non-numeric" in reason
    return f"MD exploded: {EXPLOSION_ADVICE}" if exploded else "see lammps.out and log.lammps in its folder"

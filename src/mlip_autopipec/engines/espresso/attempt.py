"""One attempt at one label: runs pw.x, climbs the ladder when it fails, and writes down every rung.

The files of the last run lie in the attempt's folder, those of failed ones in `rung-0/`, `rung-1/` ..., and
`rungs.json` tells the story. What is tried next is not decided here, but in `ladder`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ase.calculators.espresso import EspressoProfile, EspressoTemplate

from mlip_autopipec.core.errors import AutopipeError, TimedOut
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.periodic import Job
from mlip_autopipec.core.program import run_program
from mlip_autopipec.core.structure import structure_to_dict
from mlip_autopipec.engines.espresso.choices import Choices
from mlip_autopipec.engines.espresso.failures import Failure, Kind, Report, classify
from mlip_autopipec.engines.espresso.inputs import wanted_scf, write_input
from mlip_autopipec.engines.espresso.ladder import FIRST, LADDER, NEAR, End, Rung, Scf, Step, climb
from mlip_autopipec.engines.espresso.neighbours import DensityMemory
from mlip_autopipec.engines.espresso.outputs import cores_of, read_label
from mlip_autopipec.engines.espresso.scratch import (
    Scratch,
    forget_densities,
    keep_density,
    lay_density,
    scratch_folder,
)
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings
from mlip_autopipec.engines.espresso.trace import Trace, states

_CONTINUED = "continued from the density of an earlier attempt"
_TIME_OVER = "the time is over"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# pw.x does nothing useful in less, s.
_LEAST_S = 0.01


class Attempt:
    """Labels one structure.

    Parameters
    ----------
    job
        What to compute.
    settings, choices, node
        What decides the label, what that left open, and how this node runs pw.x.
    program
        Command of pw.x with whatever stands before it.
    folder
        Existing folder of this attempt, absolute.
    memory
        Densities of earlier labels.
    """

    def __init__(
        self,
        job: Job,
        settings: EspressoSettings,
        choices: Choices,
        node: EspressoNode,
        program: Sequence[str],
        folder: Path,
        memory: DensityMemory | None = None,
    ) -> None:
        self._job = job
        self._settings = settings
        self._choices = choices
        self._node = node
        self._profile = EspressoProfile(command=shlex.join(program), pseudo_dir=node.pseudo_dir.resolve())
        self._folder = folder
        self._memory = memory if memory is not None and memory.takes(job, choices.nspin) else None
        self._template = EspressoTemplate()
        self._steps: list[Step] = []
        self._reports: list[Report] = []
        now = time.monotonic()
        left = node.seconds_left(now)
        self._deadline, self._cut_short = now + left, left < node.max_seconds
        content = [structure_to_dict(job.atoms), settings.model_dump(mode="json"), job.kpoints]
        self._key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def label(self) -> Label:
        """Run pw.x until there is a label or no rung is left.

        Raises
        ------
        EngineError, ConfigError, DataError
            Why there is no label. What may work when tried again is transient, and the density is kept for that.
        """
        if self._cut_short and self._deadline - time.monotonic() <= _LEAST_S:
            raise TimedOut("no time is left on this machine", "another worker takes the task", transient=True)
        try:
            return self._label()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            place = error.filename or self._node.scratch or self._folder
            raise Failure(Kind.DISK, f"{place}: {error.strerror}").error() from error

    def _label(self) -> Label:
        with scratch_folder(self._folder, self._node.scratch) as scratch:
            end = self._climb(scratch)
            self._write_story(end)
            if end.label is None:
                raise self._error(end, scratch)
            if self._memory is not None and end.label == len(self._steps) - 1:
                self._memory.keep(self._job, self._settings, scratch)
        label = self._read(end.label)
        forget_densities(self._folder, self._key)
        return label

    def _climb(self, scratch: Scratch) -> End:
        continued = lay_density(scratch, self._folder, self._key)
        scf, name = wanted_scf(self._settings), _CONTINUED if continued else FIRST
        if not continued and self._memory is not None and self._memory.lay(self._job, self._settings, scratch):
            continued, name = True, NEAR
        while True:
            self._run(name, scf, scratch, from_density=continued)
            self._write_story(None)
            decision = climb(
                self._steps,
                max_rungs=self._settings.max_rungs,
                accept_changed_smearing=self._settings.accept_changed_smearing,
            )
            if isinstance(decision, End):
                return decision
            if self._deadline - time.monotonic() <= _LEAST_S:
                return End(_TIME_OVER)
            scf, name = decision.apply(self._steps[-1]), decision.name
            continued = self._step_over(decision, scratch)

    def _step_over(self, rung: Rung, scratch: Scratch) -> bool:
        """Put the files of the last run aside; return whether the next one starts from its density."""
        aside = self._aside(len(self._steps) - 1)
        aside.mkdir(exist_ok=True)
        for file in (self._template.inputname, self._template.outputname, self._template.errorname, "CRASH"):
            if (self._folder / file).exists():
                (self._folder / file).replace(aside / file)
        if rung.start == "converged":
            return scratch.recall()
        if rung.start == "last" and scratch.has_density:
            return True
        scratch.clear()
        return False

    def _run(self, name: str, scf: Scf, scratch: Scratch, *, from_density: bool) -> None:
        """Run pw.x once and remember how it ended."""
        # pw.x appends to nothing, but a CRASH file of an earlier run would be taken for this one's.
        (self._folder / "CRASH").unlink(missing_ok=True)
        left = max(self._deadline - time.monotonic(), _LEAST_S)
        template = write_input(
            self._job,
            self._settings,
            self._choices,
            self._profile,
            self._folder,
            scf=scf,
            from_density=from_density,
            outdir=scratch.name,
            max_seconds=round(left, 3),
            # Once it climbs, a run that converges may be what the next rung starts from.
            leaves_density=bool(self._steps) or self._memory is not None,
        )
        output = self._folder / template.outputname
        ended = run_program(
            self._profile.get_command(template.inputname),
            self._folder,
            output,
            self._folder / template.errorname,
            self._environment(),
            left + self._node.kill_grace_s,
            lambda: self._is_hopeless(output),
        )
        report = Report.of(self._folder, ended, output=template.outputname, error=template.errorname)
        trace = Trace.of(report.output)
        # On a full disk pw.x loses wave functions and densities without a word.
        failure = Failure(Kind.DISK, f"{scratch.path}: the disk is full") if scratch.is_full() else classify(report)
        if failure is None:
            scratch.remember()
        self._reports.append(report)
        self._steps.append(Step(name, scf, failure, ended.seconds, len(trace.accuracies), states(report.output)))

    def _is_hopeless(self, output: Path) -> bool:
        text = output.read_text(encoding="utf-8", errors="replace")
        return Trace.of(text).is_hopeless(self._settings.hopeless_iterations)

    def _read(self, index: int) -> Label:
        """Read the label of one run, and say how it was made."""
        label = read_label(self._reports[index], len(self._job.atoms), stress=self._job.stress)
        scf = self._steps[index].scf
        label.info["scf"] = asdict(scf)
        label.info["rungs"] = [
            {"rung": s.rung, "end": s.record()["end"], "seconds": round(s.seconds, 2)} for s in self._steps
        ]
        label.info["cores"] = self._cores()
        label.info["seconds"] = round(sum(step.seconds for step in self._steps), 2)
        label.info["smearing_changed"] = scf.degauss_ry != self._settings.degauss_ry
        return label

    def _error(self, end: End, scratch: Scratch) -> AutopipeError:
        """Return the error of the last run, and keep the density if another attempt can use it."""
        last = self._steps[-1]
        failure = last.failure
        if failure is None:
            kind = Kind.MAX_TIME if end.reason == _TIME_OVER else Kind.OSCILLATING
            width = last.scf.degauss_ry
            failure = Failure(kind, f"SCF converges with a smearing of {width:.3g} Ry, not with the wanted one")
        error = failure.error()
        tried = [step.rung for step in self._steps[1:]]
        if failure.kind in LADDER:
            error.message += f"; {end.reason}" + (f"; tried: {', '.join(tried)}" if tried else "")
        last_in_time = failure.kind is not Kind.MAX_TIME or last.iterations > 0
        out_of_time = end.reason == _TIME_OVER or failure.kind is Kind.MAX_TIME
        # What a full disk took of a density is not worth keeping.
        worth = failure.kind is not Kind.DISK and (error.transient or (out_of_time and last_in_time))
        kept = worth and keep_density(scratch, self._folder, self._key)
        # Another attempt gets further: from the density, or with the time that this machine did not have.
        if out_of_time and (kept or self._cut_short):
            error.transient = True
            error.hint = "the next attempt continues it; else raise node.espresso.max_seconds"
        elif not error.transient:
            forget_densities(self._folder, self._key)
        return error

    def _write_story(self, end: End | None) -> None:
        """Write `rungs.json`: every run so far, and how it ended."""
        write_json(
            self._folder / "rungs.json",
            {
                "rungs": [step.record() for step in self._steps],
                "end": end.reason if end else "climbing",
                "cores": self._cores(),
            },
        )

    def _cores(self) -> int:
        return max((cores_of(report.output) for report in self._reports), default=1)

    def _aside(self, index: int) -> Path:
        return self._folder / f"rung-{index}"

    def _environment(self) -> dict[str, str]:
        count = str(self._node.threads)
        return {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count}

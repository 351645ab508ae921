"""Every way in which VASP ends without a label. To teach the program a new message, add a line to `_SAYINGS`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import (
    AutopipeError,
    ConfigError,
    Crashed,
    NotConverged,
    OutputUnreadable,
    TimedOut,
)
from mlip_autopipec.core.program import Ended, Stop

STDOUT: Final = "vasp.out"
STDERR: Final = "vasp.err"
_KEPT: Final = "its input and output are kept in the attempt's folder"
_SLOWER: Final = "lower labeller.mixing_amix, raise labeller.electron_maxstep or labeller.sigma_ev, or algo: All"
_SYMMETRY: Final = "switch symmetry off: labeller.incar: {isym: 0}"

# What VASP, MPI and the Fortran runtime say: words, family, what the user can do, whether the same may work again.
_SAYINGS: Final[list[tuple[re.Pattern[str], type[AutopipeError], str, bool]]] = [
    (re.compile(words, re.IGNORECASE), family, hint, transient)
    for words, family, hint, transient in [
        (r"No space left on device|Disk quota exceeded|severe \(38\)", Crashed, "make room on the disk", True),
        (
            r"insufficient virtual memory|Cannot allocate memory|bad_alloc|out[ -]of[ -]memory|oom[ -]kill"
            r"|exceed memory limit",
            Crashed,
            "fewer atoms per cell, more memory, or more nodes in node.vasp.command",
            False,
        ),
        (
            r"Error EDDDAV|Error EDDRMM|ZHEGV|ZPOTRF|ZHEEV|DSYEV|ZTRTRI|Routine \w+ failed",
            Crashed,
            "its diagonalisation failed: labeller.algo: Normal or All, or labeller.incar: {lreal: Auto}",
            False,
        ),
        (
            r"POSMAP|ROTMAT|SGRCON|PRICEL|SYMPREC|rotation matrix was not found|group operation missing|IBZKPT"
            r"|Reciprocal lattice and k-lattice",
            Crashed,
            _SYMMETRY,
            False,
        ),
        (
            r"Error reading item|error reading .*INCAR|(reading|syntax|parsing).*(INCAR|POSCAR|KPOINTS|POTCAR)|SICK JOB"
            r"|Unknown (tag|keyword)",
            ConfigError,
            "VASP refuses its input: check the labeller section and the POTCARs",
            False,
        ),
        (r"very serious problems", NotConverged, _SLOWER, False),
        (r"SIGSEGV|segmentation fault|severe \(174\)", Crashed, "often the stack: ulimit -s unlimited", True),
        (r"VERY BAD NEWS", Crashed, _KEPT, False),
    ]
]
# Said by runs that end well, with an energy that lacks the bands above.
_TOO_FEW_BANDS = re.compile(r"highest band is occupied|too few bands|number of bands is not sufficient", re.IGNORECASE)
_ITERATION = re.compile(r"-+ Iteration\s+\d+\(\s*(\d+)\)")
_LOOP = re.compile(r"aborting loop (.*)")
_FRAME = re.compile(r"^[\s|#\-*!?]+|[\s|#\-*!?]+$")


@dataclass(frozen=True)
class Report:
    """What VASP left behind: how it ended, OUTCAR, and what it printed on stdout and stderr."""

    ended: Ended
    outcar: str
    output: str
    error: str

    @classmethod
    def of(cls, folder: Path, ended: Ended) -> Report:
        """Read VASP's files; a file that is not there is empty."""
        return cls(ended, *(_text(folder / name) for name in ("OUTCAR", STDOUT, STDERR)))

    @property
    def iterations(self) -> int:
        """SCF steps that OUTCAR tells of."""
        found = _ITERATION.findall(self.outcar)
        return int(found[-1]) if found else 0


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def classify(report: Report) -> AutopipeError | None:
    """Return why there is no label, or None if VASP says that there is one.

    VASP ends with exit code 0 also when its SCF did not converge, and older versions when they refuse their input.
    """
    ended = report.ended
    if ended.stop is Stop.TIME:
        return TimedOut(
            f"VASP was killed at its time limit after {ended.seconds:.0f} s and {report.iterations} SCF iterations",
            "raise node.vasp.max_seconds, or carve smaller cells",
        )
    if (found := _TOO_FEW_BANDS.search(report.output) or _TOO_FEW_BANDS.search(report.outcar)) is not None:
        hint = "more bands: labeller.incar: {nbands: N}, or lower labeller.sigma_ev"
        return Crashed(f"VASP: {_line_around(found)}", hint)
    if ended.code != 0 or "General timing and accounting" not in report.outcar:
        return _from_sayings(report) or _from_exit(report)
    loops = _LOOP.findall(report.outcar)
    if not loops or "EDIFF is reached" not in loops[-1]:
        return NotConverged(f"VASP's SCF did not converge in {report.iterations} iterations", _SLOWER)
    return None


def _from_sayings(report: Report) -> AutopipeError | None:
    """Return what a run that broke off says of itself; one that ended well got over it."""
    for words, family, hint, transient in _SAYINGS:
        for text in (report.error, report.output, report.outcar):
            if (found := words.search(text)) is not None:
                return family(f"VASP: {_line_around(found)}", hint, transient=transient)
    return None


def _from_exit(report: Report) -> AutopipeError:
    code = report.ended.code
    lines = [_FRAME.sub("", line) for line in (report.error.strip() or report.output).splitlines()]
    said = " ".join([line for line in lines if line][-3:])[-300:] or "it said nothing"
    if code < 0:
        return Crashed(
            f"VASP was killed by signal {-code} after {report.iterations} SCF iterations",
            "it may work when tried again; signal 9 is often the kernel short of memory",
            transient=True,
        )
    if code in (126, 127):
        return ConfigError(f"VASP could not be started: {said}", "correct node.vasp.command")
    if code:
        return Crashed(f"VASP ended with exit code {code}: {said}", _KEPT, transient=True)
    return OutputUnreadable(f"VASP ended, but its OUTCAR is not complete: {said}", _KEPT)


def _line_around(found: re.Match[str]) -> str:
    """Return the line of a match without the frame that VASP draws around its messages.

    Of a job that VASP refuses, the line that says why: it stands before the refusal.
    """
    lines = found.string[: found.end()].splitlines()
    lines[-1] += found.string[found.end() :].partition("\n")[0]
    plain = [line for line in (_FRAME.sub("", line) for line in lines) if line]
    refused = "SICK JOB" in plain[-1] and len(plain) > 1
    return plain[-2 if refused else -1][:300]


def converged_steps(outcar: str) -> int:
    """Return how many SCFs of an OUTCAR say that they converged."""
    return sum("EDIFF is reached" in reason for reason in _LOOP.findall(outcar))

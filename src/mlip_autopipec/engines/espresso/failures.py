"""Every way in which pw.x ends without a label: its class, which the ladder climbs by, and the error for the user.

To teach the program a new message of pw.x, add a line to `_BOXES` (its error boxes) or `_SAYINGS` (what it, MPI or the
Fortran runtime print elsewhere).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import (
    AutopipeError,
    ConfigError,
    Crashed,
    DataError,
    NotConverged,
    OutputUnreadable,
    TimedOut,
)
from mlip_autopipec.core.program import Ended, Stop
from mlip_autopipec.engines.espresso.trace import Trace


class Kind(StrEnum):
    """Classes of failure."""

    NOT_CONVERGED = "not converged"  # out of iterations while the residual fell
    OSCILLATING = "oscillating"  # out of iterations, or stopped by us, without a residual that falls
    LOOSE_FORCES = "loose forces"  # converged, but the forces are not settled
    DIAGONALISATION = "diagonalisation"
    CHOLESKY = "Cholesky"
    TOO_FEW_BANDS = "too few bands"
    LOST_DENSITY = "lost density"  # the density of an earlier run cannot be read
    MAX_TIME = "max time"
    MEMORY = "memory"
    DISK = "disk"
    OVERLAP = "overlapping atoms"
    MISSING_PSEUDOPOTENTIAL = "missing pseudopotential"
    BAD_INPUT = "bad input"
    NO_PROGRAM = "no program"
    KILLED = "killed"
    CRASHED = "crashed"
    UNREADABLE = "unreadable"


_KEPT = "its input and output are kept in the attempt's folder"
_SETTINGS = "pw.x refuses its input: check the labeller section and the pseudopotentials"
_SLOWER = "lower labeller.mixing_beta, raise labeller.electron_maxstep or labeller.degauss_ry"
_LONGER = "raise node.espresso.max_seconds, or carve smaller cells"

# Kind -> family of error, what the user can do, and whether the same may work when tried again.
_ERRORS: Final[dict[Kind, tuple[type[AutopipeError], str, bool]]] = {
    Kind.NOT_CONVERGED: (NotConverged, _SLOWER, False),
    Kind.OSCILLATING: (NotConverged, _SLOWER, False),
    Kind.LOOSE_FORCES: (NotConverged, "lower labeller.conv_thr_ry", False),
    Kind.DIAGONALISATION: (Crashed, _KEPT, False),
    Kind.CHOLESKY: (Crashed, _KEPT, False),
    Kind.TOO_FEW_BANDS: (Crashed, "lower labeller.degauss_ry", False),
    Kind.LOST_DENSITY: (Crashed, _KEPT, True),
    Kind.MAX_TIME: (TimedOut, _LONGER, False),
    Kind.MEMORY: (Crashed, "fewer atoms per cell, more memory, or more nodes in node.espresso.command", False),
    Kind.DISK: (Crashed, "make room on the disk of node.espresso.scratch", True),
    Kind.OVERLAP: (DataError, "the structure is unphysical: its atoms lie upon each other", False),
    Kind.MISSING_PSEUDOPOTENTIAL: (ConfigError, _SETTINGS, False),
    Kind.BAD_INPUT: (ConfigError, _SETTINGS, False),
    Kind.NO_PROGRAM: (
        ConfigError,
        "correct node.espresso.command; mpirun needs --allow-run-as-root as root, and a core for each process",
        False,
    ),
    Kind.KILLED: (Crashed, "it may work when tried again; signal 9 is often the kernel short of memory", True),
    Kind.CRASHED: (Crashed, _KEPT, True),
    Kind.UNREADABLE: (OutputUnreadable, "look into the output in the attempt's folder", False),
}


@dataclass(frozen=True)
class Failure:
    """Why there is no label: its class, and one line for people."""

    kind: Kind
    message: str

    def error(self) -> AutopipeError:
        """Return the error of the house that says the same."""
        family, hint, transient = _ERRORS[self.kind]
        return family(self.message, hint, transient=transient)


# pw.x's error boxes: routine, text, class; the first line that fits counts.
_BOXES: Final = [
    (re.compile(routine, re.IGNORECASE), re.compile(text, re.IGNORECASE), kind)
    for routine, text, kind in [
        (r".*", r"allocat", Kind.MEMORY),
        (r"check_atoms|.*", r"overlap!|differ by lattice vector", Kind.OVERLAP),
        (r"readpp|read_pseudo.*|read_upf.*", r"not found|error opening|does not exist", Kind.MISSING_PSEUDOPOTENTIAL),
        (r".*diaghg.*", r"cholesky|positive definite", Kind.CHOLESKY),
        (r".*diaghg.*|c_bands|[cr]egterg|.*rotate.*|ccgdiagg|rcgdiagg|ppcg.*", r"", Kind.DIAGONALISATION),
        (r"efermi.*", r"", Kind.TOO_FEW_BANDS),
        (r"setup", r"too few bands", Kind.TOO_FEW_BANDS),
        (r"electrons", r"smearing is needed", Kind.BAD_INPUT),
        # Bands that were lost on the way, not bands that were never asked for.
        (r"electrons", r"charge is wrong", Kind.DIAGONALISATION),
        (r"read_rhog?|read_scf|read_paw.*|potinit", r"", Kind.LOST_DENSITY),
        (r"davcio|diropn|write_.*|.*rhog|open_buffer|seqopn", r"", Kind.DISK),
        # Routines that read settings and pseudopotentials: they are wrong, and so will be the next attempt.
        (
            r"readpp|iosys|setup|set_.*|.*checkin|read_.*|card_.*|set_dft.*|upf.*|.*_input|.*input_file|scale_h",
            r"",
            Kind.BAD_INPUT,
        ),
    ]
]

# What is said outside of boxes, in pw.x's output or on its stderr.
_SAYINGS: Final = [
    (re.compile(text, re.IGNORECASE), kind)
    for text, kind in [
        (r"No space left on device|Disk quota exceeded|File too large", Kind.DISK),
        (
            r"Cannot allocate memory|Error allocating|exceed memory limit|bad_alloc|out[ -]of[ -]memory|oom[ -]kill",
            Kind.MEMORY,
        ),
        (r"problems computing cholesky|S matrix not positive definite", Kind.CHOLESKY),
        # Open MPI's launcher: as root without --allow-run-as-root, and with more processes than cores.
        (r"attempt to run as root|not enough slots available", Kind.NO_PROGRAM),
    ]
]

_BOX = re.compile(r"Error in routine\s+(\S+)\s+\(\s*(-?\d+)\s*\):\s*\n\s*(.*)")
_CRASH = re.compile(r"from\s+(\S+)\s*:\s*error #\s*(-?\d+)\s*\n\s*(.*)")
_IN_ITERATION = re.compile(
    r"^\s+iteration #[^\n]*\n(?!.*(estimated scf accuracy|End of self))", re.MULTILINE | re.DOTALL
)
_FORCE = re.compile(r"^\s+atom\s+\d+\s+type\s+\d+\s+force =(.*)$", re.MULTILINE)
_SETTLED = re.compile(r"Total force =\s*(\S+)\s+Total SCF correction =\s*(\S+)")
# Forces must be settled to this fraction of the total force, or, where symmetry makes them vanish, to 1 meV/A.
_SETTLED_FRACTION = 0.02
_SETTLED_RY_BOHR = 4e-5


@dataclass(frozen=True)
class Report:
    """What pw.x left behind: how it ended, its output, its error output and its CRASH file."""

    ended: Ended
    output: str
    error: str
    crash: str

    @classmethod
    def of(cls, folder: Path, ended: Ended, *, output: str, error: str) -> Report:
        """Read the files of these names; a file that is not there is empty."""
        return cls(ended, *(_text(folder / name) for name in (output, error, "CRASH")))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def classify(report: Report) -> Failure | None:
    """Return why there is no label, or None if pw.x says that there is one.

    The order matters: a run that did not converge has exit code 2 *and* prints JOB DONE, and overlapping atoms exit
    with code 0.
    """
    ended, output = report.ended, report.output
    trace = Trace.of(output)
    if ended.stop is Stop.HOPELESS:
        return Failure(Kind.OSCILLATING, f"SCF was stopped, its residual does not fall: {trace}")
    if ended.stop is Stop.TIME:
        return Failure(Kind.MAX_TIME, f"pw.x was killed after {ended.seconds:.0f} s, {trace}")
    if "Maximum CPU time exceeded" in output:
        return Failure(Kind.MAX_TIME, f"pw.x stopped at its time limit after {ended.seconds:.0f} s, {trace}")
    if "convergence NOT achieved" in output:
        kind = Kind.NOT_CONVERGED if trace.falls() else Kind.OSCILLATING
        return Failure(kind, f"SCF did not converge, {trace}")
    box = _CRASH.search(report.crash) or _BOX.search(output)
    if box:
        return _from_box(box[1], box[2], box[3].strip())
    if ended.code != 0 or "JOB DONE" not in output:
        return _from_exit(report)
    if "convergence has been achieved" not in output:
        return Failure(Kind.UNREADABLE, "pw.x ended, but does not say that the SCF converged")
    return _from_forces(output)


def _from_box(routine: str, number: str, text: str) -> Failure:
    message = f"pw.x: {routine} ({number}): {text or 'no reason given'}"
    for wanted, words, kind in _BOXES:
        if wanted.fullmatch(routine) and words.search(text):
            return Failure(kind, message)
    return Failure(Kind.CRASHED, message)


def _from_exit(report: Report) -> Failure:
    code = report.ended.code
    said = " ".join((report.error.strip() or report.output.strip()).splitlines()[-3:]).strip()[-300:]
    for words, kind in _SAYINGS:
        found = words.search(report.error) or words.search(report.output)
        if found:
            return Failure(kind, f"pw.x ended with exit code {code}: {_line_around(found)}")
    if code < 0:
        return Failure(Kind.KILLED, f"pw.x was killed by signal {-code}, {Trace.of(report.output)}")
    if code in (126, 127):
        return Failure(Kind.NO_PROGRAM, f"pw.x could not be started: {said}")
    how = f"ended with exit code {code}" if code else "ended without JOB DONE"
    if code and _IN_ITERATION.search(report.output):
        # MPI's abort is faster than the error box of the diagonalisation.
        return Failure(Kind.DIAGONALISATION, f"pw.x {how} within an iteration: {said or 'it said nothing'}")
    return Failure(Kind.CRASHED, f"pw.x {how}: {said or 'it said nothing'}")


def _line_around(found: re.Match[str]) -> str:
    begin = found.string.rfind("\n", 0, found.start()) + 1
    return found.string[begin:].splitlines()[0].strip()[:300]


def _from_forces(output: str) -> Failure | None:
    """Return what is wrong with the forces of a converged SCF."""
    for columns in _FORCE.findall(output):
        if len(columns.split()) != 3 or "*" in columns:
            return Failure(Kind.OVERLAP, f"atoms overlap: forces overflow their columns: {columns.strip()}")
    settled = _SETTLED.findall(output)
    if settled:
        try:
            total, correction = (float(text) for text in settled[-1])
        except ValueError:
            return Failure(Kind.OVERLAP, f"atoms overlap: the total force overflows its column: {settled[-1][0]}")
        if correction > max(_SETTLED_FRACTION * total, _SETTLED_RY_BOHR):
            return Failure(
                Kind.LOOSE_FORCES,
                f"forces are not settled: SCF correction {correction:.2g} of a total of {total:.2g} Ry/Bohr",
            )
    return None

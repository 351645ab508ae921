"""Runs `pacemaker`: labels and a start potential in, a refined potential out."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.errors import ConfigError, Crashed, EngineError, OutputUnreadable, TimedOut
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.program import Stop, run_program
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.engines.pacemaker.dataframe import (
    Labelled,
    force_share,
    read_predictions,
    require_pandas,
    write_dataframe,
)
from mlip_autopipec.engines.pacemaker.settings import PacemakerSettings

DATA: Final = "train.pckl.gzip"
START: Final = "start.yaml"
_INPUT: Final = "input.yaml"
_OUTPUT: Final = "output_potential.yaml"
_PREDICTIONS: Final = "train_pred.pckl.gzip"
_METRICS: Final = "metrics.txt"
_BATCH: Final = 10
_TOLD: Final = 3


@dataclass(frozen=True)
class Refined:
    """What pacemaker made.

    Attributes
    ----------
    potential : `.yaml` in the work folder
    predictions : name of label -> energy (eV, relative to isolated atoms) and forces (N, 3) eV/A, as pacemaker says
    iterations : of its optimizer; 0 where it found nothing better than its start: there are no predictions then
    """

    potential: Path
    predictions: dict[str, tuple[float, FloatArray]]
    iterations: int


def refine(
    rows: Sequence[Labelled], cutoff: float, settings: PacemakerSettings, folder: Path, tether: Sequence[str] = ()
) -> Refined:
    """Fit from `start.yaml`, which lies in `folder`; everything that pacemaker writes stays there.

    Parameters
    ----------
    cutoff
        A, of the potential.
    folder
        Existing.
    tether
        Command put before the program, so that it dies with this process.

    Raises
    ------
    ConfigError
        There is no such command.
    Crashed, TimedOut, OutputUnreadable
        There is no potential, and why.
    """
    write_dataframe(rows, folder / DATA)
    write_text(folder / _INPUT, dump_mapping(input_of(rows, cutoff, settings)))
    output, errors = folder / "pacemaker.out", folder / "pacemaker.err"
    command = [*tether, *_command(settings.command), _INPUT]
    # Its figures need no screen; its linear algebra would take cores that walkers need.
    environment = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    ended = run_program(command, folder, output, errors, environment, settings.limit_s)
    if ended.stop is Stop.TIME:
        raise TimedOut(f"pacemaker took more than {settings.limit_s:g} s", "raise training.pacemaker.limit_s")
    if ended.code in (126, 127):
        raise ConfigError(f"training.pacemaker.command: {settings.command!r} cannot be run", "see node and PATH")
    if ended.code != 0:
        lines = errors.read_text(errors="replace").split("\n")
        said = " | ".join(line.strip() for line in lines if line.strip())[-300:]
        raise Crashed(f"pacemaker ended with {ended.code}: {said}", f"see {folder}")
    if not (folder / _OUTPUT).is_file():
        raise OutputUnreadable("pacemaker wrote no potential", f"see {folder}")
    steps = progress(folder)
    made = steps["iteration"] if steps else 0
    # Without an iteration they are those of a point that it tried, not of the potential that it wrote.
    return Refined(folder / _OUTPUT, read_predictions(folder / _PREDICTIONS) if made else {}, made)


def input_of(rows: Sequence[Labelled], cutoff: float, settings: PacemakerSettings) -> dict[str, Any]:
    """Return what stands in `input.yaml`."""
    kappa = force_share(rows) if settings.kappa is None else settings.kappa
    trainable = ["func"] if settings.trainable == "functions" else ["func", "radial"]
    return {
        "cutoff": float(cutoff),
        "seed": 1,
        "metadata": {"origin": "mlip-autopipec"},
        "potential": START,
        "data": {"filename": DATA},
        "fit": {
            "loss": {"kappa": float(kappa), "L1_coeffs": 0.0, "L2_coeffs": settings.l2},
            "optimizer": "BFGS",
            "maxiter": settings.iterations,
            "trainable_parameters": {"ALL": trainable},
        },
        "backend": {"evaluator": settings.evaluator, "batch_size": _BATCH, "display_step": 1},
    }


def progress(folder: Path) -> dict[str, Any] | None:
    """Return how far a fit is: iteration, energy_rmse_mev and force_rmse (eV/A); None before the first iteration."""
    try:
        lines = (folder / _METRICS).read_text().splitlines()
        names, last = lines[0].split(), lines[-1].split()
        found = dict(zip(names, last, strict=True))
        return {
            "iteration": int(found["iter_num"]),
            "energy_rmse_mev": 1e3 * float(found["rmse_epa"]),
            "force_rmse": float(found["rmse_f_comp"]),
        }
    except (OSError, IndexError, KeyError, ValueError):  # not there yet, or half a line
        return None


def check_command(settings: PacemakerSettings) -> None:
    """Look for the program before it is needed, hours later.

    Raises
    ------
    ConfigError
        It is not there, or pandas, which its input needs, is not.
    """
    program = _command(settings.command)[0]
    if shutil.which(program) is None:
        raise ConfigError(
            f"training.pacemaker.command: {program!r}: no such program",
            "pip install 'mlip-autopipec[pacemaker]' (academic, non-commercial licence), or name that of another "
            "environment",
        )
    try:
        require_pandas()
    except EngineError as error:
        raise ConfigError(f"training.trainer: {error.message}", error.hint) from error


def _command(command: str) -> list[str]:
    """Return the words of a command; a bare `pacemaker` is that of this environment, whatever PATH says."""
    words = shlex.split(command)
    if not words:
        raise ConfigError("training.pacemaker.command is empty", "leave it out, or name pacemaker")
    own = Path(sys.executable).with_name(words[0])
    if re.fullmatch(r"[\w.-]+", words[0]) and own.is_file():
        words[0] = str(own)
    return words

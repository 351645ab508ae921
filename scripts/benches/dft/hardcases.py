"""SCFs that are hard and can be solved: with the defaults of pw.x, with our ladder, and in a slow and careful way."""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.build import bulk
from ase.calculators.espresso import EspressoProfile

from mlip_autopipec.core.conventions import RYDBERG_EV
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.program import run_program
from mlip_autopipec.engines.espresso.choices import choose
from mlip_autopipec.engines.espresso.failures import Report, classify
from mlip_autopipec.engines.espresso.inputs import prepare, wanted_scf, write_input
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.ladder import Scf
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

GOOD_MEV = 1.0
FILES = {
    "O": "O.pz-rrkjus.UPF", "Fe": "Fe.pz-nd-rrkjus.UPF", "Ni": "Ni.pz-nd-rrkjus.UPF", "Cu": "Cu.pz-d-rrkjus.UPF",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A structure whose SCF is hard, and the settings that make it so."""

    atoms: Atoms
    settings: dict[str, Any]


def hard(width_ry: float, **others: Any) -> dict[str, Any]:
    """Settings with a low smearing and cheap waves; the Gamma point, and no spin."""
    return {"ecutwfc_ry": 16, "ecutrho_ry": 100, "degauss_ry": width_ry, "kspacing": 5.0, "nspin": 1} | others


def chain(symbols: str, box: float, distance: float = 0.0) -> Atoms:
    """Atoms in a row in a cubic box."""
    count = len(Atoms(symbols))
    rows = [[box / 2, box / 2, box / 2 + i * distance] for i in range(count)]
    return Atoms(symbols, positions=rows, cell=[box] * 3, pbc=True)


def layer(symbol: str, edge: float) -> Atoms:
    """A square lattice of atoms, 7 A from the next one."""
    return Atoms(symbol, cell=[edge, edge, 7.0], pbc=True)


CHEAP: dict[str, Any] = {"ecutwfc_ry": 12, "ecutrho_ry": 60}
SPIN: dict[str, Any] = {"nspin": 2, "starting_magnetization": {"Ni": 0.3}}
CASES = {
    "O atom": Case(chain("O", 4.0), hard(0.005, **CHEAP)),
    "O2, 0.85 A": Case(chain("O2", 4.5, 0.85), hard(0.005, **CHEAP)),
    "O layer": Case(layer("O", 2.6), hard(0.005, **CHEAP, kspacing=2.5)),
    "Ni atom": Case(chain("Ni", 4.0), hard(0.01)),
    "Fe atom": Case(chain("Fe", 4.0), hard(0.01)),
    "Cu atom": Case(chain("Cu", 4.0), hard(0.01)),
    "Ni crystal": Case(bulk("Ni"), hard(0.002)),
    "Fe crystal": Case(bulk("Fe"), hard(0.002)),
    "Fe layer": Case(layer("Fe", 2.5), hard(0.005, kspacing=2.7)),
    "Ni layer, spin": Case(layer("Ni", 2.4), hard(0.005, **SPIN, kspacing=2.7)),
}


def settings_of(case: Case) -> EspressoSettings:
    files = {symbol: FILES[symbol] for symbol in case.atoms.get_chemical_symbols()}
    return EspressoSettings(pseudopotentials=files, **case.settings)


class Plain:
    """pw.x in one folder, with inputs that no ladder touches."""

    def __init__(self, case: Case, folder: Path, limit_s: float) -> None:
        self.case, self.folder, self.limit_s = case, folder, limit_s
        self.settings = settings_of(case)
        self.node = EspressoNode(max_seconds=limit_s)

    def run(self, scf: Scf, *, drop: str = "", from_density: bool = False) -> tuple[float | None, int, str]:
        """Return free energy (eV), iterations and class of failure (None and a word if it did not converge).

        Without the keys that match `drop`.
        """
        template = write_input(
            prepare(self.case.atoms, self.settings), self.settings, choose(self.settings, self.node.pseudo_dir),
            EspressoProfile(command="pw.x", pseudo_dir=self.node.pseudo_dir), self.folder,
            scf=scf, from_density=from_density, outdir="./s", max_seconds=self.limit_s,
        )  # fmt: skip
        path, out = self.folder / template.inputname, self.folder / template.outputname
        text = path.read_text().replace("'nowf'", "'low'")
        path.write_text(re.sub(drop, "", text, flags=re.MULTILINE) if drop else text)
        ended = run_program(
            ["pw.x", "-in", path.name], self.folder, out, self.folder / "err", {"OMP_NUM_THREADS": "1"},
            self.limit_s + 60,
        )  # fmt: skip
        report = Report.of(self.folder, ended, output=out.name, error="err")
        count = len(re.findall(r"iteration #", report.output))
        energy = re.findall(r"^!\s+total energy\s+=\s+(\S+) Ry", report.output, re.MULTILINE)
        if energy:
            return float(energy[-1]) * RYDBERG_EV, count, ""
        failure = classify(report)
        return None, count, failure.kind if failure else "no energy"


def by_defaults(case: Case, folder: Path, limit_s: float) -> tuple[float | None, str, str]:
    """Return free energy (eV), class of failure and end, with pw.x's own defaults for everything about the SCF."""
    plain = Plain(case, folder, limit_s)
    own = r"^\s+(conv_thr|mixing_\w+|electron_maxstep|diagonalization|startingwfc)\s*=.*\n"
    energy, count, kind = plain.run(wanted_scf(plain.settings), drop=own)
    return energy, kind, f"{kind or 'converged'} ({count})"


def tight(case: Case, folder: Path, limit_s: float) -> tuple[float | None, str]:
    """Return the free energy (eV) of a slow and careful way that no ladder has a part in.

    Conjugate gradients, small mixing, 1e-10 Ry, and the smearing lowered from 0.03 Ry by factors of about two, each
    from the density before.
    """
    plain = Plain(case, folder, limit_s)
    wanted = wanted_scf(plain.settings)
    careful = replace(wanted, diagonalization="cg", mixing_beta=0.15, electron_maxstep=300, conv_thr_ry=1e-10)
    steps = max(1, round(math.log2(0.03 / wanted.degauss_ry)))
    energy, ends, begun = None, [], False
    for step in range(steps + 1):
        width = wanted.degauss_ry * 2.0 ** (steps - step)
        energy, count, _ = plain.run(replace(careful, degauss_ry=width), from_density=begun)
        begun = begun or energy is not None
        ends.append(f"{width:.2g}: {'failed after ' if energy is None else ''}{count}")
    return energy, ", ".join(ends)


def by_ladder(case: Case, folder: Path, limit_s: float) -> tuple[float | None, str, list[dict[str, Any]]]:
    """Return the label's energy (eV), how it ended, and the rungs."""
    try:
        label = EspressoLabeller(settings_of(case), EspressoNode(max_seconds=limit_s)).label(case.atoms, folder)
    except AutopipeError as error:
        return None, f"{type(error).__name__}: {error.message}", _rungs(folder)
    return label.energy, "label", _rungs(folder)


def _rungs(folder: Path) -> list[dict[str, Any]]:
    story = json.loads((folder / "rungs.json").read_text())
    return [{key: rung[key] for key in ("rung", "end", "iterations")} for rung in story["rungs"]]


def run_case(name: str, limit_s: float) -> dict[str, Any]:
    """Run a case in the three ways and return energies (eV), ends, times (s) and errors (meV/atom)."""
    case = CASES[name]
    row: dict[str, Any] = {"case": name, "atoms": len(case.atoms)}
    for way in ("defaults", "ladder", "tight"):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            if way == "defaults":
                row["defaults"], row["defaults_class"], row["defaults_end"] = by_defaults(case, Path(folder), limit_s)
            elif way == "ladder":
                row["ladder"], row["ladder_end"], row["rungs"] = by_ladder(case, Path(folder), 3 * limit_s)
            else:
                row["tight"], row["tight_end"] = tight(case, Path(folder), limit_s)
            row[f"{way}_s"] = round(time.monotonic() - begin, 1)
    for way in ("defaults", "ladder"):
        known = row[way] is not None and row["tight"] is not None
        error = 1000 * (row[way] - row["tight"]) / len(case.atoms) if known else None
        row[f"{way}_mev"] = error
        row[f"{way}_good"] = error is not None and abs(error) < GOOD_MEV
    return row

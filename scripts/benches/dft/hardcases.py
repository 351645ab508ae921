"""SCFs that are hard and can be solved: with the defaults of pw.x, with our ladder, and in a slow and careful way."""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.build import bulk
from ase.calculators.espresso import EspressoProfile

from mlip_autopipec.core.conventions import RYDBERG_EV
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.program import run_program
from mlip_autopipec.engines.espresso.choices import choose
from mlip_autopipec.engines.espresso.inputs import prepare, wanted_scf, write_input
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.ladder import Scf
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

FE, NI, OX, CA = "Fe.pbe-nd-rrkjus.UPF", "Ni.pbe-nd-rrkjus.UPF", "O.pbe-rrkjus.UPF", "C.pbe-rrkjus.UPF"
GOOD_MEV = 1.0


@dataclass(frozen=True)
class Case:
    """A structure whose SCF is hard: name, atoms, files, and the settings that make it so."""

    atoms: Atoms
    files: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)


def chain(symbols: str, box: float, distance: float = 0.0) -> Atoms:
    """Atoms in a row in a cubic box."""
    count = len(Atoms(symbols))
    rows = [[box / 2, box / 2, box / 2 + i * distance] for i in range(count)]
    return Atoms(symbols, positions=rows, cell=[box] * 3, pbc=True)


SHARP = {"ecutwfc_ry": 20, "ecutrho_ry": 120, "degauss_ry": 0.005, "kspacing": 5.0, "nspin": 1}
SPIN = {**SHARP, "degauss_ry": 0.004, "nspin": 2, "starting_magnetization": {}}
CASES = {
    "Fe atom": Case(chain("Fe", 4.5), {"Fe": FE}, SHARP),
    "Ni atom": Case(chain("Ni", 4.5), {"Ni": NI}, SHARP | {"degauss_ry": 0.01}),
    "Fe atom, spin": Case(chain("Fe", 4.5), {"Fe": FE}, SPIN),
    "Ni atom, spin": Case(chain("Ni", 4.5), {"Ni": NI}, SPIN),
    "Ni2 crystal, 6 Ry": Case(
        bulk("Ni") * (2, 1, 1),
        {"Ni": NI},
        {"ecutwfc_ry": 6, "ecutrho_ry": 200, "degauss_ry": 0.02, "kspacing": 1.6, "nspin": 1},
    ),
    "C2": Case(chain("C2", 4.5, 1.25), {"C": CA}, SHARP),
    "FeO": Case(chain("FeO", 4.5, 1.62), {"Fe": FE, "O": OX}, SHARP),
    "NiO": Case(chain("NiO", 4.5, 1.65), {"Ni": NI, "O": OX}, SHARP),
    "Fe2 near": Case(chain("Fe2", 4.5, 1.3), {"Fe": FE}, SHARP),
    "Ni2 near": Case(chain("Ni2", 4.5, 1.4), {"Ni": NI}, SHARP),
}


class Plain:
    """pw.x in one folder, with inputs that no ladder touches."""

    def __init__(self, case: Case, folder: Path, limit_s: float) -> None:
        self.case, self.folder, self.limit_s = case, folder, limit_s
        self.settings = EspressoSettings(pseudopotentials=case.files, **case.settings)
        self.node = EspressoNode(max_seconds=limit_s)

    def run(self, scf: Scf, *, drop: str = "", from_density: bool = False) -> tuple[float | None, int]:
        """Return the free energy (eV; None: not converged) and the iterations, without the keys that match `drop`."""
        template = write_input(
            prepare(self.case.atoms, self.settings), self.settings, choose(self.settings, self.node.pseudo_dir),
            EspressoProfile(command="pw.x", pseudo_dir=self.node.pseudo_dir), self.folder,
            scf=scf, from_density=from_density, outdir="./s", max_seconds=self.limit_s,
        )  # fmt: skip
        path, out = self.folder / template.inputname, self.folder / template.outputname
        text = path.read_text().replace("'nowf'", "'low'")
        path.write_text(re.sub(drop, "", text, flags=re.MULTILINE) if drop else text)
        run_program(
            ["pw.x", "-in", path.name], self.folder, out, self.folder / "err", {"OMP_NUM_THREADS": "1"},
            self.limit_s + 60,
        )  # fmt: skip
        text = out.read_text()
        energy = re.findall(r"^!\s+total energy\s+=\s+(\S+) Ry", text, re.MULTILINE)
        return float(energy[-1]) * RYDBERG_EV if energy else None, len(re.findall(r"iteration #", text))


def by_defaults(case: Case, folder: Path, limit_s: float) -> tuple[float | None, str]:
    """Return the free energy (eV) with pw.x's own defaults for everything about the SCF, and how it ended."""
    plain = Plain(case, folder, limit_s)
    own = r"^\s+(conv_thr|mixing_\w+|electron_maxstep|diagonalization|startingwfc)\s*=.*\n"
    energy, count = plain.run(wanted_scf(plain.settings), drop=own)
    return energy, f"{'failed after' if energy is None else 'converged in'} {count}"


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
        energy, count = plain.run(replace(careful, degauss_ry=width), from_density=begun)
        begun = begun or energy is not None
        ends.append(f"{width:.2g}: {'failed after ' if energy is None else ''}{count}")
    return energy, ", ".join(ends)


def by_ladder(case: Case, folder: Path, limit_s: float, **changes: Any) -> tuple[float | None, str, list[str]]:
    """Return the label's energy (eV), how it ended, and the rungs."""
    settings = EspressoSettings(pseudopotentials=case.files, **(case.settings | changes))
    try:
        label = EspressoLabeller(settings, EspressoNode(max_seconds=limit_s)).label(case.atoms, folder)
    except AutopipeError as error:
        return None, f"{type(error).__name__}: {error.message}", _rungs(folder)
    return label.energy, "label", _rungs(folder)


def _rungs(folder: Path) -> list[str]:
    story = json.loads((folder / "rungs.json").read_text())
    return [f"{r['rung']} ({r['iterations']}: {r['end']})" for r in story["rungs"]]


def run_case(name: str, limit_s: float) -> dict[str, Any]:
    """Run a case in the three ways and return energies (eV), ends, times (s) and errors (meV/atom)."""
    case = CASES[name]
    row: dict[str, Any] = {"case": name, "atoms": len(case.atoms)}
    for way in ("defaults", "ladder", "tight"):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            if way == "defaults":
                row["defaults"], row["defaults_end"] = by_defaults(case, Path(folder), limit_s)
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

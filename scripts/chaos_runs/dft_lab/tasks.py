"""The structures that chaos has labelled, and which ends of each are right."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.conventions import RYDBERG_EV
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.settings import EspressoSettings
from mlip_autopipec.store.task import Task

FAKE_PW: Final = Path(__file__).with_name("pw.x")
_CREATED = "2026-01-01T00:00:00.000Z"
_ENERGY_EV = 1e-5
# What a kill from outside leaves as a reason when it comes once too often.
_KILLED = r"killed|SIGKILL|signal 9|died|ended without an answer|without JOB DONE|exit code"
# Ends of a structure of the fake that are right; "label" is always the right one of the others, or a kill too many.
_REASONS = {
    "overlap": r"DataError: atoms overlap",
    "never": r"NotConverged: .*(every rung for 'oscillating' was tried|the time is over)",
    "hangs": r"TimedOut: pw\.x was killed after",
}


@dataclass(frozen=True)
class Plan:
    """One structure: its task, the label's energy (eV), and the reasons that its failure may have.

    Attributes
    ----------
    energy_ev : None: there must be no label
    """

    task: Task
    energy_ev: float | None
    reason: str

    def wrong(self, energy_ev: float | None, reason: str) -> str:
        """Return what is wrong with how it ended; empty if nothing is."""
        if energy_ev is None:
            return "" if re.search(f"{self.reason}|{_KILLED}", reason) else f"failed for another reason: {reason!r}"
        if self.energy_ev is None:
            return "has a label and should not"
        error = energy_ev - self.energy_ev
        return "" if abs(error) < _ENERGY_EV else f"label of another structure: {error:.6f} eV off"


def fake_pw() -> ModuleType:
    """Return the fake pw.x as a module."""
    loader = importlib.machinery.SourceFileLoader("fake_pw", str(FAKE_PW))
    spec = importlib.util.spec_from_loader("fake_pw", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def fake_plans(count: int) -> list[Plan]:
    """Return structures for the fake pw.x: four atoms each, of all its characters in turn."""
    fake = fake_pw()
    settings = EspressoSettings(pseudopotentials={"Al": "Al.pz-vbc.UPF"}, ecutwfc_ry=12, kspacing=2.0)
    plans = []
    for number in range(count):
        atoms = bulk("Al", cubic=True)
        atoms.positions[0, 0] = number / 1000.0
        character = fake.CHARACTERS[number % len(fake.CHARACTERS)]
        reason = _REASONS.get(character, "")
        energy = None if reason else fake.energy_ry(number) * RYDBERG_EV
        plans.append(Plan(_task(atoms, settings, number), energy, reason or r"\Z\A"))
    return plans


def real_plans(count: int, scratch: Path) -> list[Plan]:
    """Return structures for the real pw.x, with the energies of labels that nobody disturbs.

    Mostly Si2 of some seconds. Of ten, one is rescued from too few steps, one cannot converge, and one is refused.
    """
    usual: dict[str, Any] = {"pseudopotentials": {"Si": "Si.pz-vbc.UPF"}, "ecutwfc_ry": 14, "kspacing": 0.8}
    plans = []
    for number in range(count):
        atoms = bulk("Si")
        atoms.rattle(0.1, seed=number)
        settings, energy, reason = dict(usual), 0.0, r"\Z\A"
        if number % 10 == 2:
            settings["electron_maxstep"] = 4
        elif number % 10 == 5:
            settings |= {"electron_maxstep": 2, "max_rungs": 0}
            reason = "NotConverged"
        elif number % 10 == 8:
            atoms.positions[1] = atoms.positions[0] + [0.3, 0, 0.01 * number]
            reason = "DataError"
        chosen = EspressoSettings(**settings)
        if reason == r"\Z\A":
            folder = scratch / f"quiet-{number}"
            folder.mkdir(parents=True)
            energy = EspressoLabeller(chosen).label(atoms, folder).energy
        plans.append(Plan(_task(atoms, chosen, number), energy if reason == r"\Z\A" else None, reason))
    return plans


def _task(atoms: Atoms, settings: EspressoSettings, number: int) -> Task:
    return Task.new(
        atoms, [1] * len(atoms), settings.model_dump(mode="json"), priority=1.0 + number % 7,
        origin={"walker": "w00", "step": number, "version": "v0001"}, config_type="chaos", created=_CREATED,
    )  # fmt: skip

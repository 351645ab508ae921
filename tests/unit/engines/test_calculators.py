"""Any calculator of ASE by its dotted path: what it must have, how it is refused, and how it fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from pydantic import ValidationError

from ase_parts import label_in_child
from mlip_autopipec.core.errors import (
    AutopipeError,
    ConfigError,
    Crashed,
    DataError,
    NotConverged,
    OutputUnreadable,
    TimedOut,
)
from mlip_autopipec.engines.calculators.labeller import AseLabeller
from mlip_autopipec.engines.calculators.settings import AseSettings
from mlip_autopipec.runtime.child import Child
from mlip_autopipec.runtime.tether import tethered


def labeller(calculator: str, **settings: Any) -> AseLabeller:
    return AseLabeller(AseSettings(calculator=calculator, **settings))


def refused(calculator: str, **settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        labeller(calculator, **settings)
    return caught.value


@pytest.mark.parametrize(
    ("calculator", "settings", "words", "hint"),
    [
        ("no_such_package.Calc", {}, "labeller.calculator: 'no_such_package.Calc'", "install the package"),
        ("ase.calculators.nothing.EMT", {}, "ase.calculators.nothing cannot be imported", "correct the path"),
        ("ase.calculators.emt.EMTT", {}, "has no EMTT", "did you mean ase.calculators.emt.EMT?"),
        ("ase_parts.NO_CALCULATOR", {}, "no class or function", "name what makes"),
        ("ase.build.bulk", {"kwargs": {"name": "Cu"}}, "makes a Atoms, which is no calculator", "BaseCalculator"),
        ("ase.calculators.emt.EMT", {"kwargs": {"asap": True}}, "labeller.kwargs.asap", "it knows asap_cutoff"),
        ("ase.calculators.lj.LennardJones", {"kwargs": {"sigmaa": 3}}, "labeller.kwargs.sigmaa", "'sigma'"),
        ("ase_parts.Obedient", {"kwargs": {"do": "refuse"}}, "labeller.kwargs: ase_parts.Obedient refuses", "help()"),
        ("ase_parts.emt", {"kwargs": {"factor": 2}}, "factor must be 1", "help()"),
        ("ase_parts.emt", {"kwargs": {"faktor": 1.0}}, "unexpected keyword argument 'faktor'", "help()"),
        ("ase_parts.Program", {"kwargs": {"directory": "x"}}, "labeller.kwargs.directory: is set", "remove it"),
        ("ase_parts.EnergyOnly", {}, "computes no forces", "another"),
        ("ase_parts.NoFreeEnergy", {}, "labeller.energy: ase_parts.NoFreeEnergy has no free_energy", "energy: energy"),
    ],
)
def test_what_is_refused_names_the_key(calculator: str, settings: dict[str, Any], words: str, hint: str) -> None:
    error = refused(calculator, **settings)
    assert words in error.message
    assert hint in error.hint


@pytest.mark.parametrize("path", ["EMT", "ase/calculators/emt.py", "ase..emt", ""])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ValidationError, match="not a dotted path"):
        AseSettings(calculator=path)


def test_an_energy_without_smearing_may_be_chosen(tmp_path: Path) -> None:
    label = labeller("ase_parts.NoFreeEnergy", energy="energy").label(bulk("Cu"), tmp_path)
    assert label.info["energy"] == "energy"
    assert np.isfinite(label.energy)


def test_the_free_energy_is_the_default(tmp_path: Path) -> None:
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]], cell=[9, 9, 9], pbc=True)
    assert labeller("ase_parts.Obedient").label(atoms, tmp_path).energy == 2.0
    assert labeller("ase_parts.Obedient", energy="energy").label(atoms, tmp_path).energy == 1.0
    # It has no stress: the label says so.
    label = labeller("ase_parts.Obedient").label(atoms, tmp_path)
    assert label.stress is None
    assert label.info["has_stress"] is False


def test_functions_that_make_calculators(tmp_path: Path) -> None:
    engine = labeller("ase_parts.emt")
    copper = bulk("Cu", a=3.6)
    expected = copper.copy()
    expected.calc = EMT()
    assert engine.label(copper, tmp_path).energy == pytest.approx(expected.get_potential_energy())
    # Nothing stays of the first.
    gold = bulk("Au", a=4.1)
    expected = gold.copy()
    expected.calc = EMT()
    assert engine.label(gold, tmp_path).energy == pytest.approx(expected.get_potential_energy())
    assert engine.isolated_atom_energy("Cu", tmp_path) > engine.label(copper, tmp_path).energy


def test_elements_are_checked_if_they_are_named() -> None:
    labeller("ase_parts.emt").check_elements(["Og"])
    with pytest.raises(ConfigError, match=r"labeller\.elements: Og, Si is not among Cu, Au"):
        labeller("ase_parts.emt", elements=["Cu", "Au"]).check_elements(["Cu", "Si", "Og"])
    with pytest.raises(ValidationError, match="no element symbol"):
        AseSettings(calculator="ase_parts.emt", elements=["Cu", "Xx"])


@pytest.mark.parametrize(
    ("do", "error", "words", "transient"),
    [
        ("scf", NotConverged, "no convergence in 60 steps", False),
        ("setup", ConfigError, "no such basis", False),
        ("read", OutputUnreadable, "output ends early", False),
        ("element", DataError, "No parameters for Xe", False),
        ("memory", Crashed, "MemoryError", False),
        ("time", TimedOut, "timed out after 5 seconds", False),
        ("disk", Crashed, "No space left", True),
        ("missing", ConfigError, "No such file", False),
        ("bug", Crashed, "division by zero", False),
        ("nan", OutputUnreadable, "not finite", False),
        ("nothing", OutputUnreadable, "computed no forces", False),
    ],
)
def test_every_failure_has_its_class(
    tmp_path: Path, do: str, error: type[AutopipeError], words: str, transient: bool
) -> None:
    with pytest.raises(error, match=words) as caught:
        labeller("ase_parts.Obedient", kwargs={"do": do}).label(bulk("Cu"), tmp_path)
    assert caught.value.hint
    assert caught.value.transient is transient


def test_atoms_upon_each_other(tmp_path: Path) -> None:
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 0]], cell=[9, 9, 9], pbc=True)
    with pytest.raises(OutputUnreadable, match="not finite"):
        labeller("ase.calculators.lj.LennardJones").label(atoms, tmp_path)


@pytest.mark.parametrize("shell", [True, False])
def test_programs_run_in_the_attempts_folder(tmp_path: Path, shell: bool) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    if shell:
        for command in ("cut -d' ' -f1 input > energy", "FACTOR=1 cut -d' ' -f1 input | cat > energy"):
            (folder / "energy").unlink(missing_ok=True)
            engine = _tied("ase_parts.Program", kwargs={"command": command, "shell": True})
            assert engine.label(bulk("Cu"), folder).energy == 1.0
    else:
        engine = _tied("ase_parts.Program", kwargs={"command": "cp input energy", "shell": False})
        with pytest.raises(Crashed, match="could not convert string to float: '1 atoms'"):
            engine.label(bulk("Cu"), folder)
    assert (folder / "input").read_text() == "1 atoms"


def _tied(calculator: str, **settings: Any) -> AseLabeller:
    return AseLabeller(AseSettings(calculator=calculator, **settings), tether=tethered([]))


@pytest.mark.parametrize("shell", [True, False])
def test_programs_die_with_the_labeller(tmp_path: Path, shell: bool) -> None:
    command = f"sleep 1234.5{int(shell)}"
    settings = {"engine": "ase", "calculator": "ase_parts.Program", "kwargs": {"command": command, "shell": shell}}
    with Child(label_in_child, (settings, tmp_path), "labeller") as child:
        program = _wait_for(lambda: _descendant(child.pid, command.split()))
        psutil.Process(child.pid).kill()
        _wait_for(lambda: not psutil.pid_exists(program) or psutil.Process(program).status() == psutil.STATUS_ZOMBIE)


def _descendant(pid: int, command: list[str]) -> int | None:
    try:
        found = [p.pid for p in psutil.Process(pid).children(recursive=True) if p.cmdline() == command]
    except psutil.NoSuchProcess:
        return None
    return found[0] if found else None


def _wait_for(condition: Any, timeout_s: float = 90.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value

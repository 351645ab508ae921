"""`autopipe dft test` and `autopipe dft convergence`, with the real pw.x."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
from ase.build import bulk
from click.testing import CliRunner, Result

from mlip_autopipec.cli.dft import dft
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.espresso import trial

# As root Open MPI refuses to start without this word, and takes it from anybody.
MPIRUN = "/usr/bin/mpirun --allow-run-as-root --oversubscribe -np 2 pw.x"


@pytest.fixture(autouse=True)
def _gamma_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Force and energy belong together at any k-points, and two MPI processes on a busy machine are slow."""
    monkeypatch.setattr(trial, "_KSPACING", 5.0)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(dft, list(map(str, words)), catch_exceptions=False)


# --- dft test ----------------------------------------------------------------------------------------------------


def test_a_node_that_can_label(pw_x: str) -> None:
    result = run("test", "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["ok"] is True
    checks = [finding["check"] for finding in said["findings"]]
    assert checks == ["program", "Al: pseudopotential", "Al: SCF", "MPI", "Al: forces"]
    assert all(finding["ok"] and not finding["fix"] for finding in said["findings"])
    assert "finite difference" in said["findings"][-1]["said"]


def test_processes_of_mpi_are_counted(pw_x: str) -> None:
    lines = run("test", "--command", MPIRUN).output.splitlines()
    assert lines[0].startswith("ok   program: launcher /usr/bin/mpirun, 2 MPI process(es)")
    assert "ok   MPI: pw.x ran once, on 2 process(es)" in lines


def test_copies_that_do_not_know_of_each_other(pw_x: str, tmp_path: Path) -> None:
    """As the mpirun of another MPI starts them."""
    launcher = tmp_path / "mpirun"
    launcher.write_text('#!/bin/sh\nshift 2\n"$@"\nexec "$@"\n')
    launcher.chmod(0o755)
    result = run("test", "--command", f"{launcher} -np 2 pw.x")
    assert result.exit_code == 3
    assert "BAD  MPI: 2 copies of pw.x ran" in result.output
    assert "fix: node.espresso.command: take the launcher of the MPI" in result.output


def test_one_process_instead_of_two(pw_x: str, tmp_path: Path) -> None:
    launcher = tmp_path / "mpirun"
    launcher.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    launcher.chmod(0o755)
    result = run("test", "--command", f"{launcher} -np 2 pw.x", "--json")
    assert result.exit_code == 3
    finding = next(f for f in json.loads(result.stdout)["findings"] if f["check"] == "MPI")
    assert finding["said"] == "pw.x ran on 1 process(es), node.espresso.command asks for 2"


def test_no_program() -> None:
    result = run("test", "--command", "no-such-pw.x")
    assert result.exit_code == 3
    assert result.output.splitlines() == [
        "BAD  program: node.espresso.command: 'no-such-pw.x' was not found",
        "     fix: install Quantum ESPRESSO (Debian: quantum-espresso) or give the path of pw.x",
    ]


def test_a_program_that_is_no_pw_x(pw_x: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = run("test", "--command", f"{sys.executable} -c print(1)", "--json")
    assert result.exit_code == 3
    last = json.loads(result.stdout)["findings"][-1]
    assert last["check"] == "Al: SCF"
    assert "without JOB DONE: 1; its files are in " in last["said"]
    kept = Path(last["said"].split("its files are in ")[1])
    assert kept.parent == tmp_path
    assert (kept / "espresso.pwi").exists()


def test_an_element_without_pseudopotential_and_one_with(pw_x: str) -> None:
    result = run("test", "--element", "Na", "--element", "Al")
    assert result.exit_code == 3
    assert "BAD  Na: pseudopotential: labeller.elements: Debian's pseudopotentials has no files" in result.output
    assert "or use engine gpaw" in result.output
    assert "ok   Al: forces" in result.output
    assert run("test", "--element", "Xx").exit_code == 2


# --- dft convergence ---------------------------------------------------------------------------------------------


@pytest.fixture
def structure(tmp_path: Path) -> Path:
    bulk("Al", cubic=True).write(tmp_path / "al.extxyz")
    return tmp_path / "al.extxyz"


def test_tables_figure_and_recommendation(pw_x: str, structure: Path, tmp_path: Path) -> None:
    figure = tmp_path / "convergence.png"
    words = ("--cutoffs", "14,6,10", "--kspacings", "0.9,2,1.9", "--plot", figure)
    limits = ("--mev-per-atom", "100", "--mev-per-a", "50")
    result = run("convergence", structure, *words, *limits, "--json")
    said = json.loads(result.stdout)
    # All forces of the perfect crystal are zero at any cutoff: a distance of nothing would recommend anything.
    assert said["rattled_a"] == 0.05
    assert [point["ecutwfc_ry"] for point in said["cutoffs"]] == [6, 10, 14]
    # 2 and 1.9 1/A are one grid.
    assert [point["kpoints"] for point in said["kpoints"]] == [[1, 1, 1], [2, 2, 2]]
    assert said["cutoffs"][-1]["energy_mev"] == said["cutoffs"][-1]["force_mev"] == 0
    # Less plane waves, higher energy; Gamma alone is far off for a metal.
    energies = [point["energy_mev"] for point in said["cutoffs"]]
    assert energies[0] > energies[1] > 20
    assert abs(said["kpoints"][0]["energy_mev"]) > 100
    assert said["cutoffs"][0]["stress_gpa"] > said["cutoffs"][1]["stress_gpa"] > 0.1
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert result.exit_code == 3
    assert not said["converged"]
    assert "kspacing" not in said["recommended"]


def test_what_is_enough(pw_x: str, structure: Path) -> None:
    words = ("--cutoffs", "8,12,14", "--kspacings", "2,0.9", "--mev-per-atom", "5000", "--mev-per-a", "5000")
    result = run("convergence", structure, *words)
    assert result.exit_code == 0
    assert "the atoms were moved by 0.05 A at random" in result.output
    tail = result.stdout.split("the cheapest within 5000 meV/atom and 5000 meV/A of the finest:\n")[1]
    assert tail == "labeller:\n  ecutwfc_ry: 8.0\n  ecutrho_ry: 32.0\n  kspacing: 2.0\n"
    assert "8 Ry, 2x2x2: " in result.stderr


def test_refused_before_anything_runs(structure: Path, tmp_path: Path) -> None:
    assert run("convergence", structure, "--cutoffs", "10").exit_code == 2
    assert run("convergence", structure, "--cutoffs", "a,b").exit_code == 2
    assert run("convergence", structure, "--kspacings", "0.5,-1").exit_code == 2
    assert run("convergence", structure, "--plot", tmp_path / "figure.txt").exit_code == 2
    with pytest.raises(ConfigError, match="ecutwfc_ry"):
        run("convergence", structure, "--cutoffs", "10,5000")

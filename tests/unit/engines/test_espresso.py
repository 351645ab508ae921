"""The real pw.x: labels that are right, and every way of not getting one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core import periodic
from mlip_autopipec.core.errors import (
    ConfigError,
    Crashed,
    DataError,
    EngineError,
    NotConverged,
    OutputUnreadable,
    TimedOut,
)
from mlip_autopipec.core.likeness import matching
from mlip_autopipec.core.program import Ended, Stop
from mlip_autopipec.engines.espresso import ladder
from mlip_autopipec.engines.espresso.failures import Kind, Report, classify
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

CHEAP = {"ecutwfc_ry": 12, "kspacing": 0.9}
BOX = """
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
     Error in routine {} ({}):
      {}
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
"""
CRASH = """ %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
     task #         0
     from  {}      : error #         {}
      {}
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
"""


def labeller(node: EspressoNode | None = None, tether: tuple[str, ...] = (), **changes: object) -> EspressoLabeller:
    settings = EspressoSettings(**{"pseudopotentials": {"Al": "Al.pz-vbc.UPF"}, **CHEAP, **changes})
    return EspressoLabeller(settings, node, tether)


def aluminium() -> object:
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def script(folder: Path, text: str) -> list[str]:
    """A stand-in for pw.x that is a few lines of Python."""
    path = folder / "fake_pw.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def report(output: str = "", code: int = 0, crash: str = "", error: str = "", *, overran: bool = False) -> Report:
    return Report(Ended(code, 12.0, Stop.TIME if overran else None), output, error, crash)


# --- real runs -----------------------------------------------------------------------------------------------


def test_label_of_four_atoms(pw_x: str, tmp_path: Path) -> None:
    label = labeller(conv_thr_ry=1e-9).label(aluminium(), tmp_path)

    # ASE's own reading of the same calculation with the same settings.
    assert label.energy == pytest.approx(-225.13199, abs=1e-4)
    assert np.abs(label.forces.sum(axis=0)).max() < 1e-3
    assert label.stress is not None
    assert label.info["kpoints"] == [2, 2, 2]
    assert label.info["program"].startswith("pw.x ")
    assert label.info["scf_accuracy_ry"] < 1e-9
    assert label.info["smearing_energy_ev"] < 0
    assert label.info["pseudopotentials"]["Al"].startswith("Al.pz-vbc.UPF ")
    assert {p.name for p in tmp_path.iterdir()} == {"espresso.pwi", "espresso.pwo", "espresso.err", "rungs.json"}


def test_a_run_that_does_not_converge_is_no_label(pw_x: str, tmp_path: Path) -> None:
    with pytest.raises(NotConverged, match=r"2 iterations, last estimated error [\d.]+ Ry.*mixing_beta") as caught:
        labeller(electron_maxstep=2, max_rungs=0).label(aluminium(), tmp_path)
    assert "JOB DONE" in (tmp_path / "espresso.pwo").read_text()
    assert not caught.value.transient
    assert _ends(tmp_path) == ["not converged"]
    assert not (tmp_path / "scratch").exists()


def test_too_few_steps_are_rescued_from_the_density(pw_x: str, tmp_path: Path) -> None:
    label = labeller(electron_maxstep=4, conv_thr_ry=1e-9).label(aluminium(), tmp_path)
    assert label.energy == pytest.approx(-225.13199, abs=1e-4)
    assert [(run["rung"], run["end"]) for run in label.info["rungs"]] == [
        ("as wanted", "not converged"), ("more steps", "converged"),
    ]  # fmt: skip
    assert sum(run["seconds"] for run in label.info["rungs"]) == pytest.approx(label.info["seconds"], abs=0.02)
    assert label.info["cores"] == 1
    assert "startingpot" in (tmp_path / "espresso.pwi").read_text()


def test_larger_smearing_ends_at_the_wanted_one(pw_x: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real step back, from the density that pw.x wrote at the larger smearing.
    monkeypatch.setattr(ladder, "LADDER", {Kind.NOT_CONVERGED: (ladder.LARGER_SMEARING, ladder.MORE_STEPS)})
    label = labeller(electron_maxstep=6, conv_thr_ry=1e-9).label(aluminium(), tmp_path)
    assert label.energy == pytest.approx(-225.13199, abs=1e-4)
    rungs = [r["rung"] for r in label.info["rungs"]]
    assert rungs[1] == "larger smearing"
    assert rungs[-1].startswith("smaller smearing 0.02") or rungs[-1] == "more steps"
    assert label.info["scf"]["degauss_ry"] == 0.02


def test_a_stopped_scf_is_continued_by_the_next_attempt(pw_x: str, tmp_path: Path) -> None:
    first, second = tmp_path / "01-a", tmp_path / "02-b"
    first.mkdir()
    second.mkdir()
    whole = labeller(conv_thr_ry=1e-9, kspacing=0.5)
    for limit in (1.0, 2.0, 4.0, 8.0, 16.0):  # the machine may be busy
        try:
            hurried = EspressoNode(max_seconds=limit)
            labeller(hurried, conv_thr_ry=1e-9, kspacing=0.5).label(aluminium(), first)
        except TimedOut as error:
            if error.transient:
                break
    assert (first / "density" / "charge-density.dat").stat().st_size > 0
    label = whole.label(aluminium(), second)
    assert "continued" in label.info["rungs"][0]["rung"]
    assert not (first / "density").exists()


def test_pw_x_stops_at_its_time_limit(pw_x: str, tmp_path: Path) -> None:
    with pytest.raises(TimedOut, match=r"stopped at its time limit.*max_seconds"):
        labeller(EspressoNode(max_seconds=0.01)).label(aluminium(), tmp_path)
    assert _ends(tmp_path) == ["max time"]


def test_a_key_that_pw_x_does_not_know(pw_x: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"read_namelists .*ecutwfk") as caught:
        labeller(system={"ecutwfk": 3}).label(aluminium(), tmp_path)
    assert not caught.value.transient
    assert (tmp_path / "CRASH").exists()
    assert _ends(tmp_path) == ["bad input"]


def test_a_diagonalisation_that_fails_is_rescued(pw_x: str, tmp_path: Path) -> None:
    # So few plane waves that Davidson loses bands; seen as "charge is wrong" and as an abort without any word.
    settings = EspressoSettings(
        pseudopotentials={"Ni": "Ni.pbe-nd-rrkjus.UPF"}, ecutwfc_ry=6, ecutrho_ry=200, kspacing=1.6, nspin=1,
        mixing_beta=0.2,
    )  # fmt: skip
    label = EspressoLabeller(settings).label(bulk("Ni") * (2, 1, 1), tmp_path)
    assert _ends(tmp_path) == ["diagonalisation", "converged"]
    assert label.info["scf"]["diagonalization"] == "cg"


def test_a_killed_pw_x_may_be_tried_again(pw_x: str, tmp_path: Path) -> None:
    attempt = labeller(ecutwfc_ry=40, kspacing=0.3)

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for process in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if process.name() == "pw.x" and "iteration #" in (tmp_path / "espresso.pwo").read_text():
                        process.kill()
                        return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Crashed, match="killed by signal 9") as caught:
        attempt.label(aluminium(), tmp_path)
    killer.join()
    assert caught.value.transient
    assert _ends(tmp_path) == ["killed"]
    assert not (tmp_path / "scratch").exists()


OXYGEN = {
    "pseudopotentials": {"O": "O.pz-rrkjus.UPF"}, "ecutwfc_ry": 12, "ecutrho_ry": 60, "kspacing": 5.0, "nspin": 2,
    "starting_magnetization": {"O": 0.3}, "hopeless_iterations": 10,
}  # fmt: skip


def oxygen_atom() -> Atoms:
    """Its spin oscillates between occupations, and the less smearing, the worse."""
    return Atoms("O", positions=[[2, 2, 2]], cell=[4.0] * 3, pbc=True)


def test_an_oscillating_layer_with_spin_is_rescued(pw_x: str, tmp_path: Path) -> None:
    """Alike with the reference BLAS and OpenBLAS, unlike oxygen, whose SCF feels their last digits."""
    nickel = labeller(
        pseudopotentials={"Ni": "Ni.pz-nd-rrkjus.UPF"}, ecutwfc_ry=16, ecutrho_ry=100, degauss_ry=0.005, kspacing=2.7,
        nspin=2, starting_magnetization={"Ni": 0.3},
    )  # fmt: skip
    label = nickel.label(Atoms("Ni", cell=[2.4, 2.4, 7.0], pbc=True), tmp_path)
    ends = [(rung["rung"], rung["end"]) for rung in label.info["rungs"]]
    assert ends == [
        ("as wanted", "oscillating"), ("smaller mixing", "oscillating"), ("larger smearing", "converged"),
        ("smaller smearing 0.005 Ry", "converged"),
    ]  # fmt: skip
    assert label.energy == pytest.approx(-1169.9998, abs=1e-3)
    # Stopped, unless it has made all its steps before somebody looks.
    reason = _story(tmp_path)[0]["reason"]
    assert "was stopped, its residual does not fall" in reason or "did not converge, 150 iterations" in reason


def test_an_oscillating_spin_that_no_rung_rescues(pw_x: str, tmp_path: Path) -> None:
    # With more steps, and looks at the output that come late, it may converge by chance.
    with pytest.raises(NotConverged, match=r"all 1 rungs are used; tried: smaller mixing") as caught:
        labeller(**OXYGEN, degauss_ry=0.003, max_rungs=1, electron_maxstep=30).label(oxygen_atom(), tmp_path)
    assert not caught.value.transient
    assert _ends(tmp_path) == ["oscillating", "oscillating"]
    assert not (tmp_path / "scratch").exists()


def test_a_full_scratch_disk(pw_x: str, tmp_path: Path) -> None:
    disk, folder = tmp_path / "disk", tmp_path / "attempt"
    disk.mkdir()
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "test", str(disk)], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        # A density of 40 kB has to be handed from one rung to the next.
        small = labeller(EspressoNode(scratch=disk), electron_maxstep=4, conv_thr_ry=1e-9)
        with pytest.raises(Crashed, match="disk") as caught:
            small.label(aluminium(), folder)
        assert caught.value.transient
        assert "make room" in caught.value.hint
        assert _ends(folder) == ["disk"]
        assert list(disk.iterdir()) == []

        # Full before pw.x is there at all.
        (disk / "ballast").write_bytes(b"\0" * os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize)
        with pytest.raises(Crashed, match="No space left") as caught:
            small.label(aluminium(), folder)
        assert caught.value.transient
        (disk / "ballast").unlink()
        assert list(disk.iterdir()) == []

        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert small.label(aluminium(), folder).energy == pytest.approx(-225.13199, abs=1e-4)
        assert _ends(folder) == ["not converged", "converged"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _story(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "rungs.json").read_text())["rungs"])


def _ends(folder: Path) -> list[str]:
    return [rung["end"] for rung in _story(folder)]


def test_a_pseudopotential_that_vanishes_is_named(pw_x: str, tmp_path: Path) -> None:
    pseudo = tmp_path / "pseudo"
    pseudo.mkdir()
    (pseudo / "Al.UPF").write_text("")
    late = labeller(EspressoNode(pseudo_dir=pseudo), pseudopotentials={"Al": "Al.UPF"})
    (pseudo / "Al.UPF").unlink()
    with pytest.raises(ConfigError, match=r"pw\.x: readpp .*Al\.UPF not found"):
        late.label(aluminium(), tmp_path)
    assert _ends(tmp_path) == ["missing pseudopotential"]
    assert not (tmp_path / "scratch").exists()


def test_an_old_crash_file_is_not_this_runs(pw_x: str, tmp_path: Path) -> None:
    (tmp_path / "CRASH").write_text(CRASH.format("readpp", 1, "old"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "leftover").write_text("of a killed attempt")
    assert np.isfinite(labeller().label(aluminium(), tmp_path).energy)


def test_merged_force_columns_are_overlapping_atoms(pw_x: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "SHORTEST_DISTANCE_A", 1e-4)
    atoms = aluminium()
    atoms.positions[1] = atoms.positions[0] + [0.001, 0, 0]
    with pytest.raises(DataError, match="atoms overlap"):
        labeller().label(atoms, tmp_path)
    assert _ends(tmp_path) == ["overlapping atoms"]
    assert "JOB DONE" in (tmp_path / "espresso.pwo").read_text()


def test_spin_lowers_the_energy_of_a_hydrogen_atom(pw_x: str, tmp_path: Path) -> None:
    common = {"pseudopotentials": {"H": "H.pz-vbc.UPF"}, "ecutwfc_ry": 25, "isolated_box": 6.0, "degauss_ry": 0.002}
    plain = labeller(**common).isolated_atom_energy("H", tmp_path)
    # Hydrogen starts with spin as a free atom although the run's hydrogen starts without.
    both = {"H": "H.pz-vbc.UPF", "Al": "Al.pz-vbc.UPF", "Mg": "Mg.pz-n-vbc.UPF"}
    spins = labeller(**common | {"pseudopotentials": both}, nspin=2, starting_magnetization={"Al": 0.4})
    assert plain - 1.2 < spins.isolated_atom_energy("H", tmp_path) < plain - 0.5
    # A closed shell has no moment, and pw.x insists on a start all the same.
    spins.isolated_atom_energy("Mg", tmp_path)
    assert "total magnetization       =     0.00 Bohr" in (tmp_path / "espresso.pwo").read_text()


def test_moments_stand_in_the_label(pw_x: str, tmp_path: Path) -> None:
    atoms = Atoms("H", cell=[5, 5, 5], pbc=True)
    spin = {"pseudopotentials": {"H": "H.pz-vbc.UPF"}, "degauss_ry": 0.002, "kspacing": 2.0}
    info = labeller(**spin, nspin=2, starting_magnetization={"H": 1.0}).label(atoms, tmp_path).info
    assert info["total_magnetization"] == pytest.approx(1.0, abs=0.01)
    assert info["absolute_magnetization"] == pytest.approx(1.0, abs=0.01)
    (moment,) = info["moments"]
    assert 0.1 < moment < 1.01  # within a sphere around the atom


def test_where_a_structure_lies_in_its_cell_changes_its_label_by_nothing_that_counts(pw_x: str, tmp_path: Path) -> None:
    """Labels are reused for moved and reordered structures: the grid of the density must not notice."""
    here, there = aluminium(), aluminium()[[2, 0, 3, 1]]
    there.positions += [0.31, 0.17, 0.23]
    order = matching(there, here)
    assert order is not None
    one, other = (labeller().label(atoms, tmp_path) for atoms in (here, there))
    assert other.energy == pytest.approx(one.energy, abs=4e-4)
    assert np.abs(other.forces - one.forces[order]).max() < 1e-3


def test_a_tighter_labeller_converges_further(pw_x: str, tmp_path: Path) -> None:
    plain = labeller(conv_thr_ry=1e-5)
    first = plain.label(aluminium(), tmp_path)
    tight = plain.tighter()
    assert isinstance(tight, EspressoLabeller)
    second = tight.label(aluminium(), tmp_path)
    assert second.info["scf_accuracy_ry"] < 1e-7 < first.info["scf_accuracy_ry"]
    assert second.energy == pytest.approx(-225.13199, abs=1e-4)


def test_scratch_of_the_node_is_used_and_emptied(pw_x: str, tmp_path: Path) -> None:
    scratch, folder = tmp_path / "fast" / "disk", tmp_path / "attempt"
    folder.mkdir()
    labeller(EspressoNode(scratch=scratch)).label(bulk("Al"), folder)
    assert str(scratch) in (folder / "espresso.pwi").read_text()
    assert list(scratch.iterdir()) == []
    assert not (folder / "scratch").exists()


# --- processes -----------------------------------------------------------------------------------------------


def test_a_program_that_ignores_its_limit_is_killed(tmp_path: Path) -> None:
    text = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    node = EspressoNode(command=script(tmp_path, text), max_seconds=0.5, kill_grace_s=0.5)
    with pytest.raises(TimedOut, match="was killed after 1 s"):
        labeller(node).label(aluminium(), tmp_path)
    assert not _runs(int((tmp_path / "pid").read_text()))


def test_the_ranks_of_a_launcher_die_with_it(tmp_path: Path) -> None:
    # As mpirun does, it starts its ranks in sessions of their own.
    text = (
        "import pathlib, subprocess, sys, time\n"
        "ranks = [subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'], start_new_session=True)"
        " for _ in range(2)]\n"
        "pathlib.Path('pids').write_text(' '.join(str(rank.pid) for rank in ranks))\n"
        "time.sleep(120)"
    )
    node = EspressoNode(command=script(tmp_path, text), max_seconds=2.0, kill_grace_s=1.0)
    with pytest.raises(TimedOut):
        labeller(node).label(aluminium(), tmp_path)
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    assert not any(_runs(int(pid)) for pid in pids)


def test_it_runs_with_one_thread_in_the_attempts_folder(tmp_path: Path) -> None:
    text = "import os; print(os.environ['OMP_NUM_THREADS'], os.getcwd())"
    with pytest.raises(Crashed, match="without JOB DONE: 1 "):
        labeller(EspressoNode(command=script(tmp_path, text))).label(aluminium(), tmp_path)
    assert (tmp_path / "espresso.pwo").read_text().split() == ["1", str(tmp_path.resolve())]


def test_a_killed_labeller_leaves_no_program_behind(tmp_path: Path) -> None:
    fake = script(
        tmp_path, "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(120)"
    )
    code = (
        "from pathlib import Path; from ase.build import bulk\n"
        "from mlip_autopipec.engines.espresso.labeller import EspressoLabeller\n"
        "from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings\n"
        "from mlip_autopipec.runtime.tether import tethered\n"
        f"node = EspressoNode(command={fake!r})\n"
        "settings = EspressoSettings(pseudopotentials={'Al': 'Al.pz-vbc.UPF'})\n"
        f"EspressoLabeller(settings, node, tether=tethered([])).label(bulk('Al'), Path({str(tmp_path)!r}))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = int(_wait_for(tmp_path / "pid"))
        assert _runs(pid)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("text", "error", "words", "transient"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", Crashed, "signal 9.*memory", True),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", Crashed, "signal 11", True),
        ("import sys; print('no licence', file=sys.stderr); sys.exit(3)", Crashed, "exit code 3: no licence", True),
        ("import sys; sys.exit(127)", ConfigError, "could not be started", False),
        ("print('JOB DONE.')", OutputUnreadable, "does not say that the SCF converged", False),
        (
            "print('convergence has been achieved in 3 iterations'); print('JOB DONE.')",
            OutputUnreadable,
            "no total energy",
            False,
        ),
    ],
)
def test_ways_to_end(tmp_path: Path, text: str, error: type[EngineError], words: str, transient: bool) -> None:
    with pytest.raises(error, match=words) as caught:
        labeller(EspressoNode(command=script(tmp_path, text))).label(aluminium(), tmp_path)
    assert caught.value.transient is transient
    assert caught.value.hint
    assert not (tmp_path / "scratch").exists()


# --- reasons -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routine", "number", "reason", "error"),
    [
        ("readpp", 1, "file ./Al.UPF not found", ConfigError),
        ("read_namelists", 1, "bad line in namelist &system", ConfigError),
        ("iosys", 1, "wrong smearing", ConfigError),
        ("system_checkin", 7, "nspin out of range", ConfigError),
        ("set_dft_from_name", 1, "conflicting values for icorr", ConfigError),
        ("cdiaghg", 12, "S matrix not positive definite", Crashed),
        ("c_bands", 1, "too many bands are not converged", Crashed),
        ("davcio", 10, "error while writing from file", Crashed),
    ],
)
def test_reasons_of_error_boxes(routine: str, number: int, reason: str, error: type[EngineError]) -> None:
    for found in (
        classify(report(code=1, output=BOX.format(routine, number, reason))),
        classify(report(code=1, crash=CRASH.format(routine, number, reason), error="MPI_ABORT was invoked")),
    ):
        assert found is not None
        assert type(found.error()) is error
        assert found.message.startswith(f"pw.x: {routine} ({number}): {reason}")


def test_not_converged_wins_over_job_done() -> None:
    output = (
        "     iteration #  1\n estimated scf accuracy    <       0.5 Ry\n convergence NOT achieved after   1 iterations"
    )
    for code in (0, 2):
        found = classify(report(f"{output}\n JOB DONE.", code))
        assert found is not None
        assert isinstance(found.error(), NotConverged)


def test_overran_wins_over_what_it_said() -> None:
    found = classify(report("convergence NOT achieved", -15, overran=True))
    assert found is not None
    assert isinstance(found.error(), TimedOut)


def test_success() -> None:
    assert classify(report("convergence has been achieved in 7 iterations\n JOB DONE.")) is None


def test_program_cannot_be_started(tmp_path: Path) -> None:
    program = tmp_path / "pw.x"
    program.write_text("not a program")
    os.chmod(program, 0o755)
    with pytest.raises(Crashed, match="could not be started"):
        labeller(EspressoNode(command=[str(program)])).label(aluminium(), tmp_path)

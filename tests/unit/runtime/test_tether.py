"""The tether: becomes the command, with its exit code, and dies with its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.runtime import tether
from mlip_autopipec.runtime.tether import tethered

MODULE = [sys.executable, "-m", "mlip_autopipec.runtime.tether"]
# Starts the command line that follows, prints its pid and waits.
PARENT = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(1000)"


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(params=["setpriv", "python"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two tethers `tethered` returns."""
    if request.param == "python":
        monkeypatch.setattr(tether, "_setpriv", str)
    else:
        assert tether._setpriv(), "util-linux has it"
    return str(request.param)


def test_it_becomes_the_command_with_its_output_and_exit_code(kind: str) -> None:
    for prefix in (MODULE, tethered([])):
        done = run([*prefix, "sh", "-c", "echo $0 $1; exit 5", "a", "b c"])
        assert (done.returncode, done.stdout) == (5, "a b c\n")
    assert tethered([])[0].endswith("setpriv") == (kind == "setpriv")


def test_exported_functions_of_bash_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """`module` of a cluster is one: Debian's sh, which has no such names, would drop it."""
    monkeypatch.setenv("BASH_FUNC_module%%", "() { echo loaded $1; }")
    assert run([*tethered([]), "bash", "-c", "module espresso"]).stdout == "loaded espresso\n"


def test_a_missing_command_and_bad_options_say_so() -> None:
    missing = run([*MODULE, "/no/such/program"])
    assert (missing.returncode, missing.stderr) == (127, "tether: /no/such/program: not found\n")
    for arguments in ([], ["--signal", "NONSENSE", "true"], ["--parent", "x", "true"], ["--signal"]):
        bad = run([*MODULE, *arguments])
        assert bad.returncode == 2
        assert "usage" in bad.stderr


def test_a_file_that_cannot_run_says_so(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("x")
    done = run([*MODULE, str(file)])
    assert done.returncode == 126
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("code", [126, 127])
def test_what_does_not_start_has_the_exit_code_of_a_shell(kind: str, code: int, tmp_path: Path) -> None:
    file = tmp_path / "data"
    if code == 126:
        file.write_text("x")
    done = run(tethered([str(file)]))
    assert done.returncode == code
    assert "tether: " in done.stderr
    assert str(file) in done.stderr


@pytest.mark.parametrize("as_module", [True, False])
def test_the_command_dies_with_its_parent(kind: str, as_module: bool) -> None:
    prefix = MODULE if as_module else tethered([], parent=0)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *prefix, "sleep", "1000"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = ProcessIdentity.of(int(parent.stdout.readline()))
    assert child is not None
    wait_until_it_is("sleep", child.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while child.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.alive()


def wait_until_it_is(name: str, pid: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/comm").read_text().strip() != name and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_parent_that_died_before_is_noticed(kind: str) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = run(tethered(["sleep", "1000"], parent=gone.pid))
    assert done.returncode == -signal.SIGKILL
    done = run(tethered(["sleep", "1000"], parent=gone.pid, number=signal.SIGTERM))
    assert done.returncode == -signal.SIGTERM

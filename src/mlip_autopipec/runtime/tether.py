"""Tie a program to the life of its parent: `python -m mlip_autopipec.runtime.tether [options] CMD...`.

Sets PR_SET_PDEATHSIG and replaces itself by the program, so that a SIGKILLed worker leaves no `pw.x` behind.
Imports nothing but the standard library and works as a plain file: it stands before every engine call. Where util-linux
has `setpriv`, that does the same, without the tenths of a second that a Python takes to start on a busy node.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_USAGE = "usage: tether [--signal NAME] [--parent PID] CMD..."
# Arguments: signal, process id of the parent (0: anybody), command. As below, the parent may be dead already.
# No other names does Debian's shell hand on: not exported functions of bash, which is what `module` is on clusters.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL = 'signal=$1 parent=$2; shift 2; [ $parent = 0 ] || [ $PPID = $parent ] || kill -s $signal $$; exec "$@"'


def die_with_parent(number: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Let the kernel send signal `number` to this process as soon as its parent thread ends.

    Parameters
    ----------
    parent
        Process id of the parent that was meant. If it died before the request took effect, this process ends at once.

    Raises
    ------
    OSError
        The kernel refuses (not a Linux).
    """
    meant = os.getppid() if parent is None else parent
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before prctl: then nobody would ever send the signal.
    if os.getppid() != meant:
        os.kill(os.getpid(), number)


def tethered(
    command: Sequence[str], *, number: signal.Signals = signal.SIGKILL, parent: int | None = None
) -> list[str]:
    """Return `command` with the tether before it.

    Parameters
    ----------
    number
        Signal that the command gets when its parent ends.
    parent
        Process id of who will start it; by default the calling process, 0 for anybody. Named, because a parent that
        dies while the tether starts up would go unnoticed.
    """
    owner = os.getpid() if parent is None else parent
    if (program := _setpriv()) and all(_PLAIN.fullmatch(variable) for variable in os.environ):
        short = number.name.removeprefix("SIG")
        return [program, "--pdeathsig", short, "sh", "-c", _SHELL, "tether", short, str(owner), *command]
    # Called as a plain file, it starts faster than with ``-m``.
    options = ["--signal", number.name, *(["--parent", str(owner)] if owner else [])]
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *options, *command]


@functools.cache
def _setpriv() -> str:
    """Return the path of a `setpriv` that knows ``--pdeathsig`` (busybox' does not), or nothing."""
    import shutil
    import subprocess

    found = shutil.which("setpriv")
    known = found and subprocess.run([found, "--pdeathsig", "KILL", "true"], capture_output=True).returncode == 0
    return found if found and known else ""


def _parse(arguments: list[str]) -> tuple[int, int | None, list[str]]:
    number, parent = int(signal.SIGKILL), None
    while arguments and arguments[0] in ("--signal", "--parent"):
        if len(arguments) < 2:
            raise ValueError(f"{arguments[0]} needs a value")
        option, value, *arguments = arguments
        if option == "--signal":
            number = int(signal.Signals[value])
        else:
            parent = int(value)
    if not arguments:
        raise ValueError("no command")
    return number, parent, arguments


def main() -> int:
    """Set the death signal and become the command; 127 if it does not exist, 126 if it cannot be run."""
    try:
        number, parent, command = _parse(sys.argv[1:])
    except (ValueError, KeyError) as error:
        print(f"tether: {error}; {_USAGE}", file=sys.stderr)
        return 2
    die_with_parent(number, parent)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        print(f"tether: {command[0]}: not found", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"tether: {command[0]}: {error.strerror}", file=sys.stderr)
        return 126


if __name__ == "__main__":
    sys.exit(main())

"""What runs inside a `runtime.child.Child`: tie to the parent, receive the target, run it, answer."""

from __future__ import annotations

import faulthandler
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from mlip_autopipec.core.errors import AutopipeError, Crashed
from mlip_autopipec.runtime.tether import die_with_parent


def _failure(error: BaseException) -> bytes:
    if not isinstance(error, AutopipeError):
        # Foreign exceptions often cannot be unpickled; their words can.
        error = Crashed(f"{type(error).__name__}: {error}", "see the traceback in the log of the worker")
    return pickle.dumps(("error", error, traceback.format_exc()))


def _answer(connection: Connection, call: Callable[[], Any]) -> None:
    try:
        message = pickle.dumps(("value", call(), ""))
    except Exception as error:
        message = _failure(error)
    connection.send_bytes(message)


def _serve(connection: Connection, handle: Callable[[Any], Any]) -> None:
    while True:
        try:
            request = connection.recv()
        except EOFError:  # the parent closed its end: a clean goodbye
            return
        _answer(connection, lambda: handle(request))  # noqa: B023  called before the next round


def main() -> int:
    """Run as `python -m mlip_autopipec.runtime.child_main PARENT_PID DESCRIPTOR`."""
    parent, descriptor = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(signal.SIGKILL, parent)
    faulthandler.enable()
    connection = Connection(descriptor)
    sys.path[:] = connection.recv()
    try:
        target, args, serves = pickle.loads(connection.recv_bytes())
        handle = target(*args) if serves else None
    except Exception as error:
        connection.send_bytes(_failure(error))
        return 1
    if handle is None:
        _answer(connection, lambda: target(*args))
    else:
        _serve(connection, handle)
    return 0


if __name__ == "__main__":
    sys.exit(main())

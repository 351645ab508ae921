"""The one loop all daemons run in: signals, stop wish, backoff, heartbeat, systemd; a daemon only says `step`."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.wake import Waker

logger = logging.getLogger(__name__)

_STOP_CHECK_S = 0.25
_LEAST_SLEEP_S = 0.01
_FIRST_IDLE_FRACTION = 0.04
_IDLE_GROWTH = 1.5
_INTERRUPTED = 130


class Outcome(Enum):
    """What a step says to the loop."""

    WORKED = "worked"  # call again at once
    IDLE = "idle"  # nothing to do now, sleep a little
    DONE = "done"  # leave, exit 0


class Daemon(Protocol):
    """A process of the house. `step` is idempotent, never sleeps and returns within a second."""

    def start(self) -> None: ...

    def step(self, now: float) -> Outcome:
        """Do one piece of work; `now` is the monotonic clock in seconds."""
        ...

    def drain(self) -> None:
        """Begin to end: take nothing new. `step` is still called until it returns `Outcome.DONE`."""
        ...

    def close(self) -> None:
        """Release everything; called once, also after an error."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """A daemon that says what it does: shown in its heartbeat, and by `autopipe status`."""

    def status(self) -> tuple[str, dict[str, Any]]:
        """Return a state in one word (`idle`, `training`, …) and JSON-ready details. Must be cheap."""
        ...


@runtime_checkable
class Judging(Protocol):
    """A daemon whose peaceful end is not always a success."""

    def ending(self, number: int | None) -> int:
        """Return the exit code; `number` is the signal that drained it, if one did."""
        ...


@runtime_checkable
class Wakeful(Protocol):
    """A daemon that looks again at once when a file appears in a folder on a local disk."""

    def wake_folder(self) -> Path: ...


class _Readable(Protocol):
    def fileno(self) -> int: ...


@runtime_checkable
class Waiting(Protocol):
    """A daemon that waits for others, as for its children: it looks again at once when one of them answers."""

    def waits_for(self) -> Sequence[_Readable]:
        """Return what becomes readable then. `step` has to read it, or it wakes for ever; asked after each step."""
        ...


class _Signals:
    """SIGTERM and SIGINT as a flag, and a sleep that they end. A second SIGINT ends the process without draining."""

    def __init__(self, more: Sequence[signal.Signals] = ()) -> None:
        self._numbers = {signal.SIGTERM, signal.SIGINT, *more}
        self.asked = 0
        self.first: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # An Event would deadlock if the signal came while the loop holds its lock; a pipe has no lock.
        self._previous_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._read)
        os.close(self._write)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.asked += 1
        self.first = self.first or number
        if number == signal.SIGINT and self.asked > 1:
            raise KeyboardInterrupt

    def sleep(self, seconds: float, sources: Sequence[_Readable] = ()) -> bool:
        """Sleep until a signal or one of `sources` ends it; true if it was one of those."""
        if sources:
            # What happens all the time must not wake all the time.
            time.sleep(_LEAST_SLEEP_S)
        descriptors = [source.fileno() for source in sources]
        ready = select.select([self._read, *descriptors], [], [], seconds)[0]
        if self._read in ready:
            os.read(self._read, 512)
        return any(descriptor in ready for descriptor in descriptors)


class _Systemd:
    """The sd_notify protocol; does nothing outside systemd."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = float(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        self._due = 0.0

    def send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(message.encode(), address)
        except OSError as error:
            logger.warning("systemd is not told %r: %s", message, error)

    def watchdog(self, now: float) -> None:
        if self._watchdog_s and now >= self._due:
            self.send("WATCHDOG=1")
            self._due = now + self._watchdog_s


class _Backoff:
    """Sleeping times that start short after work, so that quick answers are seen quickly, and grow to `idle_s`."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self.reset()

    def reset(self) -> None:
        self._next_s = self._idle_s * _FIRST_IDLE_FRACTION

    def next_s(self) -> float:
        current = self._next_s
        self._next_s = min(current * _IDLE_GROWTH, self._idle_s)
        # Jitter keeps many workers from listing a shared folder in the same instant.
        return current * random.uniform(0.8, 1.2)


def show_error(error: AutopipeError) -> str:
    """Return an error as one line with its hint."""
    return " ".join(str(error).split())


def serve(
    daemon: Daemon,
    *,
    heartbeat: Heartbeat,
    stop: Callable[[], bool],
    idle_s: float = 0.5,
    drain_on: Sequence[signal.Signals] = (),
) -> int:
    """Run `daemon` in the main thread until it is done, a signal or the stop wish has drained it, or it fails.

    Parameters
    ----------
    heartbeat
        Where signs of life go.
    stop
        True when the user wants everything to end; asked a few times a second.
    idle_s
        Longest sleep of an idle daemon.
    drain_on
        Signals that drain it besides SIGTERM and SIGINT.

    Returns
    -------
    int
        Exit code: 0 or what a `Judging` daemon says, the code of an `AutopipeError`, 1 for an unexpected exception,
        130 when interrupted twice.
    """
    systemd = _Systemd()
    state, code = "stopped", 0
    with _Signals(drain_on) as signals, _waker_of(daemon) as waker:
        try:
            heartbeat.beat("starting")
            daemon.start()
            systemd.send("READY=1")
            _loop(daemon, heartbeat, stop, signals, waker, systemd, idle_s)
        except AutopipeError as error:
            logger.debug("stopped by", exc_info=True)
            logger.error("%s", show_error(error))
            state, code = "failed", error.exit_code
        except KeyboardInterrupt:
            logger.warning("interrupted again: leaving without draining")
            state, code = "failed", _INTERRUPTED
        except Exception:  # the boundary of the process: a bug becomes an exit code, a log entry and a last heartbeat
            logger.exception("unexpected error")
            state, code = "failed", 1
        finally:
            systemd.send("STOPPING=1")
            closed = _close(daemon)
            code = code or closed
            state = state if code == 0 else "failed"
            if code == 0 and isinstance(daemon, Judging):
                code = daemon.ending(signals.first)
            heartbeat.beat(state, {"exit_code": code})
    return code


def _waker_of(daemon: Daemon) -> contextlib.AbstractContextManager[Waker | None]:
    return contextlib.closing(Waker(daemon.wake_folder())) if isinstance(daemon, Wakeful) else contextlib.nullcontext()


def _loop(
    daemon: Daemon,
    heartbeat: Heartbeat,
    stop: Callable[[], bool],
    signals: _Signals,
    waker: Waker | None,
    systemd: _Systemd,
    idle_s: float,
) -> None:
    backoff = _Backoff(idle_s)
    draining, stop_check = False, 0.0
    while True:
        now = time.monotonic()
        if not draining and (signals.asked or (now >= stop_check and stop())):
            draining = True
            systemd.send("STOPPING=1")
            logger.info("draining: %s", "signal" if signals.asked else "asked to stop")
            daemon.drain()
            backoff.reset()
        if now >= stop_check:
            stop_check = now + _STOP_CHECK_S
        outcome = daemon.step(now)
        if outcome is Outcome.DONE:
            return
        state, detail = daemon.status() if isinstance(daemon, Reporting) else (outcome.value, {})
        heartbeat.beat("draining" if draining else state, detail)
        systemd.watchdog(now)
        if outcome is Outcome.WORKED:
            backoff.reset()
        elif waker is not None and waker.arm():
            continue  # what came before the first event is seen only by looking
        elif signals.sleep(backoff.next_s(), _sources(daemon, waker)):
            backoff.reset()
            if waker is not None:
                waker.clear()


def _sources(daemon: Daemon, waker: Waker | None) -> list[_Readable]:
    """Return what ends the daemon's sleep."""
    return [*([waker] if waker else []), *(daemon.waits_for() if isinstance(daemon, Waiting) else [])]


def _close(daemon: Daemon) -> int:
    # The boundary of the process: whatever goes wrong here is told, and the last heartbeat is written all the same.
    try:
        daemon.close()
    except Exception:
        logger.exception("unexpected error while closing")
        return 1
    except KeyboardInterrupt:
        logger.warning("interrupted again while closing")
        return _INTERRUPTED
    return 0

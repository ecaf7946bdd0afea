"""Health checks: a command run in the container now and then, and what its exit statuses mean.

    starting ──0──▶ healthy ◀──0── unhealthy        a failure while it starts, within its start period, does not count;
        └──── so many failures in a row ──▲          otherwise `Retries` of them in a row make it unhealthy

What is known is kept in DATA/health.json, in the shape of docker's State.Health.
"""

from __future__ import annotations

import os
from _signal import SIGKILL, pidfd_send_signal
from select import EPOLLIN
from time import monotonic, time_ns

from veloci.errors import VelociError
from veloci.kernel.process import exit_status
from veloci.monitor import state
from veloci.monitor.logs import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from select import epoll
    from typing import Any

_SECOND = 10**9
_KEPT = 5  # results
_LONGEST = 4096  # bytes of one's output


class Check:
    """A Healthcheck of an image's or a container's configuration, with docker's defaults; durations in seconds."""

    def __init__(self, known: dict[str, Any], shell: tuple[str, ...] = ()) -> None:
        """shell: what runs a CMD-SHELL; the image's, /bin/sh -c otherwise."""
        kind, *words = known.get("Test") or ("NONE",)
        self.args = [*(shell or ("/bin/sh", "-c")), *words] if kind == "CMD-SHELL" else words if kind == "CMD" else []
        self.interval = (known.get("Interval") or 30 * _SECOND) / _SECOND
        self.timeout = (known.get("Timeout") or 30 * _SECOND) / _SECOND
        self.start_period = (known.get("StartPeriod") or 0) / _SECOND
        self.start_interval = (known.get("StartInterval") or 5 * _SECOND) / _SECOND
        self.retries = known.get("Retries") or 3


def judged(check: Check, status: str, streak: int, *, code: int, age: float) -> tuple[str, int]:
    """The status and the failures in a row after a result. age: seconds since the container's start. Pure."""
    if code == 0:
        return "healthy", 0
    if status == "starting" and age < check.start_period:
        return status, streak
    return ("unhealthy" if streak + 1 >= check.retries else status), streak + 1


def pause(check: Check, status: str, *, age: float) -> float:
    """Seconds until the next look."""
    return check.start_interval if status == "starting" and age < check.start_period else check.interval


class Prober:
    """Runs the checks of one start of a container, on `poll`."""

    def __init__(self, poll: epoll, check: Check, run: Callable[[list[str], int], int], file: str) -> None:
        """run: starts a command with its output to a descriptor; its PID, a child of ours. file: DATA/health.json."""
        self._poll, self._check, self._run, self._file = poll, check, run, file
        self.status = "starting"
        self._streak = 0
        self._log: list[dict[str, Any]] = []
        self._born = monotonic()
        self._next = self._born + pause(check, self.status, age=0.0)
        self._pid = self._process = self._output = -1
        self._text = b""
        self._began = 0
        self._deadline = 0.0
        self._late = self._still = False
        self._write()

    def __contains__(self, descriptor: int) -> bool:
        return descriptor >= 0 and descriptor in (self._process, self._output)

    def patience(self) -> float:
        """Seconds until there is something to do; -1: nothing but what the poll tells."""
        if self._still or self._late:
            return -1
        return max((self._deadline if self._pid > 0 else self._next) - monotonic(), 0.0)

    def act(self) -> bool:
        """Begin a look whose time has come, end one that takes too long. Returns whether the status changed."""
        if self.patience() != 0.0:
            return False
        if self._pid > 0:
            self._late = True
            self._kill()
            return False
        self._began = time_ns()
        self._output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(theirs, True)
        try:
            self._pid = self._run(self._check.args, theirs)
        except VelociError as error:
            os.close(theirs)
            os.close(self._output)
            return self._done(-1, str(error))
        os.close(theirs)
        self._process = os.pidfd_open(self._pid)
        self._poll.register(self._process, EPOLLIN)
        self._poll.register(self._output, EPOLLIN)
        self._deadline = monotonic() + self._check.timeout
        return False

    def serve(self, descriptor: int) -> bool:
        """A look has written something, or ended. Returns whether the status changed."""
        if descriptor == self._output:
            self._read()
            return False
        _, status = os.waitpid(self._pid, 0)
        while self._read():
            pass
        late, text = self._late, self._text[:_LONGEST].decode(errors="replace")
        self._close()
        if late:
            return self._done(-1, f"Health check exceeded timeout ({self._check.timeout:g}s)")
        return self._done(exit_status(status), text)

    def hold(self, *, still: bool) -> None:
        """The container is paused, or goes on: no looks meanwhile."""
        self._still = still
        self._next = monotonic() + pause(self._check, self.status, age=monotonic() - self._born)

    def end(self) -> None:
        """The container has ended; as docker says it, it is unhealthy then."""
        if self._pid > 0:
            self._kill()
            os.waitpid(self._pid, 0)
            self._close()
        self.status = "unhealthy"
        self._write()

    def _kill(self) -> None:
        """End a look with all that it started, which is of its session."""
        pidfd_send_signal(self._process, SIGKILL)
        try:
            os.killpg(self._pid, SIGKILL)  # our child, not waited for yet: the number is still its own
        except ProcessLookupError:
            return

    def _done(self, code: int, text: str) -> bool:
        now, age = time_ns(), monotonic() - self._born
        result = {"Start": timestamp(self._began), "End": timestamp(now), "ExitCode": code, "Output": text}
        self._log = [*self._log, result][-_KEPT:]
        before = self.status
        self.status, self._streak = judged(self._check, before, self._streak, code=code, age=age)
        self._next = monotonic() + pause(self._check, self.status, age=age)
        self._write()
        return self.status != before

    def _read(self) -> bool:
        """Take what it wrote, and keep the beginning. Returns whether there was something."""
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:  # something it started has the pipe open, and wrote nothing
            return False
        if not data:
            self._poll.modify(self._output, 0)
        if len(self._text) < _LONGEST:
            self._text += data
        return bool(data)

    def _close(self) -> None:
        for descriptor in (self._process, self._output):
            self._poll.unregister(descriptor)
            os.close(descriptor)
        self._pid = self._process = self._output = -1
        self._text = b""
        self._late = False

    def _write(self) -> None:
        try:
            state.write(self._file, {"Status": self.status, "FailingStreak": self._streak, "Log": self._log})
        except OSError:  # a full disk: the status is in the container's state besides
            return

"""A container's terminal on the caller's own, for `run` and `exec` that wait for the end."""

from __future__ import annotations

import posix
import termios
from _signal import signal
from fcntl import F_GETFL, F_SETFL, fcntl
from select import POLLIN, POLLOUT, poll

from veloci.cli.oci.process import forward
from veloci.kernel import tty
from veloci.kernel.process import exit_status, pidfd, socketpair

_SIGWINCH = 28
_PART = 65536  # bytes


class Console:
    """The place that a container's terminal is sent to. socket, size: for the runtime, as `console`."""

    def __init__(self) -> None:
        self._ours, self.socket = socketpair()
        self._own = next((number for number in range(3) if posix.isatty(number)), -1)
        self.size = tty.size(self._own) if self._own >= 0 else (0, 0)  # rows and columns

    def attend(self, pid: int) -> int:
        """Pass on what is typed and shown until process `pid` has ended. Returns its exit status as a shell's."""
        terminal = tty.receive(self._ours)
        posix.close(self._ours)
        posix.close(self.socket)
        try:
            return _attended(pid, terminal, self._own)
        finally:
            posix.close(terminal)


def _attended(pid: int, terminal: int, own: int) -> int:
    process = pidfd(pid)
    forward(pid)
    before = termios.tcgetattr(own) if own >= 0 else None

    def resize(_number: int, _frame: object) -> None:
        rows, columns = tty.size(own)
        tty.resize(terminal, rows, columns)

    try:
        if before is not None:
            resize(0, None)
            signal(_SIGWINCH, resize)
            termios.tcsetattr(own, termios.TCSADRAIN, _raw(before))
        _relay(process, terminal)
    finally:
        if before is not None:
            termios.tcsetattr(own, termios.TCSADRAIN, before)
        posix.close(process)
    return exit_status(posix.waitpid(pid, 0)[1])


def _raw(modes: list[int | list[bytes | int]]) -> list[int | list[bytes | int]]:
    """A terminal's modes with which every byte typed is passed on as it is — cfmakeraw, termios(3).

    What is shown stays processed: the container's terminal leaves newlines to this one.
    """
    input, output, control, local, *rest = modes
    assert isinstance(input, int)
    assert isinstance(output, int)
    assert isinstance(control, int)
    assert isinstance(local, int)
    input &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    input &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
    local &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    control = control & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    return [input, output | termios.OPOST, control, local, *rest]


def _relay(process: int, terminal: int) -> None:
    """Between stdin, stdout and the terminal; what the container does not read yet holds up only the input."""
    fcntl(terminal, F_SETFL, fcntl(terminal, F_GETFL) | posix.O_NONBLOCK)
    typed, more, shown = b"", True, True
    while True:
        waiting = poll()
        waiting.register(process, POLLIN)
        if shown:
            waiting.register(terminal, POLLIN | (POLLOUT if typed else 0))
        if more and len(typed) < _PART:
            waiting.register(0, POLLIN)
        ready = dict(waiting.poll())
        if typed and ready.get(terminal, 0) & POLLOUT:
            typed = typed[_written(terminal, typed) :]
        if ready.get(terminal, 0) & ~POLLOUT:
            shown = _shown(terminal)
        if 0 in ready:
            part = _read(0)
            typed, more = typed + part, bool(part)
        if process in ready:
            while _shown(terminal):
                pass
            return


def _read(descriptor: int) -> bytes:
    try:
        return posix.read(descriptor, _PART)
    except OSError:  # EIO once nobody has the other end open, EBADF if there is none, EAGAIN
        return b""


def _shown(terminal: int) -> bool:
    """Pass on what the terminal has to show; False if there is nothing, and at its end."""
    rest = part = _read(terminal)
    while rest:
        rest = rest[posix.write(1, rest) :]
    return bool(part)


def _written(terminal: int, data: bytes) -> int:
    try:
        return posix.write(terminal, data)
    except BlockingIOError:
        return 0

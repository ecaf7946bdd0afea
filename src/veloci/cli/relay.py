"""Between the user's terminal and a container: copy streams, pass signals on, end with its exit status."""

from __future__ import annotations

import os
from _signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, signal
from select import POLLERR, POLLHUP, POLLIN, poll

from veloci.errors import InvalidInput
from veloci.monitor import console, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

_FORWARDED = (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2)
_DETACH = b"\x10\x11"  # ctrl-p ctrl-q
_SOME = 16 << 10  # bytes


def needs_terminal() -> None:
    """Refuse `-it` where standard input is no terminal, as docker does. Raises InvalidInput."""
    if not os.isatty(0):
        raise InvalidInput("the input device is not a TTY", hint="leave out --tty", exit_status=1)


class Raw:
    """The user's terminal passes every key through, for a while; nothing where `tty` is False."""

    def __init__(self, *, tty: bool) -> None:
        self._tty = tty and os.isatty(0)
        self._mode: list[Any] = []

    def __enter__(self) -> None:
        if self._tty:
            self._mode = console.raw(0)

    def __exit__(self, *_: object) -> None:
        if self._tty:
            console.restore(0, self._mode)


def attached(connection: socket, *, stdin: bool, tty: bool) -> int:
    """Copy between a monitor's connection and our standard streams until the container ends.

    Returns its exit status; 0 when the user detaches.
    """
    for number in _FORWARDED:
        signal(number, lambda number, _frame: _send(connection, b"k%d" % number))
    if tty and os.isatty(0):
        signal(SIGWINCH, lambda _number, _frame: _resize(connection))
        _resize(connection)
    waiting = poll()
    waiting.register(connection, POLLIN)
    if stdin:
        waiting.register(0, POLLIN)
    keys = b""
    with Raw(tty=tty and stdin):
        while True:
            for descriptor, events in waiting.poll():
                if descriptor == 0 and events & (POLLIN | POLLHUP | POLLERR):
                    data = os.read(0, _SOME)
                    keys = (keys + data)[-2:]
                    if tty and keys == _DETACH:
                        return 0
                    _send(connection, b"i" + data if data else b"c")
                    if not data:
                        waiting.unregister(0)
                elif descriptor != 0:
                    code = _received(connection)
                    if code is not None:
                        return code


def _received(connection: socket) -> int | None:
    """Write what the container wrote; its exit status if this was the end."""
    message = connection.recv(session.CHUNK + 1)
    if message[:1] in (b"o", b"e"):
        _write(1 if message[:1] == b"o" else 2, message[1:])
        return None
    if message[:1] == b"x":
        return int(message[1:])
    return None if message else 255  # the monitor was killed


def _send(connection: socket, message: bytes) -> None:
    try:
        connection.send(message)
    except OSError:
        return  # it ended; its exit status is on its way


def _resize(connection: socket) -> None:
    _send(connection, b"r%d %d" % console.size(0))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def process(pid: int, streams: dict[int, int], source: int, *, tty: bool) -> int:
    """Copy between a process of ours in a container and our standard streams until it ends. Returns its status.

    streams: descriptor of its output -> ours. source: descriptor of its standard input, or -1.
    """
    if tty:
        terminal = next(iter(streams))
        signal(SIGWINCH, lambda _number, _frame: console.resize(terminal, *console.size(0)))
        console.resize(terminal, *console.size(0))
    waiting = poll()
    for descriptor in streams:
        waiting.register(descriptor, POLLIN)
    if source >= 0:
        waiting.register(0, POLLIN)
    with Raw(tty=tty):
        while streams:
            for descriptor, _ in waiting.poll():
                if descriptor == 0 and source >= 0:
                    data = os.read(0, _SOME)
                    if data:
                        _write(source, data)
                        continue
                    waiting.unregister(0)
                    if not tty:
                        os.close(source)
                        source = -1
                    continue
                data = _read(descriptor)
                if data:
                    _write(streams[descriptor], data)
                else:
                    waiting.unregister(descriptor)
                    del streams[descriptor]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _SOME)
    except OSError:  # EIO: nobody has the terminal open
        return b""

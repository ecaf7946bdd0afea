"""The other side of a session: a terminal or pipes, joined to a container's monitor."""

from __future__ import annotations

import os
from _signal import SIG_DFL, SIGCHLD, SIGPIPE, SIGURG, SIGWINCH, signal
from select import POLLIN, poll

from veloci.errors import VelociError
from veloci.monitor import console, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

DETACH = b"\x10\x11"  # ctrl-p ctrl-q
_NOT_FORWARDED = {SIGCHLD, SIGPIPE, SIGURG, SIGWINCH, 9, 19, 20, 21, 22, 28, 18, 32, 33}


def serve(connection: socket, *, stdin: bool, tty: bool, forward: bool = True) -> int:
    """Copy the output to 1 and 2 and, with `stdin`, 0 to the container, until it ends. Returns its exit status.

    tty: 0 is a terminal, set to raw meanwhile. forward: signals go to the container.
    Raises VelociError when the monitor goes away, or when the detach keys are typed ("read escape sequence").
    """
    mode = console.raw(0) if tty and stdin and os.isatty(0) else None
    caught = _forward(connection, tty=tty) if forward else []
    try:
        if tty and os.isatty(0):
            connection.send(b"r%d %d" % console.size(0))
        return _copy(connection, stdin=stdin, tty=tty)
    finally:
        for number in caught:
            signal(number, SIG_DFL)
        if mode is not None:
            console.restore(0, mode)


def _forward(connection: socket, *, tty: bool) -> list[int]:
    def forward(number: int, _frame: object) -> None:
        connection.send(b"k%d" % number)

    def resized(_number: int, _frame: object) -> None:
        connection.send(b"r%d %d" % console.size(0))

    caught = []
    for number in range(1, 32):
        if number not in _NOT_FORWARDED:
            signal(number, forward)
            caught.append(number)
    if tty and os.isatty(0):
        signal(SIGWINCH, resized)
        caught.append(SIGWINCH)
    return caught


def _copy(connection: socket, *, stdin: bool, tty: bool) -> int:
    waiting = poll()
    waiting.register(connection, POLLIN)
    if stdin:
        waiting.register(0, POLLIN)
    before = b""
    while True:
        ready = {descriptor for descriptor, _ in waiting.poll()}
        if connection.fileno() in ready:
            message = connection.recv(session.CHUNK + 1)
            kind, data = message[:1], message[1:]
            if kind == b"x":
                return int(data)
            if not kind:
                raise VelociError("the container's monitor is gone", hint="veloci ps -a")
            if kind in (b"o", b"e"):
                _write(1 if kind == b"o" else 2, data)
        elif 0 in ready:
            data = os.read(0, session.CHUNK)
            if tty and DETACH in before + data:
                raise VelociError("read escape sequence", exit_status=1)
            before = data[-1:]
            connection.send(b"i" + data if data else b"c")
            if not data:
                waiting.unregister(0)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

"""The end of a container that a monitor looks after: asked for, waited for, brought about."""

from __future__ import annotations

from time import monotonic

from veloci.monitor import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

_KILLED = 30  # seconds that the kernel may take to end what was killed


def asked(connection: socket, signal: int, seconds: int) -> Callable[[], None]:
    """Send it `signal`. Gives what waits, until `seconds` from now (-1: for ever), and then kills it."""
    end = monotonic() + seconds
    session.say(connection, b"h%d" % signal)

    def finish() -> None:
        if seconds >= 0:
            connection.settimeout(max(end - monotonic(), 0.001))
        if await_end(connection) is None:
            connection.settimeout(_KILLED)
            session.say(connection, b"h9")
            await_end(connection)
        connection.close()

    return finish


def await_end(connection: socket) -> int | None:
    """The exit status that the monitor sends last; None if it takes longer than the connection's timeout."""
    try:
        while message := session.receive(connection):
            if message[:1] == b"x":
                return int(message[1:])
    except OSError:
        return None
    return None

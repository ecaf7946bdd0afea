"""The end of a container that a monitor looks after: asked for, waited for, brought about."""

from __future__ import annotations

from time import monotonic

from veloci.errors import Conflict, InvalidInput
from veloci.monitor import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from veloci.engine.engine import Engine
    from veloci.engine.record import Record

_KILLED = 30  # seconds that the kernel may take to end what was killed


def begun(engine: Engine, record: Record, signal: int, seconds: int) -> Callable[[], None]:
    """Send it `signal`. Gives what waits, until `seconds` from now (-1: for ever), and then kills it."""
    containers = engine.containers
    try:
        connection = containers.connect(record.id)
    except Conflict:
        orphan = containers.orphan(record.id)
        return lambda: orphan.stop(signal, seconds)
    why = _unheard(record.name, containers.records.current(record.id).pid, signal, seconds)
    session.say(connection, b"h%d" % signal)
    end = monotonic() + seconds

    def finish() -> None:
        if seconds >= 0:
            connection.settimeout(max(end - monotonic(), 0.001))
        if await_end(connection) is None:
            connection.settimeout(_KILLED)
            session.say(connection, b"h9")
            await_end(connection)
            engine.warn(*why)
        connection.close()
        containers.tell(record.id, "stop")

    return finish


def _unheard(name: str, pid: int, signal: int, seconds: int) -> list[str]:
    """What to say if it has to be killed: nothing where no time was given, else that, and what helps.

    A first process of a PID namespace that has no handler for a signal does not get it at all.
    """
    if seconds <= 0:
        return []
    text = f"container {name} was killed: signal {signal} did not end it in {seconds} s"
    try:
        with open(f"/proc/{pid}/status") as file:
            caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return [text]
    if caught & 1 << signal - 1:
        return [text]
    return [f"{text}, for its first process does not handle it; veloci run --init does"]


def await_end(connection: socket) -> int | None:
    """The exit status that the monitor sends last; None if it takes longer than the connection's timeout."""
    try:
        while message := session.receive(connection):
            if message[:1] == b"x":
                return int(message[1:])
    except OSError:
        return None
    return None


def signal_number(text: str, where: str = "") -> int:
    """`SIGTERM`, `term` or `15` as a number. Raises InvalidInput at `where`."""
    import _signal

    name = text.upper()
    if name.isascii() and name.isdigit() and 0 < int(name) < 65:
        return int(name)
    number = getattr(_signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(number, int):
        raise InvalidInput(f"unknown signal {text!r}", where=where, hint="a name as in TERM, or a number")
    return number

"""The other side of a session: a user's terminal or pipes, joined to a container's monitor."""

from __future__ import annotations

import os
from _signal import SIG_DFL, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGURG, SIGWINCH, signal
from select import POLLIN, poll

from veloci.errors import VelociError
from veloci.monitor import console, keys, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterable

# SIGWINCH is for a terminal's size; KILL, STOP and the two of the C library's own cannot be caught.
_NOT_FORWARDED = {SIGCHLD, SIGPIPE, SIGURG, SIGWINCH, 9, 19, 32, 33}
_WINDOW = 1 << 18  # bytes of input on their way to a container that does not read


class Detached(VelociError):
    """The user typed the detach keys."""


class Interrupted(BaseException):
    """A signal that ends this process, once the terminal is as it was."""


def serve(
    connection: socket,
    *,
    stdin: bool,
    tty: bool,
    forward: bool = True,
    detach_keys: str = keys.DEFAULT,
    shown: tuple[str, ...] = ("stdout", "stderr"),
) -> int:
    """Copy the output to 1 and 2 and, with `stdin`, 0 to the container, until it ends. Returns its exit status.

    tty: the container has a terminal; ours, if 0 is one, is raw meanwhile. forward: signals go to the container.
    shown: which of its output, the other is dropped.
    Raises Detached when the detach keys are typed, VelociError when the monitor goes away, InvalidInput.
    """
    watch = keys.Watch(keys.parse(detach_keys)) if tty and stdin else None
    session.say(connection, b"ao" + b"i" * stdin)
    if forward:
        _catch(range(1, 65), lambda number: session.say(connection, b"h%d" % number))
    with Raw(tty=tty and stdin, guard=not forward):
        if tty and console.window():
            _catch((SIGWINCH,), lambda _: resize(connection))
            resize(connection)
        places = {b"o": 1 if "stdout" in shown else -1, b"e": 2 if "stderr" in shown else -1}
        return _copy(connection, places, stdin=stdin, watch=watch)


class Raw:
    """The user's terminal passes every key through, for a while; nothing where `tty` is False or 0 is no terminal."""

    def __init__(self, *, tty: bool, guard: bool = True) -> None:
        """guard: a signal that ends this process sets the terminal back first."""
        self._tty, self._guard = tty and os.isatty(0), guard

    def __enter__(self) -> None:
        if self._tty:
            self._mode = console.raw(0)
            if self._guard:
                _catch((SIGHUP, SIGINT, SIGQUIT, SIGTERM), self._ended)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._tty:
            console.restore(0, self._mode)
            if isinstance(error, Interrupted):
                signal(error.args[0], SIG_DFL)
                os.kill(os.getpid(), error.args[0])

    def _ended(self, number: int) -> None:
        raise Interrupted(number)


def resize(connection: socket) -> None:
    """Give the container's terminal the size of ours."""
    size = console.window()
    if size:
        session.say(connection, b"r%d %d" % size)


def redraw(connection: socket) -> None:
    """Have what runs on the container's terminal draw it anew: another size first, the right one from `serve`."""
    size = console.window()
    if size:
        session.say(connection, b"r%d %d" % (size[0] + 1, size[1] + 1))


def write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(descriptor, data) :]


def _catch(numbers: Iterable[int], act: Callable[[int], None]) -> None:
    """Call `act` with a signal's number when it comes."""
    for number in numbers:
        if number not in _NOT_FORWARDED or number == SIGWINCH:
            signal(number, lambda number, _frame: act(number))


def _copy(connection: socket, places: dict[bytes, int], *, stdin: bool, watch: keys.Watch | None) -> int:
    waiting = poll()
    waiting.register(connection, POLLIN)
    source, reading = _Input(connection, watch), False
    while True:
        if reading != (stdin and source.wanted):
            reading = not reading
            waiting.register(0, POLLIN) if reading else waiting.unregister(0)
        ready = {descriptor for descriptor, _ in waiting.poll()}
        if connection.fileno() in ready:
            message = session.receive(connection)
            kind, data = message[:1], message[1:]
            if kind == b"x":
                return int(data)
            if not kind:
                raise VelociError("the container's monitor is gone", hint="veloci ps -a")
            if kind in places:
                if places[kind] >= 0:
                    write(places[kind], data)
            elif stdin:
                source.answered(kind)
        elif 0 in ready:
            source.read()


class _Input:
    """Our standard input, as far as the container takes it."""

    def __init__(self, connection: socket, watch: keys.Watch | None) -> None:
        self._connection, self._watch = connection, watch
        self._behind: list[int] = []  # bytes of each message that it has not taken yet
        self._open = True

    @property
    def wanted(self) -> bool:
        """Whether to read more of it."""
        return self._open and sum(self._behind) < _WINDOW

    def read(self) -> None:
        """Pass on what is there. Raises Detached."""
        try:
            typed = os.read(0, session.CHUNK)
        except OSError:  # a terminal that is gone
            typed = b""
        data = self._watch.typed(typed) if self._watch else typed
        if data:
            self._behind.append(len(data))
            session.say(self._connection, b"i" + data)
        if self._watch and self._watch.found:
            raise Detached("read escape sequence", exit_status=1)
        if not typed:
            self._open = False
            session.say(self._connection, b"c")

    def answered(self, kind: bytes) -> None:
        """The container took a message (b"w"), or takes no more (b"z")."""
        self._open = self._open and kind == b"w"
        self._behind.pop(0)

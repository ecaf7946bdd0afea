"""Between the user's terminal and a further process in a container: copy streams, end with its exit status."""

from __future__ import annotations

import os
from _signal import SIG_IGN, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH, signal
from select import POLLERR, POLLHUP, POLLIN, poll

from veloci.errors import InvalidInput
from veloci.monitor import console, keys
from veloci.monitor.client import Detached, Raw, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SOME = 16 << 10  # bytes


def needs_terminal() -> None:
    """Refuse `-it` where standard input is no terminal, as docker does. Raises InvalidInput."""
    if not os.isatty(0):
        raise InvalidInput("the input device is not a TTY", hint="leave out --tty", exit_status=1)


class Process:
    """A process in a container that is a child of ours, and its streams."""

    def __init__(self, pid: int, outputs: dict[int, int], source: int = -1) -> None:
        """outputs: descriptor of its output -> ours. source: descriptor of its standard input, or -1."""
        self.pid, self.outputs, self.source = pid, outputs, source

    def relay(self) -> int:
        """Copy until it ends, passing on what would end us. Returns its exit status."""
        for number in (SIGHUP, SIGINT, SIGQUIT, SIGTERM):
            signal(number, lambda number, _frame: os.kill(self.pid, number))
        self._copy(None)
        return self._status()

    def relay_terminal(self, detach_keys: str) -> int:
        """The same for one with a terminal, its only stream. Raises Detached, after which it lives on."""
        [terminal] = self.outputs
        watch = keys.Watch(keys.parse(detach_keys))
        signal(SIGWINCH, lambda _number, _frame: _resize(terminal))
        _resize(terminal)
        try:
            with Raw(tty=self.source >= 0):
                self._copy(watch)
        except Detached:
            _keep(terminal)
            raise
        return self._status()

    def _copy(self, watch: keys.Watch | None) -> None:
        waiting = poll()
        for descriptor in self.outputs:
            waiting.register(descriptor, POLLIN)
        if self.source >= 0:
            waiting.register(0, POLLIN)
            if self.source not in self.outputs:
                waiting.register(self.source, 0)  # POLLERR: nobody reads it any more
        while self.outputs:
            for descriptor, events in waiting.poll():
                if descriptor in self.outputs:
                    self._output(descriptor, waiting)
                elif descriptor == 0 and self.source >= 0:
                    self._input(waiting, watch)
                elif descriptor == self.source and events & (POLLERR | POLLHUP):
                    self._end_input(waiting)

    def _output(self, descriptor: int, waiting: Any) -> None:
        try:
            data = os.read(descriptor, _SOME)
        except OSError:  # EIO: nobody has the terminal open
            data = b""
        if data:
            write(self.outputs[descriptor], data)
        else:
            waiting.unregister(descriptor)
            del self.outputs[descriptor]

    def _input(self, waiting: Any, watch: keys.Watch | None) -> None:
        typed = os.read(0, _SOME)
        data = watch.typed(typed) if watch else typed
        try:
            write(self.source, data)
        except BrokenPipeError:
            typed = b""
        if watch and watch.found:
            raise Detached("read escape sequence", exit_status=1)
        if not typed:
            self._end_input(waiting)

    def _end_input(self, waiting: Any) -> None:
        waiting.unregister(0)
        if self.source in self.outputs:
            os.write(self.source, b"\x04")  # the terminal's own end of input
        else:
            waiting.unregister(self.source)
            os.close(self.source)
        self.source = -1

    def _status(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code if code >= 0 else 128 - code


def _resize(terminal: int) -> None:
    size = console.window()
    if size:
        console.resize(terminal, *size)


def _keep(terminal: int) -> None:
    """Leave a process of ours behind that reads the terminal, so that what runs there can go on."""
    if os.fork():
        return
    os.setsid()
    for number in (SIGHUP, SIGINT, SIGQUIT, SIGTERM):
        signal(number, SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    try:
        while os.read(terminal, _SOME):
            pass
    except OSError:  # EIO: it has ended
        os._exit(0)
    os._exit(0)

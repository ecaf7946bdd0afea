"""A monitor's ends of a container's standard streams: pipes, or the controlling side of its terminal."""

from __future__ import annotations

import os
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from veloci.monitor import console, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from select import epoll


class Streams:
    """The streams of one start of a container, on `poll`."""

    def __init__(self, poll: epoll, written: Callable[[str, bytes], None]) -> None:
        """written: called with "stdout" or "stderr" and what came from there."""
        self._poll, self._written = poll, written
        self._sources: dict[int, str] = {}
        self._flowing = True
        self._input = -1
        self._waiting: list[tuple[bytes, Callable[[bool], None]]] = []
        self.tty = -1

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._sources or (descriptor >= 0 and descriptor == self._input)

    def pipes(self, *, terminal: bool, stdin: bool) -> tuple[int, int, int]:
        """The container's 0, 1 and 2, which the caller closes. terminal: `watch` will be given one instead."""
        if terminal or not stdin:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            if terminal:
                return null, null, null
        else:
            null, self._input = os.pipe2(os.O_CLOEXEC)
        out, out_theirs = os.pipe2(os.O_CLOEXEC)
        error, error_theirs = os.pipe2(os.O_CLOEXEC)
        self._sources = {out: "stdout", error: "stderr"}
        return null, out_theirs, error_theirs

    def watch(self, terminal: int) -> None:
        """Begin to serve them. terminal: the descriptor of its controlling side, or -1."""
        if terminal >= 0:
            self.tty = self._input = terminal
            self._sources = {terminal: "stdout"}
        for descriptor in {*self._sources, self._input} - {-1}:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, self._events(descriptor))

    def serve(self, descriptor: int, events: int) -> None:
        """Do what can be done now at one of ours."""
        if descriptor in self._sources and events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            self._read(descriptor)
        if descriptor == self._input and events & EPOLLERR and descriptor != self.tty:
            self._no_input()
        elif descriptor == self._input and events & EPOLLOUT:
            self._feed()

    def drain(self) -> None:
        """Read all that was written and not read yet: its writers have ended."""
        for descriptor in list(self._sources):
            while self._read(descriptor):
                pass

    def flow(self, *, flowing: bool) -> None:
        """Let the container write, or have it wait, as it would for a terminal that does not take more."""
        if flowing != self._flowing:
            self._flowing = flowing
            for descriptor in self._sources:
                self._poll.modify(descriptor, self._events(descriptor))

    def feed(self, data: bytes, taken: Callable[[bool], None]) -> None:
        """Write `data` to its standard input. taken: called when that is done, with whether it reads on."""
        self._waiting.append((data, taken))
        self._feed()

    def end_input(self) -> None:
        """End its standard input, after what waits; a terminal is told by its own end-of-file key."""
        if self._input == self.tty:
            self.feed(b"\x04", lambda _: None)
        else:
            self.feed(b"", lambda _: None)

    def resize(self, rows: int, columns: int) -> None:
        """Give its terminal a size, if it has one."""
        if self.tty >= 0:
            console.resize(self.tty, rows, columns)

    def close(self) -> None:
        """Close what is left open."""
        for descriptor in {*self._sources, self._input, self.tty} - {-1}:
            os.close(descriptor)  # which takes it off the poll
        self._sources, self._waiting = {}, []
        self._input = self.tty = -1
        self._flowing = True

    def _events(self, descriptor: int) -> int:
        """What to wait for at `descriptor`."""
        reading = EPOLLIN if descriptor in self._sources and self._flowing else 0
        return reading | (EPOLLOUT if descriptor == self._input and self._waiting else 0)

    def _read(self, descriptor: int) -> bool:
        """Pass on what the container wrote. Returns whether there was something."""
        try:
            data = os.read(descriptor, session.CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the terminal open
            data = b""
        if data:
            self._written(self._sources[descriptor], data)
            return True
        self._poll.unregister(descriptor)
        del self._sources[descriptor]
        if descriptor == self.tty:  # nobody has it open, so nobody reads it either
            self._no_input()
        else:
            os.close(descriptor)
        return False

    def _feed(self) -> None:
        """Write what waits to its standard input; b"" is the end of it."""
        while self._waiting and self._input >= 0:
            data, taken = self._waiting[0]
            try:
                written = os.write(self._input, data) if data else -1
            except BlockingIOError:
                break
            except OSError:  # nobody reads it any more
                written = -1
            if written < 0:
                self._no_input()
            elif written < len(data):
                self._waiting[0] = data[written:], taken
            else:
                self._waiting.pop(0)
                taken(True)
        if self._input < 0:
            self._no_input()
        else:
            self._poll.modify(self._input, self._events(self._input))

    def _no_input(self) -> None:
        """Nothing can be written to it any more: whoever waits for that is told."""
        if self._input >= 0 and self._input != self.tty:
            self._poll.unregister(self._input)
            os.close(self._input)
        self._input = -1
        waiting, self._waiting = self._waiting, []
        for _, taken in waiting:
            taken(False)

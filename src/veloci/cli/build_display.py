"""How a build says what it does. Takes the build's steps, gives lines; a terminal's picture is build_screen's.

    #3 [build 2/3] RUN make
    #3 0.214 cc -c main.c
    #3 DONE 1.9s

The lines are buildkit's, so that what reads its log reads ours. Any thread may report.
Implements build.parts.Progress.
"""

from __future__ import annotations

import sys
from _thread import RLock
from time import monotonic

from veloci.cli.output import size, visible
from veloci.cli.progress import INTERVAL, Going, label
from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TextIO

KINDS = ("auto", "plain", "tty", "rawjson", "quiet")
KEPT = 65_536  # bytes of a step's output that are kept to show again when it fails


def display(kind: str, stream: TextIO | None = None) -> Display:
    """What reports to `stream`, standard error by default. kind: of --progress. Raises InvalidInput."""
    from os import environ

    stream = stream or sys.stderr
    if kind not in KINDS:
        raise InvalidInput(f"unknown kind {kind!r}", where="--progress", hint=", ".join(KINDS))
    able = stream.isatty() and environ.get("TERM", "dumb") not in ("dumb", "unknown")
    if kind == "tty" and not able:
        raise InvalidInput("standard error is no terminal that can move its cursor", where="--progress=tty")
    if kind in ("auto", "tty") and able:
        from veloci.cli.build_screen import Screen  # rich: 60 ms of import, for terminals only

        return Screen(stream)
    if kind == "rawjson":
        from veloci.cli.build_json import RawJson

        return RawJson(stream)
    return Quiet(stream) if kind == "quiet" else Plain(stream)


class Step:
    """One step: what it is, since when, what it printed, the bytes it moves."""

    def __init__(self, number: int, title: str) -> None:
        self.number, self.title = number, title
        self.began = monotonic()
        self.seconds = 0.0  # how long it took, once it has ended
        self.state = "running"  # done, cached, failed
        self.kept: list[str] = []  # its last lines, each with its time
        self.moving: dict[str, Going] = {}
        self._rest = b""
        self._size = 0

    def lines(self, data: bytes) -> list[str]:
        """The whole lines that `data` ends or holds, harmless and with their times."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [self._kept(line) for line in lines]

    def flushed(self) -> list[str]:
        """The last line, if no newline ended it."""
        rest, self._rest = self._rest, b""
        return [self._kept(rest)] if rest else []

    def _kept(self, line: bytes) -> str:
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2].expandtabs()
        shown = f"{monotonic() - self.began:.3f} {visible(text)}"
        self.kept.append(shown)
        self._size += len(shown)
        while self._size > KEPT and len(self.kept) > 1:
            self._size -= len(self.kept.pop(0))
        return shown


class Transfers:
    """The bytes that one step moves: layers of a base, files of the context. A transport.place.Progress."""

    def __init__(self, display: Display, number: int) -> None:
        self._display, self._number = display, number

    def start(self, key: str, text: str, total: int | None = None) -> None:
        """Work on `total` bytes begins, or enters another stage."""
        self._display.moves(self._number, key, text, total)

    def advance(self, key: str, count: int) -> None:
        """`count` more bytes are done."""
        self._display.moved(self._number, key, count)

    def done(self, key: str, text: str) -> None:
        """It ended; `text` says how, "" with how many bytes."""
        self._display.settled(self._number, key, text)


class Display:
    """Keeps the steps and tells the hooks, which print; this one prints nothing."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lock = RLock()
        self.steps: list[Step] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, title: str) -> int:
        """A step begins."""
        with self.lock:
            step = Step(len(self.steps) + 1, visible(title))
            self.steps.append(step)
            self.began(step)
            return step.number

    def output(self, number: int, data: bytes) -> None:
        """What its program printed."""
        with self.lock:
            step = self.steps[number - 1]
            for line in step.lines(data):
                self.said(step, line)

    def transfers(self, number: int) -> Transfers:
        """Who is told of the bytes that the step moves."""
        return Transfers(self, number)

    def done(self, number: int, seconds: float | None) -> None:
        """It is ready, or was cached (None)."""
        with self.lock:
            step = self.steps[number - 1]
            step.seconds = seconds or 0.0
            self._end(step, "cached" if seconds is None else "done")

    def failed(self, number: int, message: str) -> None:
        """It failed."""
        with self.lock:
            step = self.steps[number - 1]
            step.seconds = monotonic() - step.began
            self._end(step, "failed", visible(message))

    def _end(self, step: Step, state: str, message: str = "") -> None:
        for line in step.flushed():
            self.said(step, line)
        step.state = state
        step.moving.clear()
        self.ended(step, message)

    def moves(self, number: int, key: str, text: str, total: int | None) -> None:
        """See Transfers.start."""
        with self.lock:
            self.steps[number - 1].moving[key] = Going(text, total)

    def moved(self, number: int, key: str, count: int) -> None:
        """See Transfers.advance."""
        with self.lock:
            step = self.steps[number - 1]
            going = step.moving.get(key)
            if going is None:
                return
            going.count += count
            now = monotonic()
            if now - going.told >= INTERVAL:
                going.told = now
                self.goes_on(step, f"{label(key)}: {going.now(now)}")

    def settled(self, number: int, key: str, text: str) -> None:
        """See Transfers.done."""
        with self.lock:
            step = self.steps[number - 1]
            going = step.moving.pop(key, None)
            self.goes_on(step, f"{label(key)}: {text or size(going.count if going else 0)}")

    def note(self, number: int, text: str) -> None:
        """A word about a step: what it wrote, how it is called."""
        with self.lock:
            self.goes_on(self.steps[number - 1], text)

    def line(self, text: str) -> None:
        """A line of no step: a warning."""

    def began(self, step: Step) -> None:
        """Hook: the step begins."""

    def said(self, step: Step, line: str) -> None:
        """Hook: its program printed a line."""

    def goes_on(self, step: Step, text: str) -> None:
        """Hook: a word about its bytes."""

    def ended(self, step: Step, message: str) -> None:
        """Hook: it ended; `message` says why it failed."""


class Plain(Display):
    """A line for each thing that happens, as buildkit's plain progress."""

    def line(self, text: str) -> None:
        """Print it; control characters stay harmless."""
        with self.lock:
            self.stream.write(f"{visible(text)}\n")
            self.stream.flush()

    def began(self, step: Step) -> None:
        """The title."""
        self.line(f"#{step.number} {step.title}")

    def said(self, step: Step, line: str) -> None:
        """The line, behind the step's number and time."""
        self.line(f"#{step.number} {line}")

    def goes_on(self, step: Step, text: str) -> None:
        """Where its bytes are."""
        self.line(f"#{step.number} {text}")

    def ended(self, step: Step, message: str) -> None:
        """CACHED, how long it took, or why it failed."""
        how = {"cached": "CACHED", "failed": f"ERROR: {message}"}.get(step.state, f"DONE {step.seconds:.1f}s")
        self.line(f"#{step.number} {how}")


class Quiet(Display):
    """Prints nothing but what a failing step's program said."""

    def ended(self, step: Step, message: str) -> None:  # noqa: ARG002 -- the interface's
        """Let go of the output, or print it."""
        if step.state == "failed":
            self.stream.write(again(step))
            self.stream.flush()
        step.kept.clear()


def again(step: Step) -> str:
    """A failed step's output once more, between rules; "" when it printed nothing."""
    if not step.kept:
        return ""
    return "\n".join(["------", f" > {step.title}:", *step.kept, "------", ""])

"""How far a transfer is. Takes starts, advances and ends of keyed things (blobs), gives lines or bars.

    with progress() as report:
        copy(source, destination, progress=report)

On a terminal a bar a blob with bytes and rate, each replaced by its line when it ends; elsewhere
the lines alone, as docker prints them (`abcdef123456: Pull complete`), with one in between for
what takes long. Any thread may report. Implements transport.place.Progress.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock  # a lock for those who have threads; this package starts none
from time import monotonic

from veloci.cli.output import short, size, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TextIO

INTERVAL = 5.0  # seconds between two lines about a blob that is on its way


def progress(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """What reports to `stream`, standard output by default: bars if it is a terminal, else lines; quiet: nothing."""
    from os import environ

    stream = stream or sys.stdout
    if quiet:
        return Progress()
    if stream.isatty() and environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        from veloci.cli.progress_bars import Bars  # rich: 60 ms of import, for terminals only

        return Bars(stream)
    return Lines(stream)


class Progress:
    """Reports nothing; the others' base."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, key: str, text: str, total: int | None = None) -> None:
        """The thing `key` begins, or enters another stage, named `text`; `total` is in bytes."""

    def advance(self, key: str, count: int) -> None:
        """`count` more bytes of it are done."""

    def done(self, key: str, text: str) -> None:
        """It is ready; `text` says how: Pull complete, Already exists."""


class Lines(Progress):
    """A line when something starts, now and then while it goes on, and when it is done."""

    def __init__(self, stream: TextIO, interval: float = INTERVAL) -> None:
        self._stream, self._interval = stream, interval
        self._lock = allocate_lock()
        self._going: dict[str, Going] = {}

    def start(self, key: str, text: str, total: int | None = None) -> None:
        """Print `key: text`."""
        with self._lock:
            self._going[key] = Going(text, total)
            self._line(key, text)

    def advance(self, key: str, count: int) -> None:
        """Count; print where it is if the last line about it is old."""
        with self._lock:
            going = self._going.get(key)
            if going is None:
                return
            going.count += count
            now = monotonic()
            if now - going.told >= self._interval:
                going.told = now
                self._line(key, going.now(now))

    def done(self, key: str, text: str) -> None:
        """Print `key: text`."""
        with self._lock:
            self._going.pop(key, None)
            self._line(key, text)

    def _line(self, key: str, text: str) -> None:
        self._stream.write(visible(f"{label(key)}: {text}") + "\n")
        self._stream.flush()


class Going:
    """A thing on its way: its bytes so far, of how many (None: nobody knows), since when."""

    def __init__(self, text: str, total: int | None) -> None:
        self.text, self.total, self.count = text, total, 0
        self.began = self.told = monotonic()

    def now(self, moment: float) -> str:
        """`Downloading 12.3MB/45MB 3.2MB/s`."""
        of = f"/{size(self.total)}" if self.total else ""
        return f"{self.text} {size(self.count)}{of} {size(self.count / max(moment - self.began, 0.001))}/s"


def label(key: str) -> str:
    """What the reader knows a thing by: a digest's first 12 characters, else the key itself."""
    return short(key) if key.startswith(("sha256:", "sha512:")) else key

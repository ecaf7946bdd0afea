"""A container's log, in docker's json-file form, bounded by rotation.

    {"log":"out\n","stream":"stdout","time":"2026-11-24T04:22:16.123456789Z"}

One line an entry; a line longer than 16 KiB is cut into several, of which only the last ends with a newline.
"""

from __future__ import annotations

import os
from _json import encode_basestring
from time import gmtime, time_ns

from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Entry = tuple[int, str, str]  # nanoseconds since 1970, stream, text

LONGEST = 16 << 10  # bytes of one entry
_MOST = 1000  # files that are looked for
MAX_SIZE, MAX_FILES = 10 << 20, 3  # unless told otherwise: docker's default, no bound, fills disks


class Log:
    """The writing end. max_size: bytes of one file; max_files: how many, the rotated ones included."""

    def __init__(
        self,
        path: str,
        *,
        max_size: int = MAX_SIZE,
        max_files: int = MAX_FILES,
        attributes: dict[str, str] | None = None,
    ) -> None:
        """attributes: stand with every entry, for `logs --details`."""
        self.path, self.max_size, self.max_files = path, max_size, max_files
        self._attributes = f',"attrs":{dumps(attributes).decode()}' if attributes else ""
        self._partial = {"stdout": b"", "stderr": b""}
        self._lost, self._why = 0, ""  # bytes that could not be written
        self._file = self._open()

    def write(self, stream: str, data: bytes) -> None:
        """Add what the container wrote to `stream`. Whole lines are written now, the rest when more comes."""
        *lines, rest = (self._partial[stream] + data).split(b"\n")
        pieces = [piece for line in lines for piece in _cut(line + b"\n")]
        while len(rest) >= LONGEST:
            pieces.append(rest[:LONGEST])
            rest = rest[LONGEST:]
        self._partial[stream] = rest
        if pieces:
            self._append(stream, pieces)

    def flush(self) -> None:
        """Write what had no newline yet: its writers have ended."""
        for stream, rest in self._partial.items():
            if rest:
                self._append(stream, [rest])
                self._partial[stream] = b""

    def close(self) -> None:
        """Write what had no newline yet, and close."""
        self.flush()
        os.close(self._file)

    def _open(self) -> int:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(file).st_size
        return file

    def _append(self, stream: str, pieces: list[bytes]) -> None:
        end = f',"stream":"{stream}"{self._attributes},"time":"{timestamp(time_ns())}"}}\n'
        data = "".join(
            [f'{{"log":{encode_basestring(piece.decode(errors="replace"))}{end}' for piece in pieces]
        ).encode()
        try:
            if self._size and self._size + len(data) > self.max_size:
                self._rotate()
            self._put(data)
        except OSError as error:  # a full disk, for one: the container goes on, and what is lost is told of
            self._lost += sum(map(len, pieces))
            self._why = error.strerror or str(error)

    def _put(self, data: bytes) -> None:
        if self._lost:
            told = f"veloci: {self._lost} bytes of this log were lost: {self._why}\n"
            end = f',"stream":"stderr","time":"{timestamp(time_ns())}"}}\n'
            data = f'{{"log":{encode_basestring(told)}{end}'.encode() + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, self._size)  # no half line
            raise
        self._size += len(data)
        self._lost = 0

    def _rotate(self) -> None:
        """Make log log.1, log.1 log.2, …; the oldest goes."""
        names = [self.path, *(f"{self.path}.{number}" for number in range(1, self.max_files))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if os.path.exists(newer):
                os.rename(newer, older)
        if self.max_files == 1:
            os.unlink(self.path)
        before, self._file = self._file, self._open()
        os.close(before)


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, in UTC, as docker writes it."""
    t = gmtime(nanoseconds // 1_000_000_000)
    day = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}"
    return f"{day}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}.{nanoseconds % 1_000_000_000:09}Z"


def nanoseconds(text: str) -> int:
    """`timestamp`'s inverse, for what it wrote."""
    from calendar import timegm
    from time import strptime

    whole, _, fraction = text.removesuffix("Z").partition(".")
    return timegm(strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])


class Reader:
    """The reading end: everything there is, then what comes. It follows the files through rotations."""

    def __init__(self, path: str, *, tail: int | None = None) -> None:
        """tail: begin with the last so many entries; None is all."""
        self.path = path
        self._rest = b""
        self._files = self._open()  # descriptors, the oldest first; the last is, or was, the one that grows
        self._skip = 0 if tail is None else max(sum(map(_count, self._files)) - tail, 0)

    def entries(self) -> Iterator[tuple[str, str, str, dict[str, str]]]:
        """Time, stream, text and attributes of each entry that is there now and was not given yet."""
        for line in self.lines():
            if self._skip:
                self._skip -= 1
                continue
            try:
                entry = loads(line)
                yield entry["time"], entry["stream"], entry["log"], entry.get("attrs") or {}
            except (ValueError, KeyError, TypeError):  # half a line, of a machine that lost its power
                continue

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)
        self._files = []

    def lines(self) -> Iterator[bytes]:
        """Each line, as it is in the file, that is there now and was not given yet."""
        if not self._files:
            self._files = self._open()
        while self._files:
            while data := os.read(self._files[0], 1 << 16):
                *lines, self._rest = (self._rest + data).split(b"\n")
                yield from lines
            if len(self._files) == 1:
                self._files += self._newer(self._files[0])
            if len(self._files) == 1:
                return
            os.close(self._files.pop(0))
            self._rest = b""

    def _open(self) -> list[int]:
        """All the files there are, the oldest first."""
        found: list[int] = []
        for number in range(_MOST):
            file = _opened(f"{self.path}.{number}" if number else self.path)
            if file < 0:
                break
            if found and os.path.samestat(os.fstat(file), os.fstat(found[0])):  # they moved on meanwhile
                for other in (file, *found):
                    os.close(other)
                return self._open()
            found.insert(0, file)
        return found

    def _newer(self, file: int) -> list[int]:
        """The files that were begun since `file` was the one that grows, the oldest first."""
        known, found = os.fstat(file), self._open()
        older = next((place for place, other in enumerate(found) if os.path.samestat(os.fstat(other), known)), -1)
        for other in found[: older + 1]:
            os.close(other)
        return found[older + 1 :]


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _count(file: int) -> int:
    """How many lines the file has, counted by their newlines; its position stays."""
    count = place = 0
    while data := os.pread(file, 1 << 20, place):
        count += data.count(b"\n")
        place += len(data)
    return count


def _cut(line: bytes) -> Iterator[bytes]:
    for start in range(0, len(line), LONGEST):
        yield line[start : start + LONGEST]

"""HTTP/1.1 as a client writes and reads it, without I/O: heads, how long a body is, chunks. RFC 9112.

What is accepted is what h11 accepts, which is the oracle of the tests: importing that takes as long as a small copy.
Every function that reads raises ValueError for what is no HTTP, and takes what it understood off its bytes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

HEAD = 64 << 10  # bytes of a head, of a chunk's size or of trailers, at most; whoever gathers them has to count
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VISIBLE = bytes(range(0x21, 0x7F))
_NEVER = b"\0\n\v\f\r"  # in a value
_HEX = b"0123456789abcdefABCDEF"
_DIGITS = 20  # of a length, at most


class Headers(dict[str, str]):
    """Headers by name, in any case; what several of one name say is joined."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__()
        for name, value in pairs:
            key, said = name.decode("latin-1").lower(), value.decode("latin-1")
            super().__setitem__(key, f"{self[key]}, {said}" if key in self else said)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name.lower(), value)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default`."""
        return super().get(name.lower(), default)


class Head:
    """An answer's status line and headers. closes: the connection does not serve again.

    length: bytes of the body, None if that is not said; chunked: it comes in chunks, whatever `length` says.
    Neither counts for an answer that has no body: to HEAD, 204, 304.
    """

    def __init__(self, status: int, reason: bytes, version: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        self.length, self.chunked = _framing(fields)
        self.status, self.reason, self.headers = status, reason.decode("latin-1"), Headers(fields)
        if self.length is not None:  # which may have been said twice
            self.headers["Content-Length"] = str(self.length)
        self.closes = "close" in self.headers.get("Connection", "").lower() or version < b"1.1"


def request(method: str, target: str, headers: dict[str, str]) -> bytes:
    """The head of a request. Raises ValueError for what HTTP cannot carry."""
    line = f"{method} {target}".encode("ascii")
    if not _is_token(method.encode()) or not target or target.encode().translate(None, _VISIBLE):
        raise ValueError(f"illegal request line {line[:200]!r}")
    found = [b"%b HTTP/1.1" % line]
    for name, value in headers.items():
        said = value.encode("ascii")
        if not _is_token(name.encode("ascii")) or said.strip(b" \t") != said or _is_wrong(said):
            raise ValueError(f"illegal header {name[:200]!r}")
        found.append(b"%b: %b" % (name.encode(), said))
    return b"\r\n".join((*found, b"", b""))


def head(data: bytearray) -> Head | None:
    """The head at the beginning of `data`, of an answer or of one before it (1xx); None if it is not whole yet."""
    if data[:5] != b"HTTP/"[: len(data)]:
        raise ValueError("no status line")
    lines = _lines(data)
    if lines is None:
        return None
    first = lines[0]
    version, status, rest = first[5:8], first[9:12], first[12:]
    if not (version[:1].isdigit() and version[1:2] == b"." and version[2:].isdigit() and first[8:9] == b" "):
        raise ValueError("no status line")
    if len(status) < 3 or not status.isdigit() or status < b"100" or rest[:1] not in (b"", b" ") or _is_wrong(rest):
        raise ValueError("no status line")
    return Head(int(status), rest[1:], version, _fields(lines[1:]))


class Chunked:
    """A body in chunks (RFC 9112, 7.1). data: what came of it and was not read, to which whoever reads adds."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self._left = 0  # bytes of the chunk that are still to come
        self._within = self._last = False  # a chunk that has not ended; the one without bytes, before the trailers

    def read(self, most: int) -> bytes | None:
        """Up to so many bytes; none at the body's end; None if more has to come first."""
        data = self.data
        if self._within and not self._left:
            if data[:2] != b"\r\n"[: len(data)]:
                raise ValueError("a chunk does not end")
            if len(data) < 2:
                return None
            del data[:2]
            self._within = False
        if not self._within and not self._last:
            size = _size(data)
            if size is None:
                return None
            self._left, self._within, self._last = size, size > 0, not size
        if self._last:
            lines = _lines(data)
            if lines is None:
                return None
            _framing(_fields(lines))
            return b""
        if not data:
            return None
        found = bytes(data[: min(most, self._left)])
        del data[: len(found)]
        self._left -= len(found)
        return found


def _size(data: bytearray) -> int | None:
    """The size of the chunk that begins here; extensions say nothing to us, and some servers write spaces."""
    end = data.find(b"\r\n")
    if end < 0:
        return None
    number, _, extension = bytes(data[:end]).partition(b";")
    if not extension:
        number = number.rstrip(b" \t")
    if not 0 < len(number) <= _DIGITS or number.translate(None, _HEX) or b"\n" in extension:
        raise ValueError("no chunk's size")
    del data[: end + 2]
    return int(number, 16)


def _lines(data: bytearray) -> list[bytes] | None:
    """The lines before the first empty one, both taken off; None if that is not there yet. A bare LF ends one too."""
    for nothing in (b"\n", b"\r\n"):
        if data.startswith(nothing):
            del data[: len(nothing)]
            return []
    ends = [at + len(end) for end in (b"\n\n", b"\n\r\n") if (at := data.find(end)) >= 0]
    if not ends:
        return None
    lines = bytes(data[: min(ends)]).split(b"\n")[:-2]
    del data[: min(ends)]
    return [line.removesuffix(b"\r") for line in lines]


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Names and values of header lines; a line that goes on on the next is one (RFC 9112, 5.2)."""
    whole: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            whole[-1:] = [whole[-1] + b" " + line.lstrip(b" \t")] if whole else [b""]
        else:
            whole.append(line)
    found = []
    for line in whole:
        name, colon, value = line.partition(b":")
        if not colon or not _is_token(name) or _is_wrong(value):
            raise ValueError("no header")
        found.append((name, value.strip(b" \t")))
    return found


def _framing(fields: list[tuple[bytes, bytes]]) -> tuple[int | None, bool]:
    """The body's length, as far as it is said, and whether it comes in chunks (RFC 9112, 6)."""
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise ValueError("an unknown transfer coding")
    said = {
        length.strip() for name, value in fields if name.lower() == b"content-length" for length in value.split(b",")
    }
    if not said:
        return None, bool(codings)
    length = said.pop()
    if said or not length.isdigit() or len(length) > _DIGITS:
        raise ValueError("no length")
    return int(length), bool(codings)


def _is_token(name: bytes) -> bool:
    return bool(name) and not name.translate(None, _TOKEN)


def _is_wrong(value: bytes) -> bool:
    return len(value.translate(None, _NEVER)) != len(value)

"""HTTP/1.1 over one connection: requests sent, answers read as they come.

RFC 9112. A connection serves one request at a time, and again when the answer was read.
"""

from __future__ import annotations

from _socket import MSG_DONTWAIT, MSG_PEEK, SHUT_RDWR, socket
from _thread import get_ident
from _weakref import ref
from time import monotonic

from veloci.blocks import suppress
from veloci.errors import InvalidInput
from veloci.registry import http
from veloci.registry.failures import Cut, Failure, Silent, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import TypeVar

    from veloci.registry.tls import Stream

    Found = TypeVar("Found")

HEAD = http.HEAD  # bytes of an answer before its body
PIECE = 256 << 10  # bytes of a body that are received at once
SMALL = 64 << 10  # bytes of an unread body that are read, so that the connection can serve again
HINTS = 16  # answers of 1xx before the answer
SLOW_BYTES, SLOW_READS = 1024, 4  # so little in half the allowed silence, in at least so many pieces, is a drip


_live: set[ref[Wire]] = set()
_interrupted: set[int] = set()  # threads


def interrupt(threads: Collection[int]) -> None:
    """End what these threads send or wait for as if each of them were interrupted, and what they ask from now on.

    Only the main thread hears of an interrupt; the others would go on to the end of what they transfer.
    """
    _interrupted.update(threads)
    for wire in [each() for each in list(_live)]:
        if wire is not None and wire.thread in _interrupted:
            wire.shut()


def spare(threads: Collection[int]) -> None:
    """They have ended: their numbers may be those of others."""
    _interrupted.difference_update(threads)


class Socket(socket):
    """One that is closed when nobody has it any more.

    A connection that is kept is in a cycle with those who keep it; the collector ends its parts in any order, and a
    socket of the library's, as of Python 3.12, would warn that it was not closed.
    """

    __slots__ = ()

    def __del__(self) -> None:
        self.close()


class Wire:
    """A connection. stream: what was opened; keep: takes the connection back when an answer was read.

    thread: the one that asked last.
    """

    def __init__(self, stream: Stream, keep: Callable[[Wire], None]) -> None:
        self.stream, self.keep, self.thread = stream, keep, get_ident()
        _live.add(ref(self, _live.discard))
        self._limit = 0.0
        self._waited, self._count, self._reads = 0.0, 0, 0

    def close(self) -> None:
        """End it."""
        self.stream.close()

    def shut(self) -> None:
        """End what is sent and awaited on it, by another thread."""
        with suppress(OSError, ValueError):  # it is closed
            looked = socket(fileno=self.stream.fileno())
            try:
                looked.shutdown(SHUT_RDWR)
            finally:
                looked.detach()

    def _check(self) -> None:
        """Raise KeyboardInterrupt in a thread that is to end, whatever became of the connection."""
        if self.thread in _interrupted:
            raise KeyboardInterrupt

    def fresh(self) -> bool:
        """Whether the other side left it open, and said nothing."""
        looked = socket(fileno=self.stream.fileno())  # beside TLS, and less to import than select
        try:
            looked.recv(1, MSG_PEEK | MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            looked.detach()
        return False

    def ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | Iterable[bytes] | None,
        *,
        sending: float,
        reading: float,
    ) -> Response:
        """One request and its answer, the body unread. sending, reading: seconds of silence that are borne.

        Raises Failure, InvalidInput for what cannot be said in HTTP, what `body` raises, and KeyboardInterrupt, as all
        that reads does: see interrupt.
        """
        self.thread = get_ident()
        try:
            self._check()
            try:
                head = http.request(method, target, headers)
            except ValueError as error:
                raise InvalidInput(f"cannot be asked for in HTTP: {error}", where=target[:200]) from None
            chunked = "Transfer-Encoding" in headers
            self.stream.settimeout(sending)
            whole = self._sent(head, (body,) if isinstance(body, bytes) else body or (), chunked=chunked)
            self.stream.settimeout(reading)
            self._limit = reading / 2
            self._waited, self._count, self._reads = 0.0, 0, 0
            ahead = bytearray()
            return Response(self, method, self._head(ahead), ahead, whole=whole)
        except BaseException:
            self.close()
            raise

    def _sent(self, head: bytes, chunks: Iterable[bytes], *, chunked: bool) -> bool:
        """Send a request. False if the other side would not hear it to its end: it may have said why."""
        for piece in _pieces(head, chunks, chunked=chunked):  # whose own errors are not the connection's
            try:
                self.stream.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                self._check()
                return False
            except TimeoutError:
                raise Silent("no answer") from None
            except OSError as error:
                self._check()
                raise Cut(text(error)) from error
        return True

    def _head(self, data: bytearray) -> http.Head:
        """The answer's head; what comes after it is left in `data`."""
        for _ in range(HINTS):
            while (found := _understood(http.head, data)) is None:
                self.more(data)
            if found.status >= 200:
                return found
            if found.status == 101:  # to another protocol, for which nobody asked
                break
        raise Cut("the connection was cut")

    def more(self, data: bytearray) -> None:
        """Receive more of what is not whole yet. Raises Cut, also when it never ends; Silent."""
        piece = self.receive(HEAD) if len(data) <= HEAD else b""
        if not piece:
            raise Cut("the connection was cut")
        data += piece

    def receive(self, most: int) -> bytes:
        """Up to so many bytes; none at the end. Raises Cut; Silent, also for a drip.

        A drip is an answer in a few bytes at a time, each just in time. Only the time spent waiting counts, so a slow
        reader is no slow sender.
        """
        since = monotonic()
        try:
            data = self.stream.recv(most)
        except TimeoutError:
            raise Silent("no answer") from None
        except OSError as error:
            self._check()
            raise Cut(text(error)) from error
        if not data:
            self._check()
        self._waited += monotonic() - since
        self._count += len(data)
        self._reads += 1
        if self._waited > self._limit and self._reads >= SLOW_READS:
            if data and self._count < SLOW_BYTES:
                raise Silent(f"it sent less than {SLOW_BYTES} bytes in {self._waited:.0f} s")
            self._waited, self._count, self._reads = 0.0, 0, 0
        return data


class Response:
    """An answer: its status, reason and headers; its body is read from the wire, which serves again at its end."""

    def __init__(self, wire: Wire, method: str, head: http.Head, ahead: bytearray, *, whole: bool) -> None:
        """ahead: what came already of the body. whole: all of the request was sent."""
        self.status, self.reason, self.headers = head.status, head.reason, head.headers
        self._wire: Wire | None = wire
        self._ahead = ahead
        self._again = whole and not head.closes
        none = method == "HEAD" or self.status in (204, 304)
        self._chunks = http.Chunked(ahead) if head.chunked and not none else None
        self._left = 0 if none else None if head.chunked else head.length  # bytes of the body, where they are counted
        if self._left is not None and len(ahead) > self._left:  # nobody asked for more
            del ahead[self._left :]
            self._again = False
        if self._left is None and self._chunks is None:
            self._again = False
        if self._left == 0:
            self._end()

    def read1(self, most: int = PIECE) -> bytes:
        """Up to so many bytes, as they come; none at the end. Raises Failure."""
        if self._wire is None:
            return b""
        if self._chunks is not None:
            return self._chunk(self._wire, self._chunks, most)
        if self._ahead:
            data = bytes(self._ahead[:most])
            del self._ahead[:most]
        else:
            data = self._wire.receive(min(most, PIECE, PIECE if self._left is None else self._left))
        if self._left is None:
            if not data:
                self._end()
            return data
        if not data:
            raise Cut("the connection was cut")
        self._left -= len(data)
        if not self._left:
            self._end()
        return data

    def read(self, most: int | None = None) -> bytes:
        """So many bytes, fewer only at the end, or all of them. Raises Failure."""
        parts, have = [], 0
        while (most is None or have < most) and (data := self.read1(PIECE if most is None else most - have)):
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back if little of the body is left, else end it: an endless body is not drained."""
        if self._wire is not None and self._left is not None and self._left <= SMALL:
            with suppress(Failure):
                self.read()
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _chunk(self, wire: Wire, chunks: http.Chunked, most: int) -> bytes:
        """The next bytes of a body in chunks."""
        while (data := _understood(lambda _: chunks.read(most), self._ahead)) is None:
            wire.more(self._ahead)
        if not data:
            self._again = self._again and not self._ahead
            self._end()
        return data

    def _end(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and self._again:
            wire.keep(wire)
        elif wire is not None:
            wire.close()


def _understood(read: Callable[[bytearray], Found], data: bytearray) -> Found:
    """What `read` makes of `data`. Raises Cut for what is no HTTP."""
    try:
        return read(data)
    except ValueError as error:
        raise Cut("the connection was cut") from error


def _pieces(head: bytes, chunks: Iterable[bytes], *, chunked: bool) -> Iterator[bytes]:
    """A request as it is sent: what is small goes together, what is large is not copied."""
    small = head
    for chunk in chunks:
        if not chunk:
            continue
        for piece in (b"%x\r\n" % len(chunk), chunk, b"\r\n") if chunked else (chunk,):
            if len(small) + len(piece) <= HEAD:
                small += piece
                continue
            if small:
                yield small
                small = b""
            yield piece
    small += b"0\r\n\r\n" if chunked else b""
    if small:
        yield small

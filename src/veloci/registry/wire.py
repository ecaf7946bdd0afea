"""HTTP/1.1 over one connection, by h11; the bytes of a body whose length is known are received past it.

RFC 9112. A connection serves one request at a time, and again when the answer was read.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

from h11 import (
    CLIENT,
    NEED_DATA,
    Connection,
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalProtocolError,
    RemoteProtocolError,
    Request,
)
from h11 import Response as Head

from veloci.errors import InvalidInput
from veloci.registry.failures import Cut, Failure, Silent, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from veloci.registry.tls import Stream

HEAD = 64 << 10  # bytes of an answer before its body
PIECE = 256 << 10  # bytes of a body that are received at once
SMALL = 64 << 10  # bytes of an unread body that are read, so that the connection can serve again
HINTS = 16  # answers of 1xx before the answer
SLOW_BYTES, SLOW_READS = 1024, 4  # so little in half the allowed silence, in at least so many pieces, is a drip


class Wire:
    """A connection. stream: what was opened; keep: takes the connection back when an answer was read."""

    def __init__(self, stream: Stream, keep: Callable[[Wire], None]) -> None:
        self.stream, self.keep = stream, keep
        self._limit = 0.0
        self._waited, self._count, self._reads = 0.0, 0, 0

    def __del__(self) -> None:
        self.stream.close()

    def close(self) -> None:
        """End it."""
        self.stream.close()

    def fresh(self) -> bool:
        """Whether the other side left it open, and said nothing."""
        from select import POLLIN, poll

        waiting = poll()
        waiting.register(self.stream.fileno(), POLLIN)
        return not waiting.poll(0)

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

        Raises Failure, InvalidInput for what cannot be said in HTTP, what `body` raises.
        """
        try:
            talk = Connection(CLIENT, max_incomplete_event_size=HEAD)
            try:
                head = talk.send(Request(method=method, target=target, headers=list(headers.items()))) or b""
            except (LocalProtocolError, UnicodeError) as error:
                raise InvalidInput(f"cannot be asked for in HTTP: {error}", where=target[:200]) from None
            self.stream.settimeout(sending)
            whole = self._sent(talk, head, (body,) if isinstance(body, bytes) else body or ())
            self.stream.settimeout(reading)
            self._limit = reading / 2
            self._waited, self._count, self._reads = 0.0, 0, 0
            return Response(self, talk, method, self._head(talk), whole=whole)
        except BaseException:
            self.close()
            raise

    def _sent(self, talk: Connection, head: bytes, chunks: Iterable[bytes]) -> bool:
        """Send a request. False if the other side would not hear it to its end: it may have said why."""
        for piece in _pieces(talk, head, chunks):  # whose own errors are not the connection's
            try:
                self.stream.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return False
            except TimeoutError:
                raise Silent("no answer") from None
            except OSError as error:
                raise Cut(text(error)) from error
        return True

    def _head(self, talk: Connection) -> Head:
        try:
            for _ in range(HINTS):
                while (event := talk.next_event()) is NEED_DATA:
                    talk.receive_data(self.receive(HEAD))
                if isinstance(event, Head):
                    return event
                if not isinstance(event, InformationalResponse):
                    break
        except RemoteProtocolError as error:
            raise Cut("the connection was cut") from error
        raise Cut("the connection was cut")

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
            raise Cut(text(error)) from error
        self._waited += monotonic() - since
        self._count += len(data)
        self._reads += 1
        if self._waited > self._limit and self._reads >= SLOW_READS:
            if data and self._count < SLOW_BYTES:
                raise Silent(f"it sent less than {SLOW_BYTES} bytes in {self._waited:.0f} s")
            self._waited, self._count, self._reads = 0.0, 0, 0
        return data


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


class Response:
    """An answer: its status, reason and headers; its body is read from the wire, which serves again at its end."""

    def __init__(self, wire: Wire, talk: Connection, method: str, head: Head, *, whole: bool) -> None:
        self.status, self.headers = head.status_code, Headers(head.headers)
        self.reason = head.reason.decode("latin-1")
        self._wire: Wire | None = wire
        self._talk = talk
        closes = "close" in self.headers.get("Connection", "").lower() or head.http_version < b"1.1"
        self._again = whole and not closes
        self._left: int | None = None  # bytes of the body, where they are counted here
        self._ahead = b""
        if method == "HEAD" or self.status in (204, 304):
            self._left = 0
        elif "Transfer-Encoding" not in self.headers and "Content-Length" in self.headers:
            self._left = int(self.headers["Content-Length"])
        if self._left is not None:
            self._ahead = talk.trailing_data[0]
            if len(self._ahead) > self._left:  # nobody asked for more
                self._ahead, self._again = self._ahead[: self._left], False
        elif "Transfer-Encoding" not in self.headers:
            self._again = False
        if self._left == 0:
            self._end()

    def read1(self, most: int = PIECE) -> bytes:
        """Up to so many bytes, as they come; none at the end. Raises Failure."""
        if self._wire is None:
            return b""
        if self._left is None:
            return self._parsed(self._wire, most)
        if self._ahead:
            data, self._ahead = self._ahead[:most], self._ahead[most:]
        else:
            data = self._wire.receive(min(most, PIECE, self._left))
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

    def _parsed(self, wire: Wire, most: int) -> bytes:
        """The next bytes of a body in chunks, or to the connection's end."""
        while not self._ahead:
            try:
                event = self._talk.next_event()
                if event is NEED_DATA:
                    self._talk.receive_data(wire.receive(PIECE))
                    continue
            except RemoteProtocolError as error:
                raise Cut("the connection was cut") from error
            if not isinstance(event, Data):
                self._again = self._again and not self._talk.trailing_data[0]
                self._end()
                return b""
            self._ahead = bytes(event.data)
        data, self._ahead = self._ahead[:most], self._ahead[most:]
        return data

    def _end(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and self._again:
            wire.keep(wire)
        elif wire is not None:
            wire.close()


def _pieces(talk: Connection, head: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A request as it is sent: what is small goes together, what is large is not copied."""
    small = head
    for chunk in chunks:
        for piece in talk.send_with_data_passthrough(Data(data=chunk)) or () if chunk else ():
            if len(small) + len(piece) <= HEAD:
                small += piece
                continue
            if small:
                yield small
                small = b""
            yield piece
    small += talk.send(EndOfMessage()) or b""
    if small:
        yield small

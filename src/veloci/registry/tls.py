"""TLS over anything that sends and receives bytes: a socket, or another TLS, which leads to a proxy."""

from __future__ import annotations

from ssl import MemoryBIO, SSLCertVerificationError, SSLEOFError, SSLError, SSLWantReadError, SSLZeroReturnError
from time import monotonic

from veloci.registry.failures import Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext
    from typing import Protocol, TypeVar

    Done = TypeVar("Done")

    class Stream(Protocol):
        """What a socket can do, as far as it is asked here."""

        def recv(self, most: int, /) -> bytes: ...
        def sendall(self, data: bytes, /) -> None: ...
        def settimeout(self, seconds: float | None, /) -> None: ...
        def fileno(self) -> int: ...
        def close(self) -> None: ...


PIECE = 64 << 10  # bytes that are received at once


class Secure:
    """A stream within `below`, to the server `name`. Raises Untrusted, OSError."""

    def __init__(self, below: Stream, context: SSLContext, name: str, *, patience: float) -> None:
        """patience: seconds for the handshake, as many as `below` bears silence."""
        self._below, self._patience = below, patience
        self._in, self._out = MemoryBIO(), MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        try:
            self._done(self._tls.do_handshake)
        except (ConnectionError, TimeoutError, SSLEOFError) as error:
            raise Untrusted("the handshake was cut", plain=True) from error
        except SSLCertVerificationError as error:
            raise Untrusted(error.verify_message) from error
        except SSLError as error:
            raise Untrusted(_reason(error), plain="ALERT" not in str(error)) from error  # an alert is TLS's own word

    def recv(self, most: int, /) -> bytes:
        """Up to so many bytes; none at the end."""
        try:
            return self._done(lambda: self._tls.read(most))
        except (SSLZeroReturnError, SSLEOFError):
            return b""
        except SSLError as error:
            raise Untrusted(_reason(error)) from error

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""
        try:
            self._done(lambda: self._tls.write(data))
        except SSLError as error:
            raise Untrusted(_reason(error)) from error

    def settimeout(self, seconds: float | None, /) -> None:
        """Bear so much silence, and wait no longer for a record: what comes of it is no use before its end."""
        if seconds is not None:
            self._patience = seconds
        self._below.settimeout(seconds)

    def fileno(self) -> int:
        """The descriptor of the socket below."""
        return self._below.fileno()

    def close(self) -> None:
        """Close what is below."""
        self._below.close()

    def _done(self, work: Callable[[], Done]) -> Done:
        """What `work` gives, when the other side has sent what it needs. Raises TimeoutError, also for a drip."""
        until = 0.0
        while True:
            try:
                return work()
            except SSLWantReadError:
                self._flush()
                until = until or monotonic() + self._patience
                if monotonic() > until:
                    raise TimeoutError from None
                data = self._below.recv(PIECE)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._out.pending:
            self._below.sendall(self._out.read())


def _reason(error: SSLError) -> str:
    return str(error.reason or error).lower().replace("_", " ")

"""Sockets: by which proxy, whom TLS trusts, where a registry may not send us, and how slow is too slow."""

from __future__ import annotations

from _thread import allocate_lock
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from ssl import SSLCertVerificationError, SSLEOFError, SSLError
from time import monotonic
from urllib.parse import urlsplit

from urllib3 import PoolManager, ProxyManager, Retry, Timeout, disable_warnings, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    HTTPError,
    InsecureRequestWarning,
    LocationParseError,
    MaxRetryError,
    NewConnectionError,
)

from veloci.errors import Denied, InvalidInput
from veloci.registry import certificates
from veloci.registry.inner import addresses, is_inner
from veloci.registry.proxies import proxy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from socket import socket
    from ssl import SSLContext
    from typing import Any

    from urllib3 import BaseHTTPResponse

    from veloci.registry.proxies import Proxy

CONNECT, STALL = 10.0, 60.0  # seconds to connect; of silence
SLOW_BYTES, SLOW_READS = 1024, 4  # so little in half of STALL, in at least so many pieces, is a drip
AGENT = "veloci"


class Connections:
    """Pools of connections, one for each way of making them.

    cert_dir: where certificates are, instead of certs.d. stall: seconds of silence, or of two drips, that end a try.
    """

    def __init__(self, *, cert_dir: str | None = None, stall: float = STALL) -> None:
        self._cert_dir, self.stall = cert_dir, stall
        self._lock = allocate_lock()
        self._pools: dict[tuple[object, ...], PoolManager] = {}
        self._files: dict[str, list[str]] = {}

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout: Timeout | None = None,
        verify: bool = True,
        guarded: bool = False,
        elsewhere: bool = False,
    ) -> BaseHTTPResponse:
        """One request, one answer, its body unread. verify: False takes any certificate.

        guarded: refuse to connect to an inner address, whatever name stands for it. elsewhere: not at the registry
        for which `cert_dir` was chosen, so its client certificates are not shown. Raises Denied for an inner
        address, InvalidInput for what is no address, urllib3's HTTPError.
        """
        try:
            return self._pool(url, verify=verify, guarded=guarded, elsewhere=elsewhere).request(
                method,
                url,
                body=body,
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **(headers or {})},
                timeout=timeout or Timeout(CONNECT, read=self.stall),
                preload_content=False,
                redirect=False,
                decode_content=False,
            )
        except MaxRetryError as error:
            if isinstance(error.reason, HTTPError):
                raise error.reason from error.reason.__cause__
            raise
        except (LocationParseError, UnicodeError, ValueError) as error:
            raise InvalidInput(f"{url[:200]!r} is no address: {error}") from None

    def proxied(self, url: str) -> Proxy | None:
        """The proxy by which `url` is reached, if any."""
        parts = urlsplit(url)
        return proxy(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    def _pool(self, url: str, *, verify: bool, guarded: bool, elsewhere: bool) -> PoolManager:
        host = urlsplit(url).netloc
        by = self.proxied(url)
        with self._lock:
            tls = url.startswith("https:")
            if tls and host not in self._files:
                self._files[host] = certificates.found(host, self._cert_dir)
            files = self._files[host] if tls else []
            if elsewhere and self._cert_dir is not None:
                files = [path for path in files if path.endswith(".crt")]
            key = (tls, verify, guarded and not by, tuple(files), by and (by.url, by.credentials))
            if key not in self._pools:
                context = certificates.context(files, verify=verify) if tls else None
                self._pools[key] = _manager(context, by, verify=verify, guarded=guarded and not by)
            return self._pools[key]


def _manager(context: SSLContext | None, by: Proxy | None, *, verify: bool, guarded: bool) -> PoolManager:
    if not verify:
        disable_warnings(InsecureRequestWarning)  # it is what the user asked for
    options: dict[str, Any] = {
        "maxsize": 8,
        "retries": Retry(0, redirect=False, raise_on_status=False),
        "ssl_context": context,
    }
    if by is None:
        manager = PoolManager(**options)
    else:
        shown = make_headers(proxy_basic_auth=by.credentials) if by.credentials else {}
        manager = ProxyManager(by.url, proxy_headers=shown, **options)
    http, https = (_GuardedPool, _GuardedTlsPool) if guarded else (_Pool, _TlsPool)
    manager.pool_classes_by_scheme = {"http": http, "https": https}
    return manager


class _Watched(RawIOBase):
    """A socket's reading end that notices a drip: an answer in a few bytes at a time, each just in time.

    Only the time spent waiting counts, so a slow reader is no slow sender. limit: seconds.
    """

    def __init__(self, raw: Any, limit: float) -> None:
        self._raw, self._limit = raw, limit
        self._waited, self._count, self._reads = 0.0, 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        since = monotonic()
        count: int | None = self._raw.readinto(buffer)
        self._waited += monotonic() - since
        self._count += count or 0
        self._reads += 1
        if self._waited > self._limit and self._reads >= SLOW_READS:
            if count and self._count < SLOW_BYTES:
                raise TimeoutError(f"less than {SLOW_BYTES} bytes in {self._waited:.0f} s")
            self._waited, self._count, self._reads = 0.0, 0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        patience = sock.gettimeout() or STALL
        self.fp = BufferedReader(_Watched(self.fp.detach(), patience / 2), 64 << 10)


class _Connection(HTTPConnection):
    response_class = _Response


class Handshake(SSLError):
    """TLS did not come about, as where plain HTTP is spoken; not for a certificate's sake."""


class _TlsConnection(HTTPSConnection):
    response_class = _Response

    def connect(self) -> None:
        """Connect. Raises Handshake if the other side does not speak TLS."""
        try:
            super().connect()
        except (ConnectionError, TimeoutError, SSLEOFError) as error:
            raise Handshake(1, "the handshake was cut") from error
        except SSLCertVerificationError:
            raise
        except SSLError as error:
            if "ALERT" in str(error):  # TLS's own words
                raise
            raise Handshake(1, str(error.reason or error)) from error


class _Guarded(HTTPConnection):
    """A connection to the open network only."""

    def _new_conn(self) -> socket:
        name = self._dns_host
        try:
            known = addresses(name, self.port)
        except (OSError, UnicodeError):
            return super()._new_conn()  # which says why
        for address in known:
            if is_inner(address):
                raise Denied(f"the registry points to {name}, which is the inner address {address}")
        try:
            return self._first(known)
        finally:
            self._dns_host = name

    def _first(self, known: list[str]) -> socket:
        """A connection to the first that can be reached: those that were checked, not what is found a second time."""
        for address in known[:-1]:
            self._dns_host = address
            try:
                return super()._new_conn()
            except NewConnectionError:
                continue
        self._dns_host = known[-1]
        return super()._new_conn()


class _GuardedConnection(_Guarded, _Connection):
    pass


class _GuardedTlsConnection(_Guarded, _TlsConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _GuardedPool(HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _GuardedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTlsConnection

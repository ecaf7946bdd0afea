"""Connections: by which proxy, whom TLS trusts, where a registry may not send us; kept to serve again."""

from __future__ import annotations

from _socket import IPPROTO_TCP, SOCK_CLOEXEC, SOCK_STREAM, TCP_NODELAY, gaierror, getaddrinfo
from _thread import allocate_lock

from veloci.errors import Denied, InvalidInput
from veloci.registry import urls
from veloci.registry.failures import ByProxy, Cut, Failure, Gone, Silent, Untrusted, text
from veloci.registry.inner import is_inner
from veloci.registry.proxies import proxy
from veloci.registry.wire import Socket, Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from ssl import SSLContext

    from veloci.registry.proxies import Proxy
    from veloci.registry.tls import Stream
    from veloci.registry.wire import Response

CONNECT, STALL = 10.0, 60.0  # seconds to connect; of silence
AGENT = "veloci"
IDLE = 8  # connections of one kind that are kept
_SAFE = "/%:@!$&'()*+,;=~-._?[]"


class Way:
    """How a server is reached: what tells one kind of connection from another."""

    def __init__(self, url: str, by: Proxy | None, files: list[str], *, verify: bool, guarded: bool) -> None:
        """Raises ValueError for what is no address."""
        parts = urls.split(url)
        self.tls = parts.scheme == "https"
        self.host = (parts.hostname or "").replace("%25", "%")
        if not self.host or parts.port == 0 or parts.scheme not in ("http", "https"):
            raise ValueError("it has no host")
        if not self.host.isascii():
            self.host = self.host.encode("idna").decode()
        self.port = parts.port or (443 if self.tls else 80)
        self.by, self.files, self.verify, self.guarded = by, files, verify, guarded
        seen = by and (by.url, by.credentials)
        self.key = (self.tls, self.host, self.port, seen, tuple(files), verify, guarded)

    @property
    def server(self) -> str:
        """HOST:PORT, as a request line has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connections:
    """Connections to any servers. Any thread may ask.

    cert_dir: where certificates are, instead of certs.d. stall: seconds of silence, or of two drips, that end a try.
    """

    def __init__(self, *, cert_dir: str | None = None, stall: float = STALL) -> None:
        self._cert_dir, self.stall = cert_dir, stall
        self._lock = allocate_lock()
        self._idle: dict[tuple[object, ...], list[Wire]] = {}
        self._files: dict[str, list[str]] = {}
        self._contexts: dict[tuple[object, ...], SSLContext] = {}

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        connect: float = CONNECT,
        read: float | None = None,
        verify: bool = True,
        guarded: bool = False,
        elsewhere: bool = False,
    ) -> Response:
        """One request, one answer, its body unread.

        connect: seconds to connect, and of silence while sending; read: of silence after (default: stall). verify:
        False takes any certificate. guarded: refuse to connect to an inner address, whatever name stands for it.
        elsewhere: not at the registry for which `cert_dir` was chosen, so its client certificates are not shown.
        Raises Denied for an inner address, InvalidInput for what is no address, Failure.
        """
        try:
            way = self._way(url, verify=verify, guarded=guarded, elsewhere=elsewhere)
            host, target = _target(url, way)
        except ValueError as error:
            raise InvalidInput(f"{url[:200]!r} is no address: {error}") from None
        said = {"Host": host, "User-Agent": AGENT, "Accept-Encoding": "identity", **(headers or {})}
        if way.by and not way.tls:
            said |= way.by.shown
        if isinstance(body, bytes):
            said["Content-Length"] = str(len(body))
        elif body is not None and "Content-Length" not in said:
            said["Transfer-Encoding"] = "chunked"
        wire = self._kept(way) or self._made(way, connect)
        return wire.ask(method, target, said, body, sending=connect, reading=read or self.stall)

    def proxied(self, url: str) -> Proxy | None:
        """The proxy by which `url` is reached, if any."""
        parts = urls.split(url)
        return proxy(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    def _way(self, url: str, *, verify: bool, guarded: bool, elsewhere: bool) -> Way:
        by, files = self.proxied(url), list[str]()
        if url.startswith("https:"):
            from veloci.registry import certificates

            host = urls.split(url).netloc
            with self._lock:
                if host not in self._files:
                    self._files[host] = certificates.found(host, self._cert_dir)
                files = self._files[host]
            if elsewhere and self._cert_dir is not None:
                files = [path for path in files if path.endswith(".crt")]
        return Way(url, by, files, verify=verify, guarded=guarded and not by)

    def _kept(self, way: Way) -> Wire | None:
        while True:
            with self._lock:
                idle = self._idle.get(way.key)
                wire = idle.pop() if idle else None
            if wire is None or wire.fresh():
                return wire
            wire.close()

    def _keep(self, way: Way, wire: Wire) -> None:
        with self._lock:
            idle = self._idle.setdefault(way.key, [])
            if len(idle) < IDLE:
                idle.append(wire)
                return
        wire.close()

    def _made(self, way: Way, timeout: float) -> Wire:
        stream = self._opened(way, timeout)
        return Wire(stream, lambda wire: self._keep(way, wire))

    def _opened(self, way: Way, timeout: float) -> Stream:
        stream: Stream
        if way.by is None:
            stream = _connected(way.host, way.port, timeout, guarded=way.guarded)
        else:
            stream = self._through(way.by, timeout)
        try:
            if way.tls:
                from veloci.registry.tls import Secure

                if way.by is not None:
                    _tunnel(stream, way, way.by, timeout)
                stream = Secure(stream, self._context(way.files, verify=way.verify), way.host, patience=timeout)
        except BaseException:
            stream.close()
            raise
        return stream

    def _through(self, by: Proxy, timeout: float) -> Stream:
        """A connection to a proxy."""
        parts = urls.split(by.url)
        host, tls = parts.hostname or "", parts.scheme == "https"
        try:
            stream: Stream = _connected(host, parts.port or (443 if tls else 80), timeout, guarded=False)
            if tls:
                from veloci.registry.tls import Secure

                try:
                    stream = Secure(stream, self._context([], verify=True), host, patience=timeout)
                except BaseException:
                    stream.close()
                    raise
        except Failure as error:
            raise ByProxy(str(error)) from None
        return stream

    def _context(self, files: list[str], *, verify: bool) -> SSLContext:
        from veloci.registry import certificates

        with self._lock:
            key = (verify, *files)
            if key not in self._contexts:
                self._contexts[key] = certificates.context(files, verify=verify)
            return self._contexts[key]


def _target(url: str, way: Way) -> tuple[str, str]:
    """The host as a header, and what the request line names: for a proxy that leads on all, else what comes after."""
    parts = urls.split(url)
    bare = f"[{way.host}]" if ":" in way.host else way.host
    host = bare if way.port == (443 if way.tls else 80) else f"{bare}:{way.port}"
    target = urls.quoted(parts.path or "/", _SAFE) + (f"?{urls.quoted(parts.query, _SAFE)}" if parts.query else "")
    return host, f"http://{host}{target}" if way.by and not way.tls else target


def _connected(host: str, port: int, timeout: float, *, guarded: bool) -> Socket:
    """A connection to the first address of a host that can be reached. Raises Gone, Silent; Denied for an inner one."""
    try:
        found = getaddrinfo(host.encode(), port, 0, SOCK_STREAM)
    except gaierror as error:
        raise Gone(text(error)) from error
    if guarded:  # all are looked at, and no name is looked up a second time
        for *_, address in found:
            if is_inner(str(address[0])):
                raise Denied(f"the registry points to {host}, which is the inner address {address[0]}")
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        made = Socket(family, kind | SOCK_CLOEXEC, protocol)
        try:
            made.settimeout(timeout)
            made.connect(address)
        except OSError as error:
            made.close()
            failure = error
            continue
        made.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        return made
    if isinstance(failure, TimeoutError):
        raise Silent("no answer") from failure
    raise Gone(text(failure) if failure else "it has no address") from failure


def _tunnel(stream: Stream, way: Way, by: Proxy, timeout: float) -> None:
    """Have the proxy lead on to the server (RFC 9110, 9.3.6). Raises ByProxy; Untrusted for one that says nothing."""
    wire = Wire(_Lent(stream), lambda _wire: None)
    try:
        answer = wire.ask(
            "CONNECT", way.server, {"Host": way.server, **by.shown}, None, sending=timeout, reading=timeout
        )
    except (Cut, Silent) as error:
        raise Untrusted("the handshake was cut", plain=True) from error
    if answer.status // 100 != 2:
        raise ByProxy(f"it answered {answer.status} {answer.reason.lower()}")


class _Lent:
    """A stream that whoever closes it does not close."""

    def __init__(self, stream: Stream) -> None:
        self.recv, self.sendall, self.settimeout = stream.recv, stream.sendall, stream.settimeout
        self.fileno = stream.fileno

    def close(self) -> None:
        pass

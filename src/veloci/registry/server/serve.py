"""The registry on a socket, until a signal ends it."""

from __future__ import annotations

import socket

from veloci.errors import Conflict, HostError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 5  # seconds that running requests get when the server is told to stop


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` (a name, IPv4 or IPv6 address) and `port` (0: any free one).

    Raises Conflict for a port in use, InvalidInput for a host that is not here, HostError.
    """
    from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL

    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, OverflowError):
        raise InvalidInput("no such address", where=where, hint="--listen 127.0.0.1:5000") from None
    server = socket.socket(family, kind, protocol)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(address)
        server.listen(512)
    except OSError as error:
        server.close()
        if error.errno == EADDRINUSE:
            raise Conflict("the port is in use", where=where, hint="choose another: --listen HOST:PORT") from None
        if error.errno == EADDRNOTAVAIL:
            raise InvalidInput("this host has no such address", where=where) from None
        hint = "ports below 1024 need root" if error.errno == EACCES else ""
        raise HostError("listen", error, where=where, hint=hint) from error
    return server


def serve(root: str, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve the registry in directory `root` until SIGTERM or SIGINT; running requests get GRACE seconds.

    ready: called with the address it is reached at, `http://HOST:PORT`, once it listens.
    Raises what `listen` raises.
    """
    import signal

    import uvicorn

    from veloci.registry.server.application import application

    with listen(host, port) as server:
        config = uvicorn.Config(
            application(root),
            log_level="critical",  # a TLS greeting on the plain port is no news: docker tries it first
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=64 << 10,
        )
        if ready:
            address, number = server.getsockname()[:2]
            ready(f"http://[{address}]:{number}" if ":" in address else f"http://{address}:{number}")
        # uvicorn raises the signal that ended it again, for its caller: to whom it is a normal end.
        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            uvicorn.Server(config).run(sockets=[server])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

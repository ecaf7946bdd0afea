"""Published ports: docker's `-p`, and the sockets that keep them for us on the host."""

from __future__ import annotations

from _socket import (
    AF_INET,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EPROTONOSUPPORT

from veloci.errors import Conflict, Denied, HostError, InvalidInput, Unsupported
from veloci.kernel.files import duplicate
from veloci.network.addresses import parse_address
from veloci.spec.document import Document

_FEW = 256  # published ports, which fit among the 1,024 descriptors that a process may have as a rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ANY = "0.0.0.0"  # noqa: S104 -- what docker's -p means without an address
PROTOCOLS = {
    "tcp": (SOCK_STREAM, IPPROTO_TCP),
    "udp": (SOCK_DGRAM, IPPROTO_UDP),
    "sctp": (SOCK_STREAM, IPPROTO_SCTP),
}
_GRAMMAR = "write [ADDRESS:][HOST_PORT:]PORT[/tcp|udp|sctp], as in 127.0.0.1:8000:80"


class Port(Document):
    """One published port."""

    container_port: int
    host_port: int = 0  # 0: the kernel picks a free one
    host_port_end: int = 0  # above host_port: a free one of this range, both ends included
    host_address: str = ANY
    protocol: str = "tcp"

    def __str__(self) -> str:
        address = f"[{self.host_address}]" if ":" in self.host_address else self.host_address
        return f"{address}:{self.host_port}/{self.protocol}"


def parse(text: str) -> list[Port]:
    """What docker's `-p TEXT` publishes: `[ADDRESS:][HOST[-END]:]PORT[-END][/PROTOCOL]`. Raises InvalidInput."""
    where = f"--publish {text}"
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidInput(f"no protocol {protocol!r}", where=where, hint="tcp, udp or sctp")
    rest, _, inside = rest.rpartition(":")
    container = _range(inside, "container port", where)
    address, host_text = _address(rest, where)
    host = _range(host_text, "host port", where) if host_text else (0, 0)
    count = container[1] - container[0] + 1
    base = Port(container_port=container[0], host_address=address, protocol=protocol)
    if not host_text:
        return [base.replace(container_port=container[0] + step) for step in range(count)]
    if count == 1:
        end = host[1] if host[1] > host[0] else 0
        return [base.replace(host_port=host[0], host_port_end=end)]
    if host[1] - host[0] + 1 != count:
        raise InvalidInput(f"ranges {host_text} and {inside} differ in length", where=where, hint=_GRAMMAR)
    return [base.replace(container_port=container[0] + step, host_port=host[0] + step) for step in range(count)]


def _address(rest: str, where: str) -> tuple[str, str]:
    """`ADDRESS:HOST`, `HOST` or nothing as address and host port."""
    if rest.startswith("["):
        address, bracket, host = rest[1:].partition("]")
        if not bracket or (host and not host.startswith(":")):
            raise InvalidInput("an IPv6 address stands in [ ]", where=where, hint=_GRAMMAR)
        return parse_address(address, where=where), host[1:]
    address, colon, host = rest.rpartition(":")
    if ":" in address:
        raise InvalidInput("an IPv6 address stands in [ ]", where=where, hint=_GRAMMAR)
    return (parse_address(address, where=where) if colon and address else ANY), host


def _range(text: str, what: str, where: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    ends = (first, last if dash else first)
    if not all(end.isascii() and end.isdigit() and 0 < int(end) < 65536 for end in ends):
        raise InvalidInput(f"{text!r} is not a {what}", where=where, hint=_GRAMMAR)
    if int(ends[1]) < int(ends[0]):
        raise InvalidInput(f"{what} range {text} ends before it starts", where=where, hint=_GRAMMAR)
    return int(ends[0]), int(ends[1])


def reserve(port: Port) -> tuple[Port, socket]:
    """Take `port` from the host: a bound socket keeps it, the returned Port says which one it is.

    Raises Conflict if it is in use, Denied below 1024 without privilege, InvalidInput if this host
    lacks the address.
    """
    if ":" in port.host_address:
        raise Unsupported(
            f"port {port}: containers have no IPv6 address yet",
            hint="publish on an IPv4 address, or on all of them",
        )
    numbers = range(port.host_port, max(port.host_port, port.host_port_end) + 1)
    for number in numbers:
        bound = _bound(port.replace(host_port=number, host_port_end=0))
        if bound:
            return port.replace(host_port=bound.getsockname()[1], host_port_end=0), bound
    hint = f"publish another one, -p PORT:{port.container_port}, or see who has it: ss -lnp sport = :{port.host_port}"
    if len(numbers) > 1:
        last = f"{port.host_address}:{port.host_port}-{numbers[-1]}/{port.protocol}"
        raise Conflict(f"every port of {last} is in use", hint=hint)
    raise Conflict(f"port {port} is in use", hint=hint)


def _bound(port: Port) -> socket | None:
    """A socket bound to the port, None if somebody has it.

    It does not listen, so a stray connection is refused at once; being without SO_REUSEADDR
    it keeps everybody away. Connections in TIME_WAIT would keep it away, too: then it
    listens, since listening sockets exclude each other even with SO_REUSEADDR.
    """
    kind, protocol = PROTOCOLS[port.protocol]
    address = (port.host_address, port.host_port)
    for patient in (True, False):
        try:
            taken = socket(AF_INET, kind, protocol)
        except OSError as error:
            if error.errno == EPROTONOSUPPORT:
                raise Unsupported(f"port {port}: this kernel has no {port.protocol}", hint="modprobe sctp") from None
            raise HostError(f"publish port {port}", error) from error
        try:
            if not patient:
                taken.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            taken.bind(address)
            if not patient:
                taken.listen(0)
            return taken
        except OSError as error:
            taken.close()
            if error.errno == EADDRINUSE and (kind == SOCK_DGRAM or not patient):
                return None
            if error.errno != EADDRINUSE:
                raise _refusal(port, error) from error
    return None


def _refusal(port: Port, error: OSError) -> Exception:
    if error.errno == EADDRNOTAVAIL:
        return InvalidInput(
            f"port {port}: this host has no address {port.host_address}", hint="list them: veloci network show"
        )
    if error.errno == EACCES:
        return Denied(
            f"port {port}: ports below 1024 need privilege",
            hint=f"publish a higher one, or sysctl net.ipv4.ip_unprivileged_port_start={port.host_port}",
        )
    return HostError(f"publish port {port}", error)


def reserve_all(ports: Sequence[Port], held: list[socket]) -> list[Port]:
    """Reserve `ports`; the sockets go to `held`, those of the first ones also when a later one fails."""
    if len(ports) <= _FEW:
        return [_reserved(port, held) for port in ports]
    from resource import RLIMIT_NOFILE, getrlimit, setrlimit

    # More descriptors than this process may have, as far as its hard limit goes, and only here: what is started
    # later would inherit the limit. So they lie above it, and what it counts stays free for others.
    soft, hard = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (hard, hard))
    try:
        return [_reserved(port, held, soft) for port in ports]
    finally:
        setrlimit(RLIMIT_NOFILE, (soft, hard))


def _reserved(port: Port, held: list[socket], lowest: int = -1) -> Port:
    """Reserve one. lowest: the number from which on its descriptor is to lie, if one is free there."""
    actual, taken = reserve(port)
    held.append(taken)
    if lowest >= 0:
        try:
            held[-1] = socket(fileno=duplicate(taken.fileno(), lowest))
        except OSError:  # EINVAL, EMFILE: the hard limit is no higher, or reached
            return actual
        taken.close()
    return actual


def close(sockets: list[socket]) -> None:
    """Close them all."""
    for each in sockets:
        each.close()

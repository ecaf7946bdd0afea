"""Which addresses are not of the open network: nobody out there may send us to them.

https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-
"""

from __future__ import annotations

from _socket import SOCK_STREAM, getaddrinfo, inet_aton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_NAT64 = "64:ff9b::/96"
_LOCAL = ("::/96", "64:ff9b:1::/48", "fec0::/10")  # RFC 4291, 8215, 3879: of IPv4, NAT64 and a site, for local use


def is_inner(host: str) -> bool:
    """Whether a host's name or address, as it is written, is this machine's, a private network's or link-local.

    As any resolver would read it: a proxy resolves for us.
    """
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return False  # nobody can ask for it
    host = host.lower().removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if (address := _address(host)) is None:
        return False
    return any(_is_local(plain) for plain in _within(address))


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    from ipaddress import ip_network

    if not address.is_global or address.is_multicast:
        return True
    return address.version == 6 and any(address in ip_network(network) for network in _LOCAL)


def _within(address: IPv4Address | IPv6Address) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses to which an address leads: an IPv4 one may be wrapped in an IPv6 one."""
    from ipaddress import IPv4Address, ip_network

    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in ip_network(_NAT64):
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return (address, address.sixtofour) if address.sixtofour else (address,)


def addresses(host: str, port: int | None) -> list[str]:
    """The addresses of a host, as the resolver gives them. Raises OSError, UnicodeError."""
    named = host.encode("ascii" if host.isascii() else "idna")
    return list(dict.fromkeys(str(found[4][0]) for found in getaddrinfo(named, port, 0, SOCK_STREAM)))


def leads_in(host: str) -> bool:
    """Whether a host is inner, by its name or by what its name stands for now."""
    if is_inner(host):
        return True
    try:
        return any(is_inner(address) for address in addresses(host, None))
    except (OSError, UnicodeError):
        return False


def is_loopback(host: str) -> bool:
    """Whether `host` (no port, no brackets) is this machine, to which docker speaks plain HTTP too."""
    if host in ("localhost", "127.0.0.1"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as, 127.1 too; None for a name. Most names show that they are none."""
    if not (host[:1].isdigit() or ":" in host):
        return None
    from ipaddress import IPv4Address, ip_address

    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(inet_aton(host))
    except (OSError, ValueError):
        return None

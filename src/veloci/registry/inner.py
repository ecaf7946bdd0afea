"""Which addresses are not of the open network: nobody out there may send us to them.

https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-
"""

from __future__ import annotations

from _socket import SOCK_STREAM, getaddrinfo
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")


def is_inner(host: str) -> bool:
    """Whether a host's name or address, as it is written, is this machine's, a private network's or link-local."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(not plain.is_global or plain.is_multicast for plain in _within(address))


def _within(address: IPv4Address | IPv6Address) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses to which an address leads: an IPv4 one may be wrapped in an IPv6 one."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in _NAT64:
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
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

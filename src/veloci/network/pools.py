"""Which addresses a network gets: a pool that nothing on this host uses."""

from __future__ import annotations

from errno import EHOSTUNREACH, ENETUNREACH

from veloci.errors import Conflict
from veloci.kernel.netlink import packed
from veloci.network import links
from veloci.network.addresses import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.kernel.netlink import Netlink

# docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 and on
_RANGES = (("172.17.0.0", 16, 15), ("192.168.0.0", 20, 16))
_DEFAULT_MTU = 1500  # bytes


def choose(net: Netlink, taken: Iterable[Subnet]) -> Subnet:
    """The first pool that overlaps no route, no address, no name server of this host and none of `taken`.

    Raises Conflict when there is none.
    """
    used = [*taken, *in_use(net)]
    for pool in _pools():
        if not any(pool.overlaps(other) for other in used):
            return pool
    raise Conflict(
        "every address pool for networks is in use", hint="choose one: veloci network create --subnet 10.99.0.0/24 NAME"
    )


def _pools() -> Iterator[Subnet]:
    for first, prefix, count in _RANGES:
        whole = Subnet(packed(first), prefix)
        for step in range(count):
            yield Subnet(packed(whole.address(step * whole.size)), prefix)


def in_use(net: Netlink) -> list[Subnet]:
    """The IPv4 subnets that this host's routes, addresses and name servers stand in, the default route aside."""
    used = [route.destination for route in links.routes(net, 2) if route.destination.prefix]
    used += [Subnet(packed(address.address), address.prefix) for address in links.addresses(net)]
    return used + [Subnet(packed(server), 32) for server in _name_servers()]


def _name_servers() -> Iterator[str]:
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and words[1].replace(".", "").isdigit():
            yield words[1]


def outward_mtu(net: Netlink) -> int:
    """The MTU, in bytes, of the link that the default route leaves through; 1500 if there is none."""
    try:
        index = links.outward(net)
    except OSError as error:
        if error.errno in (ENETUNREACH, EHOSTUNREACH):
            return _DEFAULT_MTU
        raise
    link = links.by_index(net, index)
    return link.mtu if link else _DEFAULT_MTU

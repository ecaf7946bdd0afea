"""A network's bridge: planned with the network, raised for its first container, lowered after its last."""

from __future__ import annotations

import os
import time
from errno import EEXIST
from itertools import count

from veloci.errors import Conflict, InvalidInput
from veloci.network import firewall, links, pools
from veloci.network.addresses import Subnet, parse_address
from veloci.network.store import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from veloci.kernel.netlink import Netlink

_PREFIX = "veloci"
_IPV6 = "/proc/sys/net/ipv6/conf"


def plan(
    net: Netlink,
    name: str,
    *,
    taken: Sequence[Subnet] = (),
    subnet: Subnet | None = None,
    gateway: str | None = None,
    internal: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Network:
    """A new network; nothing of it exists yet.

    taken: subnets of other networks. Raises Conflict if the subnet or every pool is taken, InvalidInput
    for a subnet too small or a gateway outside.
    """
    pool = subnet or pools.choose(net, taken)
    if subnet:
        check_free(net, subnet, taken)
        if subnet.bits != 32 or not 1 <= subnet.prefix <= 30:
            raise InvalidInput(
                f"{subnet} is no subnet for containers", where="--subnet", hint="IPv4, between /1 and /30: 10.99.0.0/24"
            )
    first = parse_address(gateway, where="--gateway") if gateway else pool.address(1)
    if not 0 < pool.index(first) < pool.size - 1:
        raise InvalidInput(f"{first} is not an address of a host in {pool}", where="--gateway")
    return Network(
        name=name,
        id=os.urandom(32).hex(),
        link=_free_name(net),
        mac=(b"\x02\x76" + os.urandom(4)).hex(":"),  # locally administered
        subnet=str(pool),
        gateway=first,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        internal=internal,
        chosen=subnet is None,
        labels=dict(labels or {}),
    )


def check_free(net: Netlink, subnet: Subnet, taken: Sequence[Subnet]) -> None:
    """Raise Conflict if `subnet` overlaps one of `taken`, the other networks', or what this host uses."""
    hint = "choose another: --subnet 10.99.0.0/24"
    for other in taken:
        if subnet.overlaps(other):
            raise Conflict(f"subnet {subnet} overlaps {other} of another network", hint=hint)
    for other in pools.in_use(net):
        if subnet.overlaps(other):
            raise Conflict(f"subnet {subnet} overlaps {other}, which this host has a route to", hint=hint)


def find(net: Netlink, network: Network) -> links.Link | None:
    """The network's bridge if it is up: it is known by its name and its MAC."""
    link = links.find(net, network.link)
    return link if link and link.mac == network.mac else None


def group(network: Network) -> int:
    """The number that the bridge and its ports share, so that the kernel removes them in one go."""
    return int(network.mac.replace(":", "")[4:], 16) & 0x7FFFFFFF or 1


def bring_up(
    net: Netlink, network: Network, *, empty: bool, taken: Callable[[], Sequence[Subnet]]
) -> tuple[Network, links.Link]:
    """Make the bridge with its address and rules. Returns the network as it then is, and the bridge.

    empty: nobody has an address, so a pool that we chose may be chosen again if it is taken by now.
    taken: gives the subnets of the other networks then.
    Raises Conflict if the subnet is taken, OSError. Nothing is left after a failure.
    """
    subnet = network.range()
    if any(subnet.overlaps(other) for other in pools.in_use(net)):
        if not (network.chosen and empty):
            check_free(net, subnet, ())
        subnet = pools.choose(net, taken())
        network = network.replace(subnet=str(subnet), gateway=subnet.address(1))
    network, link = _made(net, network, pools.outward_mtu(net))
    try:
        net.talk(links.add_address(link.index, network.gateway, subnet.prefix))
        if os.path.exists(f"{_IPV6}/{network.link}"):
            firewall.sysctl(f"{_IPV6}/{network.link}/disable_ipv6", "1")  # containers have none yet (CVE-2024-32473)
        if not network.internal:
            firewall.forward()
        with firewall.opened() as rules:
            firewall.put_up(rules, network.link, subnet, internal=network.internal)
    except BaseException:
        lower(net, network)
        raise
    return network, link


def _made(net: Netlink, network: Network, mtu: int) -> tuple[Network, links.Link]:
    """The bridge, under another name if somebody has taken the one it had."""
    while True:
        try:
            link = links.add_bridge(net, network.link, mac=network.mac, mtu=mtu, group=group(network))
        except OSError as error:
            if error.errno != EEXIST:
                raise
            network = network.replace(link=_free_name(net))
        else:
            return network, link


def lower(net: Netlink, network: Network) -> None:
    """Remove rules, bridge and all its ports; what is gone already is well. Raises OSError."""
    if find(net, network):
        with firewall.opened() as rules:  # the kernel frees the rules while the links go: half the time
            firewall.take_down(rules, network.link)
            if not links.remove_group(net, group(network)):  # made by hand, or regrouped
                links.remove(net, network.link)


def _free_name(net: Netlink) -> str:
    return next(name for name in (f"{_PREFIX}{number}" for number in count()) if links.find(net, name) is None)

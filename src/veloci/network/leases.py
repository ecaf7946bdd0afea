"""A container's connection as a plain dict, and the wire that is made of it."""

from __future__ import annotations

import os

from veloci.errors import Conflict, InvalidInput
from veloci.kernel.netlink import Netlink, packed
from veloci.network import firewall, links
from veloci.network.addresses import parse_address
from veloci.network.namespace import Inside
from veloci.network.ports import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from veloci.network.store import Network

    Lease = dict[str, Any]


def new_lease(network: Network, bridge: links.Link, container: str, address: str, mac: str | None) -> Lease:
    """A lease without its ports; `Networks.prepare` says what is in it."""
    return {
        "network": network.name,
        "network_id": network.id,
        "container": container,
        "address": address,
        "prefix": network.range().prefix,
        "gateway": "" if network.internal else network.gateway,
        "mac": mac or (b"\x02\x76" + packed(address)).hex(":"),  # an address keeps its MAC: no stale ARP entries
        "mtu": bridge.mtu,
        "bridge": bridge.name,
        "bridge_mac": network.mac,
        "veth": f"veth{os.urandom(4).hex()}",
    }


def free_address(network: Network, holders: Mapping[str, str], wanted: str | None) -> str:
    """An address of the network that nobody has. Raises Conflict, InvalidInput."""
    pool = network.range()
    if wanted is None:
        free = (pool.address(index) for index in range(1, pool.size - 1))
        found = next((each for each in free if each not in holders and each != network.gateway), None)
        if found is None:
            raise Conflict(
                f"network {network.name} has no free address in {pool}", hint="make one with a larger --subnet"
            )
        return found
    wanted = parse_address(wanted, where="--ip")
    if not 0 < pool.index(wanted) < pool.size - 1:
        raise InvalidInput(f"{wanted} is not an address of a host in {pool} of network {network.name}", where="--ip")
    if wanted in holders or wanted == network.gateway:
        owner = f"container {holders[wanted][:12]}" if wanted in holders else "the gateway"
        raise Conflict(f"address {wanted} of network {network.name} is in use by {owner}")
    return wanted


def plain(port: Port) -> dict[str, Any]:
    """A port as it stands in a lease."""
    return {
        "hostAddress": port.host_address,
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": port.protocol,
    }


def ports_of(lease: Lease) -> list[Port]:
    """The ports that a lease publishes."""
    return [Port.convert(port) for port in lease["ports"]]


def plug(net: Netlink, bridge: links.Link, lease: Lease, netns: int) -> None:
    """Make the veth pair and set up its end in `netns`. Raises OSError."""
    interface = "eth0"
    with Inside(netns):
        inner = Netlink()
        ipv6 = os.path.exists("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        if ipv6:  # for links to come; `lo` keeps ::1
            firewall.sysctl("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
    with inner:
        if links.find(inner, interface):
            raise Conflict(f"container {lease['container']} has an interface {interface} already")
        links.add_veth(net, lease["veth"], bridge=bridge, netns=netns, interface=interface, mac=lease["mac"])
        end = links.find(inner, interface)
        index = end.index if end else 0
        requests = [links.set_up(1), links.set_up(index), links.add_address(index, lease["address"], lease["prefix"])]
        if lease["gateway"]:
            requests.append(links.add_default_route(index, lease["gateway"]))
        inner.talk(*requests)

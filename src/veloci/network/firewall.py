"""The rules of one network, in a table of its own: it comes and goes with the network's bridge.

    table inet veloci0 {
        guard        what comes from the bridge may not reach the host's 127.0.0.0/8: the next
                     line but one needs route_localnet, which would let it
        prerouting   published ports, for who comes from outside and for containers
        output       published ports, for the host itself
        forward      into the bridge: only answers, and what a published port sent there;
                     out of it: all, nothing if it is internal
        postrouting  the host's address for what leaves; for what comes back to the same
                     bridge, and for the host's loopback, so that the answers pass here.
                     Others keep their address: the container sees who its client is
    }

A table for each network, not one for all: nothing is shared, so nothing has to be counted
to know when it can go, and veloci of another data directory is not in the way.
"""

from __future__ import annotations

from errno import EBUSY, EEXIST, ENOENT

from veloci.errors import HostError
from veloci.kernel import nft
from veloci.kernel.netlink import NETFILTER, Netlink, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from veloci.network.addresses import Subnet
    from veloci.network.ports import Port

_FORWARDING = "/proc/sys/net/ipv4/ip_forward"
_NUMBERS = {"tcp": nft.TCP, "udp": nft.UDP, "sctp": nft.SCTP}
_LOOPBACK = (packed("127.0.0.0"), 8)
_AT_ONCE = 500  # ports a transaction: a netlink message has to fit the socket's buffer
_RAW, _DSTNAT, _FILTER, _SRCNAT = -300, -100, 0, 100  # priorities


def opened() -> Netlink:
    """A socket to change rules through. Raises OSError."""
    return Netlink(NETFILTER)


def put_up(net: Netlink, link: str, subnet: Subnet, *, internal: bool) -> None:
    """Make the table of the network whose bridge is `link`, anew if there is one. Raises OSError."""
    if is_up(net, link):
        take_down(net, link)
    batch = nft.Batch(link).table()
    batch.map("ports", ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service"), 1)
    batch.map("bound", ("ipv4_addr", "inet_proto", "inet_service"), ("ipv4_addr", "inet_service"), 2)
    batch.chain("guard", "filter", nft.PREROUTING, _RAW)
    batch.rule("guard", nft.iifname(link), nft.daddr(*_LOOPBACK), nft.verdict(nft.DROP))
    for chain, hook in (("prerouting", nft.PREROUTING), ("output", nft.OUTPUT)):
        batch.chain(chain, "nat", hook, _DSTNAT)
        batch.rule(chain, nft.dnat_by_address("bound"))
        batch.rule(chain, nft.to_this_host(), nft.dnat_by_port("ports"))
    batch.chain("forward", "filter", nft.FORWARD, _FILTER)
    batch.rule("forward", nft.iifname(link), nft.oifname(link), nft.verdict(nft.ACCEPT))
    if internal:
        batch.rule("forward", nft.iifname(link), nft.verdict(nft.DROP))
    else:
        batch.rule("forward", nft.oifname(link), nft.ct_state(nft.ESTABLISHED | nft.RELATED), nft.verdict(nft.ACCEPT))
        batch.rule("forward", nft.oifname(link), nft.ct_status(nft.DNAT), nft.verdict(nft.ACCEPT))
    batch.rule("forward", nft.oifname(link), nft.verdict(nft.DROP))
    batch.chain("postrouting", "nat", nft.POSTROUTING, _SRCNAT)
    source = nft.saddr(subnet.packed, subnet.prefix)
    if not internal:
        batch.rule("postrouting", source, nft.oifname(link, differs=True), nft.masquerade())
    batch.rule("postrouting", source, nft.oifname(link), nft.ct_status(nft.DNAT), nft.masquerade())
    batch.rule("postrouting", nft.saddr(*_LOOPBACK), nft.oifname(link), nft.masquerade())
    batch.commit(net)


def take_down(net: Netlink, link: str) -> None:
    """Remove the table of the network whose bridge is `link`; that it is gone already is well. Raises OSError."""
    nft.Batch(link).table().remove().commit(net)


def is_up(net: Netlink, link: str) -> bool:
    """Whether the table is there: who reloads a firewall may have flushed it. Raises OSError."""
    return nft.has_table(net, link)


def publish(net: Netlink, link: str, ports: Sequence[Port], address: str) -> None:
    """Send what comes to `ports` of this host to the container at `address`. Raises OSError.

    What an ended container left is replaced: whoever publishes holds the port (`ports.reserve`).
    """
    sysctl(f"/proc/sys/net/ipv4/conf/{link}/route_localnet", "1")
    for start in range(0, len(ports), _AT_ONCE):
        part = ports[start : start + _AT_ONCE]
        batch = nft.Batch(link)
        for port in part:
            batch.element(*_element(port), _value(port, address))
        try:
            batch.commit(net)
        except OSError as error:
            if error.errno not in (EEXIST, EBUSY):
                raise
            unpublish(net, link, part)
            batch.commit(net)


def unpublish(net: Netlink, link: str, ports: Sequence[Port]) -> None:
    """Take back what `publish` did; that it is gone already is well. Raises OSError."""
    for port in ports:
        try:
            nft.Batch(link).without(*_element(port)).commit(net)
        except OSError as error:
            if error.errno != ENOENT:
                raise


def _element(port: Port) -> tuple[str, bytes]:
    """The map and its key."""
    what = (bytes([_NUMBERS[port.protocol]]), port.host_port.to_bytes(2, "big"))
    if port.host_address == "0.0.0.0":  # noqa: S104 -- compared, not bound
        return "ports", nft.key(*what)
    return "bound", nft.key(packed(port.host_address), *what)


def _value(port: Port, address: str) -> bytes:
    return nft.key(packed(address), port.container_port.to_bytes(2, "big"))


def forward() -> None:
    """Let this host forward IPv4 between its links, as docker does; it stays so. Raises HostError."""
    sysctl(_FORWARDING, "1")


def sysctl(path: str, value: str) -> None:
    """Give a file of /proc/sys a value if it has another. Raises HostError."""
    try:
        with open(path, "rb", buffering=0) as file:
            if file.read().strip() == value.encode():
                return
        with open(path, "wb", buffering=0) as file:
            file.write(value.encode())
    except OSError as error:
        raise HostError(f"set {path} to {value}", error) from error


def obstacles(net: Netlink) -> list[str]:
    """Why packets may not pass although our rules let them: one line for each foreign chain that drops by default.

    An accept in our table does not override a drop in another one (docker's FORWARD policy).
    """
    return [
        f"the firewall's chain {chain!r} drops what no rule of it accepts, containers' packets too; "
        f"docker's DOCKER-USER chain, or a rule there, can let them pass"
        for chain in nft.dropping(net, nft.FORWARD)
    ]

"""Links, addresses and routes of one namespace, through rtnetlink — rtnetlink(7).

Each function takes a `Netlink`: the namespace is the one that its socket was opened in
(`namespace.netlink_in`). Failures are OSError with the kernel's words.
"""

from __future__ import annotations

from errno import ENODEV, ENOENT
from struct import pack, unpack_from

from veloci.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Netlink,
    attribute,
    attributes,
    each_attribute,
    nested,
    number,
    packed,
    string,
    text,
    u32,
    unpacked,
)
from veloci.network.addresses import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.kernel.netlink import Request

_NEWLINK, _DELLINK, _GETLINK, _SETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 19, 20, 22, 24, 26
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _LINKINFO, _GROUP, _NET_NS_FD, _PEER_NETNS = 1, 3, 4, 5, 10, 18, 27, 28, 37
_UP = 1  # IFF_UP
_MAIN, _UNIVERSE, _ON_LINK, _UNICAST, _BOOT = 254, 0, 253, 1, 3  # a route's table, scopes, type, protocol
_INET, _INET6, _BRIDGE, _UNSPECIFIED = 2, 10, 7, 0

NAME_LIMIT = 15  # bytes of a link's name: IFNAMSIZ - 1


class Link:
    """A link as the kernel describes it."""

    __slots__ = ("group", "index", "kind", "mac", "master", "mtu", "name", "peer", "peer_elsewhere", "up")

    def __init__(self, body: bytes) -> None:
        _family, _type, self.index, flags, _change = unpack_from("=BxHiII", body)
        values = attributes(body, 16)
        self.name = string(values[_IFNAME])
        self.mac = values.get(_ADDRESS, b"").hex(":")
        self.mtu = number(values.get(_MTU, b""))  # bytes
        self.up = bool(flags & _UP)
        self.group = number(values.get(_GROUP, b""))
        self.master = number(values.get(_MASTER, b""))  # the bridge's index, 0 for none
        self.peer = number(values.get(_LINK, b""))  # the other end's index, in its own namespace
        self.peer_elsewhere = _PEER_NETNS in values
        self.kind = string(attributes(values.get(_LINKINFO, b"")).get(1, b""))  # "bridge", "veth"…; "" for hardware


def _info(index: int = 0, *, up: bool = False) -> bytes:
    return pack("=BxHiII", _UNSPECIFIED, 0, index, _UP if up else 0, _UP if up else 0)


def all_links(net: Netlink) -> list[Link]:
    """Every link, by index."""
    return sorted((Link(body) for body in net.dump(_GETLINK, _info())), key=lambda link: link.index)


def find(net: Netlink, name: str) -> Link | None:
    """The link of that name, or None."""
    try:
        return Link(net.talk((_GETLINK, 0, _info() + text(_IFNAME, name)))[0])
    except OSError as error:
        if error.errno == ENODEV:
            return None
        raise


def by_index(net: Netlink, index: int) -> Link | None:
    """The link with that index, or None."""
    try:
        return Link(net.talk((_GETLINK, 0, _info(index)))[0])
    except OSError as error:
        if error.errno == ENODEV:
            return None
        raise


def add_bridge(net: Netlink, name: str, *, mac: str = "", mtu: int = 0, group: int = 0) -> Link:
    """Make a bridge and set it up; what is not given the kernel chooses. FileExistsError if the name is taken.

    mac: given, it stays; else it changes with the ports. group: lets `remove_group` take it away with its ports.
    """
    values = [text(_IFNAME, name), nested(_LINKINFO, text(1, "bridge"))]
    values += [attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))] if mac else []
    values += [u32(_MTU, mtu)] if mtu else []
    values += [u32(_GROUP, group)] if group else []
    net.talk((_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _info(up=True) + b"".join(values)))
    link = find(net, name)
    if link is None:
        raise OSError(ENODEV, f"{name} vanished as it was made")
    return link


def add_veth(net: Netlink, name: str, *, bridge: Link, netns: int, interface: str, mac: str = "") -> None:
    """Make a veth pair in one step: `name` here, up, a port of `bridge`; `interface`, down, in the namespace `netns`.

    netns: the namespace's descriptor. mac: of the far end. FileExistsError if a name is taken on its side.
    """
    mtu = u32(_MTU, bridge.mtu)
    far = [text(_IFNAME, interface), u32(_NET_NS_FD, netns), mtu]
    far += [attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))] if mac else []
    peer = attribute(1, _info() + b"".join(far))
    values = text(_IFNAME, name) + mtu + u32(_MASTER, bridge.index) + u32(_GROUP, bridge.group)
    values += nested(_LINKINFO, text(1, "veth"), nested(2, peer))
    net.talk((_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _info(up=True) + values))


def reflect(net: Netlink, name: str) -> None:
    """Let a bridge send back through the port `name` what came from it (hairpin mode)."""
    port = find(net, name)
    if port:
        head = pack("=BxHiII", _BRIDGE, 0, port.index, 0, 0)
        net.talk((_SETLINK, 0, head + nested(12, attribute(4, b"\1"))))  # IFLA_PROTINFO, IFLA_BRPORT_MODE


def remove(net: Netlink, name: str) -> bool:
    """Remove the link, a veth with its other end. Returns False if there is none."""
    return _remove(net, _info() + text(_IFNAME, name))


def remove_group(net: Netlink, group: int) -> bool:
    """Remove all links of a group at once: it takes the kernel as long as one. Returns False if there is none.

    Raises ValueError for group 0: every link that nobody grouped is in it.
    """
    if not group:
        raise ValueError("group 0 holds the host's own links")
    return _remove(net, _info() + u32(_GROUP, group))


def _remove(net: Netlink, request: bytes) -> bool:
    try:
        net.talk((_DELLINK, 0, request))
    except OSError as error:
        if error.errno in (ENODEV, ENOENT):
            return False
        raise
    return True


def set_up(index: int) -> Request:
    """The request that sets a link up; index 1 is `lo`."""
    return _NEWLINK, 0, _info(index, up=True)


def rename(net: Netlink, index: int, name: str) -> None:
    """Give a link another name."""
    net.talk((_NEWLINK, 0, _info(index) + text(_IFNAME, name)))


def add_address(index: int, address: str, prefix: int) -> Request:
    """The request that gives a link an address; EEXIST if it has it."""
    raw = packed(address)
    family = _INET if len(raw) == 4 else _INET6
    values = attribute(2, raw) + attribute(1, raw)
    if family == _INET and prefix < 31:
        host = (1 << (32 - prefix)) - 1
        values += attribute(4, (int.from_bytes(raw, "big") | host).to_bytes(4, "big"))  # the broadcast address
    flags = 0x02 if family == _INET6 else 0  # IFA_F_NODAD: usable at once, a duplicate is not waited for
    head = pack("=BBBBi", family, prefix, flags, _UNIVERSE, index)
    return _NEWADDR, NLM_F_CREATE | NLM_F_EXCL, head + values


def add_default_route(index: int, gateway: str) -> Request:
    """The request that sends what is not local through `gateway`."""
    raw = packed(gateway)
    family = _INET if len(raw) == 4 else _INET6
    head = pack("=BBBBBBBBI", family, 0, 0, 0, _MAIN, _BOOT, _UNIVERSE, _UNICAST, 0)
    return _NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, head + attribute(5, raw) + u32(4, index)


class Address:
    """An address on a link."""

    __slots__ = ("address", "index", "prefix")

    def __init__(self, body: bytes) -> None:
        _family, self.prefix, _flags, _scope, self.index = unpack_from("=BBBBi", body)
        values = attributes(body, 8)
        self.address = unpacked(values[2] if 2 in values else values[1])  # IFA_LOCAL, else IFA_ADDRESS

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


def addresses(net: Netlink) -> list[Address]:
    """Every address, of both families."""
    return [Address(body) for body in net.dump(_GETADDR, pack("=BBBBi", _UNSPECIFIED, 0, 0, 0, 0))]


class Route:
    """A unicast route of the main table."""

    __slots__ = ("destination", "gateway", "index", "metric", "source")

    def __init__(self, body: bytes) -> None:
        family, length = body[0], body[1]
        values = attributes(body, 12)
        self.destination = Subnet(values.get(1, bytes(4 if family == _INET else 16)), length)
        self.gateway = unpacked(values[5]) if 5 in values else ""
        self.source = unpacked(values[7]) if 7 in values else ""
        self.index = number(values.get(4, b""))
        self.metric = number(values.get(6, b""))


def routes(net: Netlink, family: int = _UNSPECIFIED) -> list[Route]:
    """The unicast routes of the main table, of both families or of one (2 is IPv4, 10 is IPv6)."""
    return [Route(body) for wanted in ([family] if family else (_INET, _INET6)) for body in _main_table(net, wanted)]


def _main_table(net: Netlink, family: int) -> Iterator[bytes]:
    head = pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
    for body in net.dump(_GETROUTE, head):
        table = dict(each_attribute(body, 12)).get(15)
        if body[7] == _UNICAST and (number(table) if table else body[4]) == _MAIN:
            yield body


def outward(net: Netlink) -> int:
    """The index of the link that a packet to an address of the outside leaves through. OSError ENETUNREACH: none."""
    head = pack("=BBBBBBBBI", _INET, 32, 0, 0, 0, 0, 0, 0, 0)
    answer = net.talk((_GETROUTE, 0, head + attribute(1, packed("203.0.113.1"))))[0]  # RFC 5737: nobody has it
    return number(attributes(answer, 12)[4])

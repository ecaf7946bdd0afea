"""nftables as bytes: what a rule is made of, and transactions — nfnetlink, linux/netfilter/nf_tables.h.

A rule is the joined expressions of this module, as `nft --debug=netlink` shows them; a
`Batch` gathers tables, chains, maps and rules, and the kernel takes all of it or nothing.
Measured: 0.5 ms for a table with its rules, where loading and asking libnftables costs 4 ms. The
tests compare what the kernel then holds with what `nft list` prints.
"""

from __future__ import annotations

from struct import pack

from veloci.kernel.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    attributes,
    be32,
    nested,
    string,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from veloci.kernel.netlink import Netlink, Request

INET = 1  # the family of tables for both IPv4 and IPv6
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)  # netfilter's hooks
DROP, ACCEPT = 0, 1
IPV4, TCP, UDP, SCTP = 2, 6, 17, 132
LOCAL = 2  # RTN_LOCAL: an address of this host
ESTABLISHED, RELATED = 2, 4  # bits of ct state
DNAT = 1 << 5  # bit of ct status: its destination was rewritten

_SUBSYSTEM = 10 << 8
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN = (_SUBSYSTEM | number for number in range(5))
_NEWRULE, _NEWSET = _SUBSYSTEM | 6, _SUBSYSTEM | 9
_NEWSETELEM, _DELSETELEM = _SUBSYSTEM | 12, _SUBSYSTEM | 14
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_MAP = 8  # NFT_SET_MAP
_REGISTER, _SECOND, _THIRD = 1, 9, 10  # a register of 16 bytes, and the 4-byte ones that are its second and third word
TYPES = {"ipv4_addr": 7, "inet_proto": 12, "inet_service": 13}  # nft's numbers for them; 6 bits each in a concatenation


# --- expressions ---------------------------------------------------------------------------------


def _expression(name: str, *values: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *values))


def _equal(value: bytes, *, differs: bool = False) -> bytes:
    return _expression("cmp", be32(1, _REGISTER), be32(2, int(differs)), nested(3, attribute(1, value)))


def _load_meta(key: int, register: int = _REGISTER) -> bytes:
    return _expression("meta", be32(2, key), be32(1, register))


def _load_payload(base: int, offset: int, size: int, register: int = _REGISTER) -> bytes:
    return _expression("payload", be32(1, register), be32(2, base), be32(3, offset), be32(4, size))


def _masked(mask: bytes) -> bytes:
    """Keep of the loaded four bytes the bits of `mask`."""
    width = (be32(1, _REGISTER), be32(2, _REGISTER), be32(3, 4))
    return _expression("bitwise", *width, nested(4, attribute(1, mask)), nested(5, attribute(1, bytes(4))))


def _any_bit(mask: int) -> bytes:
    """True if the loaded host-order number has one of the bits of `mask`."""
    return _masked(pack("=I", mask)) + _equal(bytes(4), differs=True)


def iifname(name: str, *, differs: bool = False) -> bytes:
    """`iifname NAME` or `iifname != NAME`."""
    return _load_meta(6) + _equal(name.encode().ljust(16, b"\0"), differs=differs)


def oifname(name: str, *, differs: bool = False) -> bytes:
    """`oifname NAME` or `oifname != NAME`."""
    return _load_meta(7) + _equal(name.encode().ljust(16, b"\0"), differs=differs)


def saddr(network: bytes, prefix: int) -> bytes:
    """`ip saddr NETWORK/PREFIX`; network: 4 bytes, its host bits zero."""
    return _ipv4_within(12, network, prefix)


def daddr(network: bytes, prefix: int) -> bytes:
    """`ip daddr NETWORK/PREFIX`; network: 4 bytes, its host bits zero."""
    return _ipv4_within(16, network, prefix)


def _ipv4_within(offset: int, network: bytes, prefix: int) -> bytes:
    found = _load_meta(15) + _equal(bytes([IPV4]))  # nfproto: an inet table sees IPv6 too
    if prefix % 8 == 0:  # whole bytes are compared as they are, and so nft prints them back
        return found + _load_payload(1, offset, prefix // 8) + _equal(network[: prefix // 8])
    mask = (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF
    return found + _load_payload(1, offset, 4) + _masked(pack(">I", mask)) + _equal(network)


def to_this_host() -> bytes:
    """`fib daddr type local`."""
    return _expression("fib", be32(1, _REGISTER), be32(2, 3), be32(3, 2)) + _equal(pack("=I", LOCAL))


def ct_state(bits: int) -> bytes:
    """`ct state ESTABLISHED,RELATED…`: one of the bits."""
    return _expression("ct", be32(2, 0), be32(1, _REGISTER)) + _any_bit(bits)


def ct_status(bits: int) -> bytes:
    """`ct status DNAT…`: one of the bits."""
    return _expression("ct", be32(2, 2), be32(1, _REGISTER)) + _any_bit(bits)


def dnat_by_port(name: str) -> bytes:
    """`dnat ip to meta l4proto . th dport map @NAME`."""
    keys = _load_meta(16) + _load_payload(2, 2, 2, _SECOND)
    return keys + _dnat(name)


def dnat_by_address(name: str) -> bytes:
    """`dnat ip to ip daddr . meta l4proto . th dport map @NAME`."""
    keys = _load_meta(15) + _equal(bytes([IPV4])) + _load_payload(1, 16, 4)
    return keys + _load_meta(16, _SECOND) + _load_payload(2, 2, 2, _THIRD) + _dnat(name)


def _dnat(name: str) -> bytes:
    registers = (be32(3, _REGISTER), be32(4, _REGISTER), be32(5, _SECOND), be32(6, _SECOND))
    found = _expression("lookup", text(1, name), be32(2, _REGISTER), be32(3, _REGISTER))
    return found + _expression("nat", be32(1, 1), be32(2, IPV4), *registers)


def masquerade() -> bytes:
    """`masquerade`."""
    return _expression("masq")


def verdict(code: int) -> bytes:
    """`accept` or `drop`."""
    return _expression("immediate", be32(1, 0), nested(2, nested(2, be32(1, code))))


# --- transactions --------------------------------------------------------------------------------


def key(*parts: bytes) -> bytes:
    """A map's key or value: each part is padded to four bytes, as registers are filled."""
    return b"".join(part.ljust((len(part) + 3) & ~3, b"\0") for part in parts)


class Batch:
    """Changes of one table of the inet family, made together or not at all."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._requests: list[Request] = []

    def _add(self, kind: int, flags: int, *values: bytes) -> Batch:
        self._requests.append((kind, flags, pack("=BBH", INET, 0, 0) + text(1, self._table) + b"".join(values)))
        return self

    def table(self) -> Batch:
        """Make the table; it may be there already."""
        return self._add(_NEWTABLE, NLM_F_CREATE, be32(2, 0))

    def remove(self) -> Batch:
        """Remove the table and everything in it. FileNotFoundError if it is not there."""
        return self._add(_DELTABLE, 0)

    def chain(self, name: str, kind: str, hook: int, priority: int) -> Batch:
        """Make a base chain of type `kind` ("filter", "nat") that accepts what no rule decides."""
        place = nested(4, be32(1, hook), be32(2, priority))
        return self._add(_NEWCHAIN, NLM_F_CREATE, text(3, name), place, be32(5, ACCEPT), text(7, kind))

    def rule(self, chain: str, *expressions: bytes) -> Batch:
        """Append a rule."""
        return self._add(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, text(2, chain), nested(4, *expressions))

    def map(self, name: str, keys: Sequence[str], values: Sequence[str], identity: int) -> Batch:
        """Make a map from a concatenation of TYPES to another.

        identity: a number that no other map of this batch has.
        """
        kinds = (be32(4, _concatenation(keys)), be32(5, 4 * len(keys)))
        data = (be32(6, _concatenation(values)), be32(7, 4 * len(values)))
        return self._add(_NEWSET, NLM_F_CREATE, text(2, name), be32(3, _MAP), *kinds, *data, be32(10, identity))

    def element(self, name: str, key: bytes, value: bytes) -> Batch:
        """Put `key` into a map. FileExistsError if it is there already."""
        pair = (nested(1, attribute(1, key)), nested(2, attribute(1, value)))
        return self._add(_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, text(2, name), nested(3, nested(1, *pair)))

    def without(self, name: str, key: bytes) -> Batch:
        """Take `key` out of a map. FileNotFoundError if map or key is not there."""
        return self._add(_DELSETELEM, 0, text(2, name), nested(3, nested(1, nested(1, attribute(1, key)))))

    def commit(self, net: Netlink) -> None:
        """Do it all, or raise OSError and do nothing. net: a socket of NETFILTER.

        After something was removed, closing the socket waits 10 to 20 ms for the kernel to free it; keep it
        open while there is other work.
        """
        mark = pack(">BBH", 0, 0, 10)
        net.transact((_BATCH_BEGIN, 0, mark), self._requests, (_BATCH_END, 0, mark))


def _concatenation(names: Sequence[str]) -> int:
    value = 0
    for name in names:
        value = value << 6 | TYPES[name]
    return value


def has_table(net: Netlink, name: str) -> bool:
    """Whether the inet family has that table. Raises OSError."""
    try:
        net.talk((_GETTABLE, 0, pack("=BBH", INET, 0, 0) + text(1, name)))
    except FileNotFoundError:
        return False
    return True


def dropping(net: Netlink, hook: int) -> list[str]:
    """The base chains on `hook` of IPv4's path whose policy is drop, as "family table chain". Raises OSError."""
    families = {INET: "inet", IPV4: "ip"}
    found = []
    for body in net.dump(_GETCHAIN, pack("=BBH", 0, 0, 0)):
        values = attributes(body, 4)
        place = attributes(values.get(4, b""))
        policy = int.from_bytes(values.get(5, b"\1"), "big")
        if body[0] in families and policy == DROP and int.from_bytes(place.get(1, b"\xff"), "big") == hook:
            found.append(f"{families[body[0]]} {string(values[1])} {string(values[3])}")
    return found

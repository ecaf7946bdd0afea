"""Addresses and subnets as text and numbers. Python's `ipaddress` costs 6 ms at start; this is what a network needs."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.kernel.netlink import packed, unpacked


class Subnet:
    """A range of addresses: its first one and the length of its prefix. A value: equal if they are."""

    __slots__ = ("bits", "first", "prefix")

    def __init__(self, first: bytes, prefix: int) -> None:
        self.bits = 8 * len(first)
        self.prefix = prefix
        self.first = int.from_bytes(first, "big") & ~((1 << (self.bits - prefix)) - 1)

    def __str__(self) -> str:
        return f"{self.address(0)}/{self.prefix}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subnet) and (other.bits, other.first, other.prefix) == (
            self.bits,
            self.first,
            self.prefix,
        )

    def __hash__(self) -> int:
        return hash((self.bits, self.first, self.prefix))

    @property
    def size(self) -> int:
        """How many addresses it has, the first and the last included."""
        return 1 << (self.bits - self.prefix)

    @property
    def packed(self) -> bytes:
        """The first address as 4 or 16 bytes."""
        return self.first.to_bytes(self.bits // 8, "big")

    def address(self, index: int) -> str:
        """The address at `index`, counted from the first, which is 0."""
        return unpacked((self.first + index).to_bytes(self.bits // 8, "big"))

    def index(self, address: str) -> int:
        """Where `address` stands; outside of 0 ≤ index < size it is not in this subnet."""
        raw = packed(address)
        return int.from_bytes(raw, "big") - self.first if 8 * len(raw) == self.bits else -1

    def overlaps(self, other: Subnet) -> bool:
        """Whether one lies within the other."""
        shift = self.bits - min(self.prefix, other.prefix)
        return self.bits == other.bits and self.first >> shift == other.first >> shift


def parse_address(text: str, *, where: str) -> str:
    """An IPv4 or IPv6 address in its canonical spelling. Raises InvalidInput."""
    try:
        return unpacked(packed(text))
    except (OSError, ValueError):
        raise InvalidInput(f"{text!r} is not an IP address", where=where, hint="write it as in 10.200.0.2") from None


def parse_cidr(text: str, *, where: str) -> tuple[str, Subnet]:
    """`10.200.0.1/24` as its address and the subnet it stands in. Raises InvalidInput."""
    address, slash, length = text.partition("/")
    hint = "write an address and its prefix's length, as in 10.200.0.1/24"
    try:
        raw = packed(address)
    except (OSError, ValueError):
        raise InvalidInput(f"{text!r} is not an address with a prefix", where=where, hint=hint) from None
    if not slash or not (length.isascii() and length.isdigit()) or int(length) > 8 * len(raw):
        raise InvalidInput(f"{text!r} has no prefix between /0 and /{8 * len(raw)}", where=where, hint=hint)
    return unpacked(raw), Subnet(raw, int(length))


def parse_subnet(text: str, *, where: str) -> Subnet:
    """`10.99.0.0/24` as a subnet; bits of a host are refused. Raises InvalidInput."""
    address, subnet = parse_cidr(text, where=where)
    if address != subnet.address(0):
        raise InvalidInput(f"{text} names a host; its subnet is {subnet}", where=where, hint=f"{where} {subnet}")
    return subnet

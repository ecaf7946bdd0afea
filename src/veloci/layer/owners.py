"""Whose files are, seen from the image and from the host: ID maps, and an ordinary user's stand-in for owners.

An ordinary user cannot give files away: the owner a layer names is kept in the attribute
user.rootlesscontainers (https://rootlesscontaine.rs, proto/rootlesscontainers.proto), as umoci does.
"""

from __future__ import annotations

import os

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Map: TypeAlias = Sequence[tuple[int, int, int]]  # container's first ID, host's first ID, how many

ROOTLESS = b"user.rootlesscontainers"
NOBODY = 2**32 - 1  # what the attribute has for "as it is on the disk"


class Owners:
    """How owners of an image are those of files here.

    uids, gids: ID maps, empty for none. rootless: owners cannot be set, so they are noted.
    """

    def __init__(self, uids: Map = (), gids: Map = (), *, rootless: bool = False) -> None:
        self.uids, self.gids, self.rootless = tuple(uids), tuple(gids), rootless
        self.plain = not (uids or gids or rootless)

    def host(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner here of what the image says is owned by `uid` and `gid`. Raises InvalidInput."""
        return _mapped(uid, self.uids, "user", 0), _mapped(gid, self.gids, "group", 0)

    def image(self, uid: int, gid: int) -> tuple[int, int]:
        """The reverse of `host`. Raises InvalidInput."""
        return _mapped(uid, self.uids, "user", 1), _mapped(gid, self.gids, "group", 1)


def usual() -> Owners:
    """Root gives files away; an ordinary user notes whose they are."""
    return Owners(rootless=os.geteuid() != 0)


def noted(uid: int, gid: int) -> bytes:
    """The attribute's value: a protobuf message of two numbers."""
    return b"\x08" + _varint(uid) + b"\x10" + _varint(gid)


def read_note(value: bytes) -> tuple[int, int] | None:
    """The owner in an attribute's value; None if there is none."""
    found = {1: NOBODY, 2: NOBODY}
    at = 0
    while at < len(value):
        tag, at = _number(value, at)
        number, at = _number(value, at)
        if tag & 7 or at < 0:
            return None
        found[tag >> 3] = number
    return found[1], found[2]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _number(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while 0 <= at < len(value) and shift < 63:
        byte = value[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at
    return 0, -1


def _mapped(number: int, table: Map, what: str, side: int) -> int:
    if not table:
        return number
    for first, second, size in table:
        start, target = (second, first) if side else (first, second)
        if start <= number < start + size:
            return number - start + target
    raise InvalidInput(f"the {what} {number} has no counterpart in the ID map", hint=f"--{what[0]}id-map")

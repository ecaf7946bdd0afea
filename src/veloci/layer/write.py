"""Tar headers: ustar, and PAX records only where ustar cannot say it, so that equal trees give equal bytes."""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK = 512
END = bytes(2 * BLOCK)
_HEADER = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")


def header(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """The header of one entry, with an extended one before it if needed.

    kind: ustar's type letter. size: bytes; mtime: seconds; xattrs: in the order they shall have.
    """
    records: list[tuple[bytes, bytes]] = []
    prefix, short = split(name)
    if not short:
        records.append((b"path", name))
        short = name[:100]
    if len(link) > 100:
        records.append((b"linkpath", link))
    for key, value, limit in (
        (b"uid", uid, 8**7),
        (b"gid", gid, 8**7),
        (b"size", size, 8**11),
        (b"mtime", mtime, 8**11),
    ):
        if not 0 <= value < limit:
            records.append((key, b"%d" % value))
    records += [(b"SCHILY.xattr." + key, value) for key, value in xattrs]
    numbers = (mode, fit(uid, 8**7), fit(gid, 8**7), fit(size, 8**11), fit(mtime, 8**11))
    block = _block(short, kind, numbers, link[:100], device, prefix)
    if not records:
        return block
    body = b"".join(_record(key, value) for key, value in sorted(records))
    extended = _block(_beside(name), b"x", (0, 0, 0, len(body), 0), b"", (0, 0), b"")
    return extended + body + padding(len(body)) + block


def padding(size: int) -> bytes:
    """The zeros after `size` bytes of content."""
    return bytes(-size % BLOCK)


def split(name: bytes) -> tuple[bytes, bytes]:
    """A name as ustar's prefix and name; the name is b"" if it does not fit, or is not ASCII and so no ustar name."""
    if not name.isascii():
        return b"", b""
    if len(name) <= 100:
        return b"", name
    at = name.rfind(b"/", 0, 156)
    if at > 0 and 0 < len(name) - at - 1 <= 100:
        return name[:at], name[at + 1 :]
    return b"", b""


def fit(value: int, limit: int) -> int:
    """`value`, or 0 where a PAX record says it instead."""
    return value if 0 <= value < limit else 0


def _block(
    name: bytes,
    kind: bytes,
    numbers: tuple[int, int, int, int, int],
    link: bytes,
    device: tuple[int, int],
    prefix: bytes,
) -> bytes:
    mode, uid, gid, size, mtime = numbers
    fields = (
        name,
        b"%07o\0" % mode,
        b"%07o\0" % uid,
        b"%07o\0" % gid,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b" " * 8,
        kind,
        link,
        b"ustar\x0000",
        b"",
        b"",
        b"%07o\0" % device[0],
        b"%07o\0" % device[1],
        prefix,
    )
    block = _HEADER.pack(*fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """`%d %s=%s\\n`, where the number counts its own digits too."""
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    size = rest + len(str(size))
    return b"%d %s=%s\n" % (size, key, value)


def _beside(name: bytes) -> bytes:
    """The name of an extended header, for readers that do not know them."""
    last = name.rstrip(b"/").rpartition(b"/")[2][:80]
    return b"PaxHeaders.0/" + (last if last.isascii() else b"entry")

"""Tar from a stream: one parser, strict, in bounded memory.

ustar, GNU (long names, base-256 numbers, sparse files) and PAX (pax(1), POSIX.1-2017), as the
peers write them. Whatever is malformed is an error: a reader that stops at a damaged header
without a word leaves half a layer behind.
"""

from __future__ import annotations

import os
from struct import Struct
from zlib import adler32

from veloci.errors import InvalidInput
from veloci.layer.number import Known, decimal_ns, number, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn

BLOCK = 512  # bytes
RECORDS = 1 << 20  # bytes of the largest PAX header, long name or sparse map
ENTRIES, TOTAL = 10_000_000, 1 << 43  # entries, and bytes of files, in one layer, unless it is said otherwise
IDS = 2**32 - 2  # the largest uid and gid: the next one means "no change" to the kernel
HEADER = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
ZERO = bytes(BLOCK)
KINDS = {b"\0": b"0", b"7": b"0"}  # the old regular file, the contiguous one
MODES, UIDS, GIDS, TIMES = Known("mode"), Known("uid"), Known("gid"), Known("mtime")


class Entry:
    """One member of a tar.

    kind: ustar's type letter: b"0" file, b"1" hard link, b"2" symlink, b"3" b"4" devices, b"5" directory,
    b"6" fifo. name, link: as they stand in the archive. mtime: nanoseconds. size: bytes in the file,
    holes included; stored: bytes in the archive. sparse: (offset, length) of what is stored, or None.
    """

    __slots__ = (
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "size",
        "sparse",
        "stored",
        "uid",
        "xattrs",
    )

    def __init__(self, name: bytes, kind: bytes) -> None:
        self.name, self.kind, self.link = name, kind, b""
        self.mode = self.uid = self.gid = self.mtime = self.size = self.stored = self.major = self.minor = 0
        self.xattrs: dict[bytes, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None


class Reader:
    """The entries of a tar, in order; `body` gives the bytes of the one given last."""

    def __init__(self, chunks: Iterable[bytes], *, entries: int | None = None, total: int | None = None) -> None:
        """entries, total: how many entries, and bytes in files, there may be; None is what `limits` says."""
        self._limits = [
            given if given is not None else usual for given, usual in zip((entries, total), limits(), strict=True)
        ]
        self._chunks = iter(chunks)
        self._buffer = memoryview(b"")
        self._at = 0  # position in the buffer
        self._passed = 0  # bytes of the stream before the buffer and in it
        self._left = self._padding = 0  # bytes of the current entry not read yet, and after it
        self.entries = self.total = 0

    def __iter__(self) -> Iterator[Entry]:
        """Every entry; afterwards the stream is read to its end. Raises InvalidInput."""
        while True:
            self._pass(self._left + self._padding)
            entry = self._next()
            if entry is None:
                break
            self.entries += 1
            self.total += entry.size
            if self.entries > self._limits[0] or self.total > self._limits[1]:
                wrong(f"more than {self._limits[0]} entries or {self._limits[1]} bytes")
            yield entry
        for _chunk in self._chunks:
            pass

    @property
    def offset(self) -> int:
        """Where in the stream the next byte stands; of an entry just given, its content."""
        return self._passed - len(self._buffer) + self._at

    def body(self) -> Iterator[memoryview]:
        """What is left of the current entry's stored bytes, in pieces."""
        while self._left:
            have = len(self._buffer) - self._at
            if not have:
                self._more()
                continue
            size = min(have, self._left)
            piece = self._buffer[self._at : self._at + size]
            self._at += size
            self._left -= size
            yield piece

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            wrong("the archive ends within an entry")
        self._buffer, self._at = memoryview(chunk), 0
        self._passed += len(chunk)

    def _pass(self, size: int) -> None:
        """Go on behind the next `size` bytes, which are the rest of the entry."""
        while size > (have := len(self._buffer) - self._at):
            size -= have
            self._more()
        self._at += size
        self._left = self._padding = 0

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of the stream."""
        if len(self._buffer) - self._at >= size:
            data = bytes(self._buffer[self._at : self._at + size])
            self._at += size
            return data
        parts: list[bytes] = []
        while size:
            if self._at == len(self._buffer):
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._buffer, self._at = memoryview(chunk), 0
                self._passed += len(chunk)
            part = bytes(self._buffer[self._at : self._at + size])
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _exactly(self, size: int) -> bytes:
        data = self._take(size)
        if len(data) != size:
            wrong("the archive ends within an entry")
        return data

    def _block(self) -> bytes:
        """The next header, b"" at the archive's end."""
        block = self._take(BLOCK)
        if not block:
            return b""
        if len(block) != BLOCK:
            wrong("the archive ends within a header")
        if block == ZERO:
            second = self._take(BLOCK)
            if second and second != ZERO:
                wrong("a header follows a block of zeros")
            return b""
        return block

    def _next(self) -> Entry | None:
        long: dict[bytes, bytes] = {}  # GNU's: b"L" the name, b"K" the link
        records: dict[bytes, bytes] | None = None
        maps: list[tuple[int, int]] = []
        while block := self._block():
            fields = HEADER.unpack(block)
            check(block, fields[6])
            kind = fields[7]
            if kind in b"xgLK":
                size = number(fields[4], "size")
                if not 0 <= size <= RECORDS:
                    wrong(f"a header of {size} bytes")
                data = self._exactly(size)
                self._pass(-size % BLOCK)
                if kind == b"x":
                    records, maps = pax(data)
                elif kind == b"g":
                    pax(data)  # as the peers: checked, not applied
                else:
                    long[kind] = data.rstrip(b"\0")
                continue
            entry = plain(block, fields)
            entry.name = long.get(b"L", entry.name)
            entry.link = long.get(b"K", entry.link)
            self._sized(entry, block, records, maps)
            return entry
        if long or records is not None:
            wrong("the archive ends after an extended header")
        return None

    def _sized(
        self,
        entry: Entry,
        block: bytes,
        records: dict[bytes, bytes] | None,
        maps: list[tuple[int, int]],
    ) -> None:
        """Apply what extends the header, and prepare to read the body."""
        if records:
            extend(entry, records)
        if not (0 <= entry.uid <= IDS and 0 <= entry.gid <= IDS):
            wrong(f"is owned by {entry.uid}:{entry.gid}, out of range", entry.name)
        if entry.kind == b"S":
            self._old_sparse(entry, block)
        if entry.kind not in (b"0", b"S"):
            if entry.size and entry.kind != b"1":  # some writers give a hard link its file's size, but no bytes
                wrong("has a size, but no content", entry.name)
            entry.size = 0
        entry.stored = entry.size
        self._left, self._padding = entry.size, -entry.size % BLOCK
        if entry.kind == b"S":
            entry.kind, entry.size = b"0", number(block[483:495], "size")
        elif records and any(key.startswith(b"GNU.sparse.") for key in records):
            self._pax_sparse(entry, records, maps)
        if entry.sparse is not None:
            whole(entry)

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """GNU's sparse map: four pieces in the header, more in blocks after it."""
        entry.sparse = []
        area, more = block[386:482], block[482]
        while True:
            for at in range(0, len(area) // 24 * 24, 24):
                if area[at : at + 24].strip(b"\0"):
                    piece = (number(area[at : at + 12], "offset"), number(area[at + 12 : at + 24], "length"))
                    entry.sparse.append(piece)
            if not more:
                return
            if len(entry.sparse) * 24 > RECORDS:
                wrong("too large a sparse map", entry.name)
            block = self._exactly(BLOCK)
            area, more = block[:504], block[504]

    def _pax_sparse(self, entry: Entry, records: dict[bytes, bytes], maps: list[tuple[int, int]]) -> None:
        """PAX's three ways to write a sparse map: GNU tar manual, D.2.2."""
        real = records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size"))
        entry.name = records.get(b"GNU.sparse.name", entry.name)
        if records.get(b"GNU.sparse.major") == b"1":
            entry.sparse = self._map_in_body(entry)
        elif b"GNU.sparse.map" in records:
            values = numbers(records[b"GNU.sparse.map"].split(b","))
            entry.sparse = list(zip(values[::2], values[1::2], strict=len(values) % 2 == 0))
        else:
            entry.sparse = maps
        if real is None:
            wrong("a sparse file without its size", entry.name)
        entry.size = numbers([real])[0]

    def _map_in_body(self, entry: Entry) -> list[tuple[int, int]]:
        """Version 1.0: decimal numbers, one a line, before the content."""
        text = b""
        lines: list[bytes] = []
        wanted = 1
        while len(lines) < wanted:
            if len(text) > RECORDS or self._left < BLOCK:
                wrong("a sparse map that does not end", entry.name)
            text += self._exactly(BLOCK)
            self._left -= BLOCK
            entry.stored -= BLOCK
            lines = text.split(b"\n")[:-1]
            wanted = 1 + 2 * numbers(lines[:1])[0] if lines else 1
        values = numbers(lines[1:wanted])
        return list(zip(values[::2], values[1::2], strict=True))


def limits() -> tuple[int, int]:
    """How many entries, and bytes in files, a layer may have: VELOCI_MAX_ENTRIES, VELOCI_MAX_BYTES, or our own.

    Raises InvalidInput for what is no number.
    """
    found = []
    for name, usual in (("VELOCI_MAX_ENTRIES", ENTRIES), ("VELOCI_MAX_BYTES", TOTAL)):
        text = os.environ.get(name, "")
        if text and not (text.isascii() and text.isdecimal()):
            raise InvalidInput(f"{text!r} is no number", where=name)
        found.append(int(text) if text else usual)
    return found[0], found[1]


def whole(entry: Entry) -> None:
    """Check a sparse map: pieces in order, within the file, as long together as what is stored."""
    end = 0
    for offset, length in entry.sparse or ():
        if offset < end or length < 0 or offset + length > entry.size:
            wrong("a sparse map that contradicts itself", entry.name)
        end = offset + length
    if sum(length for _, length in entry.sparse or ()) != entry.stored or entry.size > TOTAL:
        wrong("a sparse map that contradicts its size", entry.name)


def check(block: bytes, field: bytes) -> None:
    """Compare the header's checksum, of unsigned or, as old tars summed it, of signed bytes. Raises InvalidInput."""
    want = number(field, "checksum")
    # Of 256 bytes Adler-32's lower half is their sum and 1 (RFC 1950, 8.2); the field itself counts as blanks.
    got = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2 - sum(field) + 256
    if got != want and sum(memoryview(block[:148] + block[156:]).cast("b")) + 256 != want:
        wrong(f"a header's checksum is {got}, not {want}")


def plain(block: bytes, fields: tuple[bytes, ...]) -> Entry:
    """The entry of a header block alone."""
    name, mode, uid, gid, size, mtime, _, kind, link, magic, _, _, major, minor, prefix = fields
    name = name.partition(b"\0")[0]
    kind = KINDS.get(kind, kind)
    if magic == b"ustar\x0000":
        if block[508:] == b"tar\0":  # star: access and change time stand where the prefix ends
            prefix = prefix[:131]
        if prefix[0]:
            name = prefix.partition(b"\0")[0] + b"/" + name
    if kind == b"0" and name.endswith(b"/"):
        kind = b"5"  # before ustar a directory was a name with a slash
    if kind not in (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"S"):
        wrong(f"is of type {kind!r}, which no layer may hold", name)
    entry = Entry(name, kind)
    entry.mode = MODES[mode] & 0o7777
    entry.uid, entry.gid = UIDS[uid], GIDS[gid]
    entry.size = number(size, "size")
    entry.mtime = TIMES[mtime] * 1_000_000_000
    entry.link = link.partition(b"\0")[0]
    if kind in (b"3", b"4"):
        entry.major, entry.minor = number(major, "device"), number(minor, "device")
    if entry.size < 0:
        wrong("has a negative size", name)
    return entry


def pax(data: bytes) -> tuple[dict[bytes, bytes], list[tuple[int, int]]]:
    """PAX records, `%d %s=%s\\n` each, and the sparse map of version 0.0, whose keys repeat. Raises InvalidInput."""
    records: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        digits, blank, _ = data[at : at + 20].partition(b" ")
        size = numbers([digits])[0] if blank else 0
        record = data[at + len(digits) + 1 : at + size]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or not key or record[-1:] != b"\n" or at + size > len(data):
            wrong("a malformed PAX record")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pieces.append(value)
        records[key] = value
        at += size
    values = numbers(pieces)
    return records, list(zip(values[::2], values[1::2], strict=False))


def extend(entry: Entry, records: dict[bytes, bytes]) -> None:
    """Let PAX records win over the header; an empty value is none."""
    for key, value in records.items():
        if key.startswith(b"SCHILY.xattr."):
            entry.xattrs[_attribute(key[13:], entry)] = value
        elif key.startswith(b"LIBARCHIVE.xattr.") and b"SCHILY.xattr." + key[17:] not in records:
            _libarchive(entry, key[17:], value)
        elif not value:
            continue
        elif key in (b"path", b"linkpath"):
            if b"\0" in value:
                wrong("a name holds a zero byte")
            setattr(entry, "name" if key == b"path" else "link", value)
        elif key in (b"uid", b"gid", b"size"):
            setattr(entry, key.decode(), numbers([value])[0])
        elif key == b"mtime":
            entry.mtime = decimal_ns(value)


def _attribute(key: bytes, entry: Entry) -> bytes:
    """The name of an extended attribute, as the kernel takes it: xattr(7)."""
    if not 0 < len(key) <= 255 or b"\0" in key:
        wrong("a malformed extended attribute", entry.name)
    return key


def _libarchive(entry: Entry, key: bytes, value: bytes) -> None:
    from binascii import Error, a2b_base64
    from urllib.parse import unquote_to_bytes

    try:
        entry.xattrs[_attribute(unquote_to_bytes(key), entry)] = a2b_base64(value + b"=" * (-len(value) % 4))
    except Error:
        wrong("a malformed extended attribute", entry.name)


def wrong(problem: str, name: bytes = b"") -> NoReturn:
    """Raise InvalidInput for a malformed archive."""
    where = f"tar: {name.decode(errors='backslashreplace')}" if name else "tar"
    raise InvalidInput(problem, where=where)

"""The index on the disk: https://docs.kernel.org/filesystems/erofs.html and the kernel's fs/erofs/erofs_fs.h.

    0      nothing
    1024   the superblock, and the one extra device: the tar
    2048   blocks of files whose content is not in the tar as it is (copied up, or sparse in odd places)
    meta   inodes, the root's first, each followed by its attributes and by where its content is, or by its
           target or its directory if that is less than a block; then the larger directories and targets

Blocks have 512 bytes, as a tar's, so content is where the tar has it.
"""

from __future__ import annotations

import os
from stat import S_IFMT, S_ISDIR, S_ISLNK
from struct import Struct

from veloci.layer.erofs.tree import INDEX, TAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.layer.erofs.tree import Node, Tree

BLOCK, BITS = 512, 9
MAGIC = 0xE0F5E1E2
CHECKSUM, MTIME = 1, 2  # feature_compat
CHUNKED, DEVICES = 4, 8  # feature_incompat
PLAIN, INLINE, CHUNKS = 0, 2, 4  # i_format's layouts, before they are shifted
INDEXES = 0x20  # a chunk's place is 8 bytes, with its device
HOLE = 2**32 - 1
FARTHEST = BITS + 31  # bits of the largest chunk
START = 2048  # the first byte after the superblock and the device
SLOT = 32  # an inode's number is its place in units of so many bytes

_SUPER = Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")
_DEVICE = Struct("<64sI60x")
_INODE = Struct("<HHHHQIIIIqIIQQ")
_CHUNK = Struct("<HHI")
_ENTRY = Struct("<QHBB")
_ATTRIBUTE = Struct("<BBH")
_KINDS = {0o100000: 1, 0o040000: 2, 0o020000: 3, 0o060000: 4, 0o010000: 5, 0o140000: 6, 0o120000: 7}
# Name prefixes by number; the names of access lists stand for themselves.
_PREFIXES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)


class Index:
    """An index being written to the open, empty file `file`, of the tar in the open file `tar`."""

    def __init__(self, file: int, tar: int) -> None:
        self._file, self._tar = file, tar
        self._end = START  # of the copied content

    def copy(self, source: int) -> int:
        """Take the content of an open file; returns at which byte it stands. Raises OSError."""
        at = self._end
        while chunk := os.pread(source, 1 << 20, self._end - at):
            self._put(chunk)
        self._end += -self._end % BLOCK
        return at

    def _put(self, data: bytes | bytearray) -> None:
        written = 0
        while written < len(data):
            written += os.pwrite(self._file, data[written:], self._end + written)
        self._end += len(data)

    def finish(self, tree: Tree, identity: bytes) -> None:
        """Write the tree. identity: 16 bytes that no other layer has. Raises OSError."""
        places = {id(node): self._pieces(node) for node in tree.nodes() if node.sparse is not None}
        start = self._end
        meta = _Meta(tree, places, start).written()
        for at in range(0, len(meta), 1 << 24):
            self._put(meta[at : at + (1 << 24)])
        total, size = self._end >> BITS, os.fstat(self._tar).st_size
        os.pwrite(self._file, superblock(total, size >> BITS, start >> BITS, tree.root.number, identity), 1024)

    def _pieces(self, node: Node) -> tuple[int, list[tuple[int, int]]]:
        """A sparse file's chunks: how many bits large, and (device, block) of each.

        As large as the pieces' places allow, since the tar has each piece right after the one before.
        """
        pieces = [piece for piece in node.sparse or () if piece[1]]
        bits, last = min(max(node.size - 1, BLOCK).bit_length(), FARTHEST), len(pieces) - 1
        stored = node.at
        for at, (offset, length) in enumerate(pieces):
            bits = min(bits, _aligned(offset) if offset else bits)
            if at < last or offset + length != node.size:
                bits = min(bits, _aligned(length))
            stored += length
        if bits < BITS:
            return self._rewritten(node, pieces)
        chunks = [(INDEX, HOLE)] * -(-node.size >> bits)
        stored = node.at
        for offset, length in pieces:
            for within in range(0, length, 1 << bits):
                chunks[(offset + within) >> bits] = (TAR, (stored + within) >> BITS)
            stored += length
        return bits, chunks

    def _rewritten(self, node: Node, pieces: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
        """A sparse file whose pieces are not in whole blocks: its blocks that are no holes, in the index."""
        chunks = [(INDEX, HOLE)] * -(-node.size // BLOCK)
        stored = node.at
        for offset, length in pieces:
            done = 0
            while done < length:
                block, within = divmod(offset + done, BLOCK)
                if chunks[block][1] == HOLE:
                    chunks[block] = (INDEX, self._end >> BITS)
                    self._put(bytes(BLOCK))
                size = min(length - done, BLOCK - within)
                part = os.pread(self._tar, size, stored + done)
                os.pwrite(self._file, part, (chunks[block][1] << BITS) + within)
                done += size
            stored += length
        return BITS, chunks


def _aligned(number: int) -> int:
    """The bits at a number's end that are zero."""
    return (number & -number).bit_length() - 1


class _Meta:
    """Inodes and directories: first every one's place, then their bytes."""

    def __init__(self, tree: Tree, places: dict[int, tuple[int, list[tuple[int, int]]]], start: int) -> None:
        self._root, self._places, self._start = tree.root, places, start
        self._inodes: list[Node] = []
        self._blocks: dict[int, int] = {}  # id of a node -> the block of its directory or target
        self._names: dict[int, list[bytes]] = {}  # id of a directory -> its names, sorted
        self._end = SLOT  # no inode has the number 0

    def written(self) -> bytearray:
        """The bytes."""
        self._place(self._root, self._root)
        large = [(node, size) for node in self._inodes if (size := self._size(node)) >= BLOCK]
        self._end += -self._end % BLOCK
        for node, size in large:
            self._blocks[id(node)] = (self._start + self._end) >> BITS
            self._end += size + -size % BLOCK
        out = bytearray(self._end)
        for node, parent in self._parents:
            self._write(out, node, parent)
        return out

    def _place(self, root: Node, parent: Node) -> None:
        """Give every inode its number; those of a directory stand together."""
        self._parents: list[tuple[Node, Node]] = []
        queue = [(root, parent)]
        at = 0
        while at < len(queue):
            node, parent = queue[at]
            at += 1
            node.links += 1
            if node.number >= 0:
                continue
            self._inodes.append(node)
            self._parents.append((node, parent))
            if node.is_directory:
                names = self._names[id(node)] = sorted((b".", b"..", *node.children))
                node.size = _directory_size(names)
                node.links = 2
                parent.links += node is not parent
                queue += [(node.children[name], node) for name in names if name not in (b".", b"..")]
            self._number(node)

    def _number(self, node: Node) -> None:
        at = self._end + -self._end % SLOT
        size = _INODE.size + _attributes_size(node)
        inline = self._size(node)
        if node.is_file and node.size:
            sparse = self._places.get(id(node))
            size += -size % 8 + 8 * (len(sparse[1]) if sparse else -(-node.size >> FARTHEST))
        elif 0 < inline < BLOCK:
            while (at + size) // BLOCK != (at + size + inline - 1) // BLOCK:
                at += SLOT  # what stands in the inode must not cross into the next block
            size += inline
        node.number = at // SLOT
        self._end = at + size

    @staticmethod
    def _size(node: Node) -> int:
        """Bytes of a directory or a symlink's target; 0 for anything else."""
        return node.size if S_ISDIR(node.mode) or S_ISLNK(node.mode) else 0

    def _chunks(self, node: Node) -> tuple[int, list[tuple[int, int]]]:
        """How many bits large a file's chunks are, and (device, block) of each."""
        found = self._places.get(id(node))
        if found is None:
            bits = min(max(node.size - 1, BLOCK - 1).bit_length(), FARTHEST)
            found = bits, [(node.place, (node.at + at) >> BITS) for at in range(0, node.size, 1 << bits)]
        return found

    def _write(self, out: bytearray, node: Node, parent: Node) -> None:
        at = node.number * SLOT
        attributes = b""
        if node.xattrs:
            attributes = b"".join(_attribute(key, value) for key, value in node.xattrs.items())
        count = 1 + len(attributes) // 4 if attributes else 0
        layout, about, tail = PLAIN, 0, b""
        if node.is_file:
            if node.size:
                bits, chunks = self._chunks(node)
                layout, about = CHUNKS, bits - BITS | INDEXES
                tail = b"".join(_CHUNK.pack(0, device, block) for device, block in chunks)
        elif size := self._size(node):
            data = node.target or b"".join(self._directory(node, parent))
            if size < BLOCK:
                layout, tail = INLINE, data
            else:
                about = self._blocks[id(node)]
                out[(about << BITS) - self._start : (about << BITS) - self._start + size] = data
        else:
            about = _device(node.device)
        seconds, nanoseconds = divmod(node.mtime, 1_000_000_000)
        packed = (1 | layout << 1, count, node.mode, 0, node.size, about, node.number & 0xFFFFFFFF, node.uid, node.gid)
        _INODE.pack_into(out, at, *packed, seconds, nanoseconds, node.links, 0, 0)
        at += _INODE.size
        if attributes:
            out[at + 12 : at + 12 + len(attributes)] = attributes
            at += 12 + len(attributes)
        if layout == CHUNKS:
            at += -at % 8
        out[at : at + len(tail)] = tail

    def _directory(self, node: Node, parent: Node) -> Iterator[bytes]:
        """The blocks of a directory, the last as short as it is."""
        special = {b".": node, b"..": parent}
        pending = b""
        for names in _blocks(self._names[id(node)]):
            yield pending + bytes(-len(pending) % BLOCK)
            heads, offset = [], _ENTRY.size * len(names)
            for name in names:
                child = special.get(name) or node.children[name]
                heads.append(_ENTRY.pack(child.number, offset, _KINDS[S_IFMT(child.mode)], 0))
                offset += len(name)
            pending = b"".join((*heads, *names))
        yield pending


def _blocks(names: list[bytes]) -> Iterator[list[bytes]]:
    """The names that stand in each of a directory's blocks."""
    here: list[bytes] = []
    size = 0
    for name in names:
        size += _ENTRY.size + len(name)
        if size > BLOCK:
            yield here
            here, size = [], _ENTRY.size + len(name)
        here.append(name)
    yield here


def _directory_size(names: list[bytes]) -> int:
    size = full = 0
    for name in names:
        need = _ENTRY.size + len(name)
        if size + need > BLOCK:
            full, size = full + BLOCK, 0
        size += need
    return full + size


def _attributes_size(node: Node) -> int:
    if not node.xattrs:
        return 0
    return 12 + sum(len(_attribute(key, value)) for key, value in node.xattrs.items())


def _attribute(key: bytes, value: bytes) -> bytes:
    prefix, number = next(found for found in _PREFIXES if key.startswith(found[0]))
    name = key[len(prefix) :]
    data = _ATTRIBUTE.pack(len(name), number, len(value)) + name + value
    return data + bytes(-len(data) % 4)


def _device(number: int) -> int:
    """As the kernel's new_encode_dev."""
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def superblock(blocks: int, tar_blocks: int, meta: int, root: int, identity: bytes) -> bytes:
    """The superblock with its checksum and the device. blocks: of the index. meta: the first of the inodes."""
    features = (CHECKSUM | MTIME, BITS, 0, root, 0, 0, 0, blocks, meta, 0, identity, b"", CHUNKED | DEVICES)
    start = (1024 + _SUPER.size) // _DEVICE.size
    device = _DEVICE.pack(b"", tar_blocks)
    body = _SUPER.pack(MAGIC, 0, *features, 0, 1, start, 0, 0, 0, 0) + device
    return body[:4] + crc32c(body + bytes(BLOCK - len(body))).to_bytes(4, "little") + body[8:]


def crc32c(data: bytes) -> int:
    """The checksum of the superblock's block: Castagnoli's polynomial, not inverted at the end."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc

"""A tree held against the layer from which it was made: what is not as the layer says."""

from __future__ import annotations

import os
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IMODE

from veloci.kernel.files import open_in_root
from veloci.layer.directories import components
from veloci.layer.tar import Reader
from veloci.layer.whiteout import META, PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from veloci.layer.tar import Entry

_KINDS = {b"0": S_IFREG, b"2": S_IFLNK, b"3": S_IFCHR, b"4": S_IFBLK, b"5": S_IFDIR, b"6": S_IFIFO}
CHUNK = 1 << 20  # bytes


def differences(tar: Iterable[bytes], root: int) -> dict[bytes, str]:
    """What differs below `root`, a directory in overlayfs's form, from the uncompressed `tar`: by path, in words.

    Compared are kinds, contents, link targets, modes and, for root, owners. A path whose directory the layer does not
    list is passed over where that directory is not there: the files are where a symlink of a lower layer points. Of a
    layer that writes through its own symlinks nothing is told: what comes where only unpacking shows.
    Raises InvalidInput for a tar that is none.
    """
    reader = Reader(tar)
    kinds: dict[bytes, bytes] = {}
    found: dict[bytes, str] = {}
    gone: list[bytes] = []
    above: set[bytes] = set()  # directories in which something is
    links: set[bytes] = set()
    for entry in reader:
        path = components(entry.name)
        head, _, name = path.rpartition(b"/")
        if name.startswith(PREFIX):
            above.update(_above(path))
            if not name.startswith(META):
                gone.append((head + b"/" if head else b"") + name[len(PREFIX) :])
            continue
        if entry.kind == b"2":
            links.add(path)
        if entry.kind != b"5" and path in above:  # what was below it goes
            for below in [each for each in (*kinds, *gone) if each.startswith(path + b"/")]:
                kinds.pop(below, None)
                found.pop(below, None)
            gone = [each for each in gone if not each.startswith(path + b"/")]
        above.update(_above(path))
        found.pop(path, None)  # of two entries the last counts
        kinds[path] = entry.kind
        problem = _problem(reader, entry, root, path)
        if problem:
            found[path] = problem
    for path in gone:
        if path not in kinds and _status(root, path) is None:
            found[path] = "is not marked as removed"
    if links & above:
        return {}
    return {path: problem for path, problem in found.items() if _counts(path, kinds, above, root)}


def _counts(path: bytes, kinds: dict[bytes, bytes], above: set[bytes], root: int) -> bool:
    """Whether the tar says for certain what is at `path`."""
    if path in above and kinds.get(path) != b"5":
        return False  # something that was written below it took its place
    for at in _above(path):
        if kinds.get(at, b"5") != b"5":
            return False
        if at not in kinds:
            status = _status(root, at)
            if status is None or S_IFMT(status.st_mode) != S_IFDIR:
                return False
    return True


def _above(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts))]


def _status(root: int, path: bytes) -> os.stat_result | None:
    try:
        file = open_in_root(root, os.fsdecode(path) or ".", os.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError, OSError):
        return None
    try:
        return os.fstat(file)
    finally:
        os.close(file)


def _problem(reader: Reader, entry: Entry, root: int, path: bytes) -> str:
    status = _status(root, path)
    if status is None:
        return "is not there"
    if entry.kind == b"1":
        return ""  # another name of what is compared under its own
    if S_IFMT(status.st_mode) != _KINDS[entry.kind]:
        return "" if os.geteuid() and entry.kind in (b"3", b"4") else "is of another kind"  # who is not root makes none
    if entry.kind == b"2":
        file = open_in_root(root, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW)
        try:
            return "" if os.readlink(b"", dir_fd=file) == entry.link else "points elsewhere"
        finally:
            os.close(file)
    if entry.kind == b"0" and status.st_size != entry.size:
        return f"has {status.st_size} bytes, not {entry.size}"
    if os.geteuid() == 0:
        if S_IMODE(status.st_mode) != entry.mode & 0o7777:
            return f"has the mode {S_IMODE(status.st_mode):04o}, not {entry.mode & 0o7777:04o}"
        if (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
            return f"belongs to {status.st_uid}:{status.st_gid}, not to {entry.uid}:{entry.gid}"
    return "has other content" if entry.kind == b"0" and not _same(reader, entry, root, path) else ""


def _same(reader: Reader, entry: Entry, root: int, path: bytes) -> bool:
    """Whether the file has the bytes that the tar has, and nothing in the holes."""
    file = open_in_root(root, os.fsdecode(path), os.O_RDONLY | os.O_NOFOLLOW)
    try:
        pieces = entry.sparse if entry.sparse is not None else [(0, entry.size)]
        ranges = [(start, length) for start, length in pieces if length]
        at, left = ranges.pop(0) if ranges else (0, 0)
        for body in reader.body():
            piece = body
            while piece:
                while not left and ranges:
                    at, left = ranges.pop(0)
                size = min(len(piece), left)
                if not size or os.pread(file, size, at) != piece[:size]:
                    return False
                at, left, piece = at + size, left - size, piece[size:]
        return True
    finally:
        os.close(file)

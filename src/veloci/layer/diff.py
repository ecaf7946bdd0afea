"""A tree to a layer's tar: what was written above others, or all of it; sorted and reproducible.

Entries are in byte order, parents before children. Times are whole seconds, as docker's. Sockets
are left out, and of hard links the first name is the file.
"""

from __future__ import annotations

import os
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISLNK, S_ISREG, S_ISSOCK

from veloci.layer.owners import NOBODY, ROOTLESS, read_note, usual
from veloci.layer.whiteout import OPAQUE, OURS, PREFIX, is_opaque, is_whiteout
from veloci.layer.write import END, header, padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from veloci.layer.owners import Owners

CHUNK = 1 << 20  # bytes
LABELS = (*OURS, b"security.selinux")  # attributes that belong to the host
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def diff(
    upper: int,
    lower: int | None,
    *,
    epoch: int | None = None,
    owners: Owners | None = None,
    mount_points: Collection[bytes] = (),
) -> Iterator[bytes]:
    """What an overlay's upper directory says beyond the merged directory `lower`, as an uncompressed tar.

    upper, lower: descriptors of directories. A whiteout is written only for what `lower` has; what
    was copied up but is as below is left out; a directory's own time alone is no change.
    epoch: the latest modification time (s since 1970) an entry may have; later ones are set to it.
    owners: whose the image says that the files are (None: `owners.usual`). mount_points: paths that are
    left out where they are new and empty.
    """
    walk = Walk(epoch, owners)
    walk.mount_points = mount_points
    yield from chunked(walk.changed(upper, lower))


def tree(root: int, *, epoch: int | None = None, owners: Owners | None = None) -> Iterator[bytes]:
    """All below directory `root`, a descriptor, as an uncompressed tar; the root itself if it is not plain."""
    yield from chunked(Walk(epoch, owners).changed(root, None, whole=True))


class Status:
    """What a file is, beside its content."""

    def __init__(self, parent: int, name: bytes) -> None:
        self.stat = os.lstat(name, dir_fd=parent)
        self.link = os.readlink(name, dir_fd=parent) if S_ISLNK(self.stat.st_mode) else b""
        xattrs = _attributes(b"/proc/self/fd/%d/%s" % (parent, name))
        self.xattrs = [(key, value) for key, value in xattrs if key != ROOTLESS]
        self.note = next((read_note(value) for key, value in xattrs if key == ROOTLESS), None)

    def same(self, other: Status) -> bool:
        """Whether owner, mode, kind, attributes and, but for a directory, time and size are the same."""
        one, two = self.stat, other.stat
        if (one.st_mode, one.st_uid, one.st_gid) != (
            two.st_mode,
            two.st_uid,
            two.st_gid,
        ) or (self.xattrs, self.note) != (other.xattrs, other.note):
            return False
        if S_ISDIR(one.st_mode):
            return True
        return (one.st_mtime_ns, one.st_size, one.st_rdev, self.link) == (
            two.st_mtime_ns,
            two.st_size,
            two.st_rdev,
            other.link,
        )


class Walk:
    """One walk over a tree, beside the one below it."""

    def __init__(self, epoch: int | None, owners: Owners | None = None) -> None:
        self._epoch, self._owners = epoch, owners or usual()
        self.mount_points: Collection[bytes] = ()  # left out where they are new and empty
        self._links: dict[tuple[int, int], bytes] = {}  # device and inode of a file of several names -> its first
        self._above: list[tuple[bytes, Status]] = []  # directories entered whose entry is not written yet

    def changed(self, upper: int, lower: int | None, *, whole: bool = False) -> Iterator[bytes]:
        """The tar's bytes, in pieces."""
        here = Status(upper, b".")
        odd = (here.stat.st_mode & 0o7777, here.stat.st_uid, here.stat.st_gid) != (0o755, 0, 0) or here.xattrs
        if odd if whole or lower is None else not here.same(Status(lower, b".")):
            yield self._header(b"./", b"5", here)
        yield from self.inside(b"", upper, lower)
        yield END

    def inside(self, path: bytes, upper: int, lower: int | None) -> Iterator[bytes]:
        """The entries below a directory whose path, with a slash at its end, is `path`."""
        for name in sorted(map(os.fsencode, os.listdir(upper))):
            try:
                status = Status(upper, name)
            except FileNotFoundError:
                continue  # a running container removed it
            mode = status.stat.st_mode
            below = status_below(lower, name)
            if not below and path + name in self.mount_points and self._bare(path + name, name, upper, status):
                continue
            if is_whiteout(status.stat):
                if below:
                    yield from self.parents()
                    yield whiteout(path + name)
            elif S_ISDIR(mode):
                yield from self.enter(path + name + b"/", name, upper, lower, status, below)
            elif S_ISSOCK(mode):
                continue
            elif not (below and status.stat.st_nlink == 1 and status.same(below) and equal(upper, lower, name, mode)):
                # a file of several names was linked here: one of them at least is new
                yield from self.parents()
                yield from self.file(path + name, name, upper, status)

    def _bare(self, path: bytes, name: bytes, parent: int, status: Status) -> bool:
        """Whether it is a mount point and nothing else: an empty file, a directory of mount points."""
        if not S_ISDIR(status.stat.st_mode):
            return not status.stat.st_size
        inner = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            below = map(os.fsencode, os.listdir(inner))
            paths = {each: path + b"/" + each for each in below}
            return all(
                place in self.mount_points and self._bare(place, each, inner, Status(inner, each))
                for each, place in paths.items()
            )
        finally:
            os.close(inner)

    def enter(
        self, path: bytes, name: bytes, upper: int, lower: int | None, status: Status, below: Status | None
    ) -> Iterator[bytes]:
        """The entry of a directory, if it changed, and those below it."""
        inner = os.open(name, _DIRECTORY, dir_fd=upper)
        outer = None
        try:
            if lower is not None and below and S_ISDIR(below.stat.st_mode):
                outer = os.open(name, _DIRECTORY, dir_fd=lower)
            self._above.append((path, status))
            if outer is None or below is None or not status.same(below):
                yield from self.parents()
            if outer is not None and is_opaque(inner):
                if os.listdir(outer):
                    yield from self.parents()
                    yield header(path + OPAQUE, b"0", mode=0, mtime=0)
                os.close(outer)
                outer = None
            yield from self.inside(path, inner, outer)
            if self._above and self._above[-1][0] == path:
                self._above.pop()
        finally:
            os.close(inner)
            if outer is not None:
                os.close(outer)

    def parents(self) -> Iterator[bytes]:
        """The directories that lead here, unless they are written already."""
        for path, status in self._above:
            yield self._header(path, b"5", status)
        self._above.clear()

    def file(self, path: bytes, name: bytes, parent: int, status: Status) -> Iterator[bytes]:
        """The entry of what is no directory: `name` in the directory `parent`, `path` in the tar."""
        stat = status.stat
        if stat.st_nlink > 1:
            first = self._links.setdefault((stat.st_dev, stat.st_ino), path)
            if first != path:
                yield self._header(path, b"1", status, link=first)
                return
        if S_ISREG(stat.st_mode):
            yield self._header(path, b"0", status, size=stat.st_size)
            yield from _content(parent, name, stat.st_size)
        elif S_ISLNK(stat.st_mode):
            yield self._header(path, b"2", status, link=status.link)
        elif S_ISFIFO(stat.st_mode):
            yield self._header(path, b"6", status)
        elif S_ISCHR(stat.st_mode) or S_ISBLK(stat.st_mode):
            kind = b"3" if S_ISCHR(stat.st_mode) else b"4"
            yield self._header(path, kind, status, device=(os.major(stat.st_rdev), os.minor(stat.st_rdev)))

    def directory(self, path: bytes, status: Status) -> bytes:
        """The entry of a directory, whose path ends with a slash."""
        return self._header(path, b"5", status)

    def _header(
        self,
        path: bytes,
        kind: bytes,
        status: Status,
        *,
        size: int = 0,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
    ) -> bytes:
        stat = status.stat
        uid, gid = self._owner(status)
        mtime = stat.st_mtime_ns // 1_000_000_000
        return header(
            path,
            kind,
            mode=0o777 if kind == b"2" else stat.st_mode & 0o7777,
            uid=uid,
            gid=gid,
            size=size,
            mtime=mtime if self._epoch is None else min(mtime, self._epoch),
            link=link,
            device=device,
            xattrs=() if kind == b"1" else status.xattrs,
        )

    def _owner(self, status: Status) -> tuple[int, int]:
        """Whose the image says that a file is."""
        uid, gid = status.stat.st_uid, status.stat.st_gid
        if not self._owners.rootless:
            return self._owners.image(uid, gid)
        noted = status.note or (0, 0)
        return (0 if noted[0] == NOBODY else noted[0]), (0 if noted[1] == NOBODY else noted[1])


def whiteout(path: bytes) -> bytes:
    """The entry that removes `path`."""
    head, slash, name = path.rpartition(b"/")
    return header(head + slash + PREFIX + name, b"0", mode=0, mtime=0)


def status_below(lower: int | None, name: bytes) -> Status | None:
    """What `name` is in the directory `lower`; None if it is not there."""
    if lower is None:
        return None
    try:
        return Status(lower, name)
    except FileNotFoundError:
        return None


def _attributes(path: bytes) -> list[tuple[bytes, bytes]]:
    """The extended attributes that a layer carries, sorted."""
    try:
        keys = sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False)))
        return [(key, os.getxattr(path, key, follow_symlinks=False)) for key in keys if not key.startswith(LABELS)]
    except OSError:
        return []  # a filesystem without them, or a file that is gone


def equal(upper: int, lower: int | None, name: bytes, mode: int) -> bool:
    """Whether two files of the same size and time hold the same bytes."""
    if lower is None or not S_ISREG(mode):
        return True
    one = os.open(name, _FILE, dir_fd=upper)
    try:
        two = os.open(name, _FILE, dir_fd=lower)
        try:
            while (piece := os.read(one, CHUNK)) == os.read(two, CHUNK):
                if not piece:
                    return True
            return False
        finally:
            os.close(two)
    finally:
        os.close(one)


def _content(parent: int, name: bytes, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of a file, and the padding: one that is being written may be shorter by now, or longer."""
    file = os.open(name, _FILE, dir_fd=parent)
    try:
        left = size
        while left and (piece := os.read(file, min(CHUNK, left))):
            left -= len(piece)
            yield piece
        while left:
            yield bytes(min(CHUNK, left))
            left -= min(CHUNK, left)
    finally:
        os.close(file)
    yield padding(size)


def chunked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces joined to chunks of about a quarter of a megabyte: hashing and compressing go by the chunk."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK // 4:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    yield b"".join(waiting)

"""COPY and ADD: files of a tree into a root file system, both known by descriptors.

https://docs.docker.com/reference/dockerfile/#copy

The destination is looked up by the kernel within the root. Directories that are there keep owner
and mode; those made on the way are 0755. The copied top directory gives its content, not its mode.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from posixpath import basename, dirname, normpath
from typing import TYPE_CHECKING

from veloci.build.context import capability, held
from veloci.errors import InvalidInput, VelociError
from veloci.kernel.files import make_directory_in_root, open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from veloci.build.context import Entry, Tree
    from veloci.build.ignore import Ignore

_BLOCK = 8 << 20  # bytes
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """Where files go.

    root: a descriptor of the root file system. owner: uid and gid of all that is copied and made;
    None keeps those of the source, and what is made belongs to root. mode: --chmod's function of mode and
    whether it is a directory; None keeps.
    """

    def __init__(
        self, root: int, *, owner: tuple[int, int] | None = None, mode: Callable[[int, bool], int] | None = None
    ) -> None:
        self.root, self.owner, self.mode = root, owner, mode
        self._links: dict[tuple[int, int], str] = {}  # source's inode -> the path of its first copy

    def is_directory(self, path: str) -> bool:
        """Whether `path` is a directory in the root, or a symlink to one."""
        try:
            os.close(open_in_root(self.root, path, _DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def directory(self, path: str) -> int:
        """A descriptor of the directory `path`, made with all above it where missing (0755).

        Raises InvalidInput when something else is in the way.
        """
        here = open_in_root(self.root, "/", _DIRECTORY)
        done = "/"
        for name in filter(None, normpath(path).split("/")):
            done = f"{done.rstrip('/')}/{name}"
            with held(here):
                here = self._entered(here, name, done)
        return here

    def _entered(self, parent: int, name: str, path: str) -> int:
        try:
            return open_in_root(self.root, path, _DIRECTORY)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            raise InvalidInput(f"{path} in the image is not a directory") from None
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:  # a symlink: what it names is made
            with held(make_directory_in_root(self.root, path)):
                return open_in_root(self.root, path, _DIRECTORY)
        made = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        os.fchown(made, *(self.owner or (0, 0)))
        os.fchmod(made, 0o755)
        return made

    def copy(self, tree: Tree, path: str, destination: str, *, into: bool, exclude: Ignore | None = None) -> None:
        """Copy `path` of `tree`, and all below it.

        into: `destination` is a directory for a file to come into. A directory's content comes into it anyway.
        Raises NotFound, InvalidInput, OSError.
        """
        with _Walk(self) as walk:
            for entry in tree.walk(path, exclude):
                if entry.path:
                    walk.add(entry)
                elif entry.kind == stat.S_IFDIR:
                    walk.enter(destination, self.directory(destination))
                else:
                    inside = into or self.is_directory(destination)
                    place = f"{destination}/{basename(normpath(path))}" if inside else destination
                    place = self._followed(normpath(place))
                    walk.enter(dirname(place), self.directory(dirname(place)))
                    walk.put(entry, basename(place))

    def _followed(self, path: str) -> str:
        """`path`, or what it points at if it is a symlink in the root to a file that is there."""
        with suppress(OSError), held(open_in_root(self.root, path, os.O_PATH)) as found:
            prefix = os.readlink(f"/proc/self/fd/{self.root}").rstrip("/")
            return os.readlink(f"/proc/self/fd/{found}").removeprefix(prefix)
        return path

    def write(self, entry: Entry, parent: int, name: str, path: str) -> None:
        """Make a copy of one entry that is no directory, in place of what is there. path: it, from the root."""
        with suppress(FileNotFoundError):
            try:
                os.unlink(name, dir_fd=parent)
            except IsADirectoryError:
                raise InvalidInput(f"{path} in the image is a directory, the source is none") from None
        status = entry.status
        if self._linked(entry, parent, name, path):
            return
        if entry.kind == stat.S_IFREG:
            self._file(entry, parent, name)
            return
        if entry.kind == stat.S_IFLNK:
            os.symlink(entry.link(), name, dir_fd=parent)
        elif entry.kind == stat.S_IFSOCK:
            return  # a socket is its server's
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=parent)
            os.chmod(name, self.mode_of(entry), dir_fd=parent)
        os.chown(name, *self.owner_of(entry), dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _linked(self, entry: Entry, parent: int, name: str, path: str) -> bool:
        status = entry.status
        if status.st_nlink < 2:
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        with held(open_in_root(self.root, dirname(first), _DIRECTORY)) as directory:
            os.link(basename(first), name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        return True

    def _file(self, entry: Entry, parent: int, name: str) -> None:
        with held(entry.open()) as source, held(os.open(name, _NEW, 0o600, dir_fd=parent)) as copy:
            while os.sendfile(copy, source, None, _BLOCK):
                pass
            os.fchown(copy, *self.owner_of(entry))
            os.fchmod(copy, self.mode_of(entry))
            if value := capability(source):
                os.setxattr(copy, "security.capability", value)
            os.utime(copy, ns=(entry.status.st_atime_ns, entry.status.st_mtime_ns))

    def owner_of(self, entry: Entry) -> tuple[int, int]:
        """Who owns the copy."""
        return self.owner or (entry.status.st_uid, entry.status.st_gid)

    def mode_of(self, entry: Entry) -> int:
        """The copy's mode; setuid and setgid stay."""
        old = stat.S_IMODE(entry.status.st_mode)
        return self.mode(old, entry.kind == stat.S_IFDIR) if self.mode else old


class _Walk:
    """The directories that are open while a tree is copied, outermost first."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.base = ""  # the destination, from the root
        self.open: list[tuple[str, int, Entry | None]] = []  # relative path, descriptor, source if we made it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.open:
            self._leave()

    def enter(self, base: str, descriptor: int) -> None:
        """Start in the directory `base`."""
        self.base = base.rstrip("/")
        self.open.append(("", descriptor, None))

    def _leave(self) -> None:
        _path, descriptor, source = self.open.pop()
        if source is not None:  # what was made inside has changed the time
            os.utime(descriptor, ns=(source.status.st_atime_ns, source.status.st_mtime_ns))
        os.close(descriptor)

    def add(self, entry: Entry) -> None:
        """Copy an entry below the source, whose directory was added before."""
        while self.open[-1][0] != dirname(entry.path):
            self._leave()
        if entry.kind == stat.S_IFDIR:
            self._directory(entry)
        else:
            self.put(entry, entry.name)

    def put(self, entry: Entry, name: str) -> None:
        """Copy a file into the directory where the walk is."""
        inside, parent, _ = self.open[-1]
        self.target.write(entry, parent, name, "/".join(filter(None, (self.base, inside, name))) or "/")

    def _directory(self, entry: Entry) -> None:
        parent = self.open[-1][1]
        made = None
        try:
            os.mkdir(entry.name, 0o700, dir_fd=parent)
            made = entry
        except FileExistsError:
            pass
        try:
            descriptor = os.open(entry.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        except OSError:
            raise InvalidInput(f"cannot copy to non-directory: {self.base}/{entry.path}") from None
        self.open.append((entry.path, descriptor, made))
        if made:
            os.fchown(descriptor, *self.target.owner_of(entry))
            os.fchmod(descriptor, self.target.mode_of(entry))


def archive(tree: Tree, path: str) -> Callable[[], Iterator[bytes]] | None:
    """A function that gives the tar in a local file, uncompressed, if the file is one: ADD unpacks it."""
    from veloci.layer.stream import decompressed
    from veloci.layer.tar import Reader

    def chunks(entry: Entry) -> Iterator[bytes]:
        with held(entry.open()) as file:
            while block := os.read(file, 1 << 20):
                yield block

    def opened() -> Iterator[bytes]:
        for entry in tree.walk(path):
            yield from decompressed(chunks(entry))

    for entry in tree.walk(path):
        if entry.kind != stat.S_IFREG:
            return None
        try:
            if next(iter(Reader(opened())), None) is None:
                return None
        except VelociError:
            return None
        return opened
    return None

"""A tree that COPY, ADD and RUN --mount read: the build context, a stage's root, an image's root.

The tree is known by a descriptor. Every path is looked up by the kernel as if that directory
were `/`, so a symlink in a context or a stage leads nowhere else (CVE-2018-15664 and its kin).
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager
from posixpath import basename, dirname, normpath
from typing import TYPE_CHECKING

from veloci.build.ignore import Ignore, expression
from veloci.errors import HostError, NotFound
from veloci.kernel.files import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from veloci.spec.digest import Digest

_BLOCK = 1 << 20  # bytes
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_MAGIC = re.compile(r"[*?\[\\]")


class Entry:
    """One file below a source.

    path: relative to the source, "" for the source itself. parent: a descriptor of its directory,
    open as long as the walk has not gone on. status: of the file itself, symlinks not followed.
    """

    def __init__(self, path: str, parent: int, name: str) -> None:
        self.path, self.parent, self.name = path, parent, name
        self.status = os.lstat(name, dir_fd=parent)

    @property
    def kind(self) -> int:
        """What it is: the file type bits of its mode, as S_IFREG."""
        return stat.S_IFMT(self.status.st_mode)

    def open(self) -> int:
        """A descriptor to read it."""
        return os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.parent)

    def link(self) -> str:
        """Where a symlink points."""
        return os.readlink(self.name, dir_fd=self.parent)

    def capability(self) -> bytes:
        """The file capabilities, as the extended attribute has them; b"" without."""
        if self.kind != stat.S_IFREG:
            return b""
        with held(self.open()) as file:
            return capability(file)


@contextmanager
def held(descriptor: int) -> Iterator[int]:
    """The descriptor, closed at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def capability(file: int) -> bytes:
    """The security.capability attribute of an open file; b"" without."""
    try:
        return os.getxattr(file, "security.capability")
    except OSError:
        return b""


class Tree:
    """A directory to copy from.

    root: its descriptor, owned by this object. ignore: what is left out. name: for messages.
    owners: whether files keep their owner (a stage's do, the context's become root's). chain_id: of a stage's layers.
    """

    chain_id: Digest = ""

    def __init__(self, root: int, *, name: str, ignore: Ignore | None = None, owners: bool = False) -> None:
        self.root, self.name, self.ignore, self.owners = root, name, ignore or Ignore(), owners
        self._prefix = os.readlink(f"/proc/self/fd/{root}").rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the root go; a mount that only this descriptor held is gone with it."""
        os.close(self.root)

    def resolved(self, path: str) -> str:
        """`path` with every symlink in it followed, relative to the root; "" is the root itself.

        Raises NotFound, and says so when an ignore rule hides it.
        """
        clean = normpath("/" + path)
        try:
            descriptor = open_in_root(self.root, clean, os.O_PATH)
        except FileNotFoundError:
            raise NotFound(f"{path}: not in {self.name}") from None
        except OSError as error:
            raise HostError(f"look up {path} in {self.name}", error) from None
        with held(descriptor):
            found = os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(self._prefix).strip("/")
            directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rule = self.ignore.rule(found)
        if rule and not (directory and self.ignore.returns):
            raise NotFound(f"{path}: not in {self.name}: {rule} leaves it out")
        return found

    def is_directory(self, path: str) -> bool:
        """Whether `path` is a directory, or a symlink to one. Raises NotFound."""
        with held(open_in_root(self.root, "/" + self.resolved(path), os.O_PATH)) as found:
            return stat.S_ISDIR(os.fstat(found).st_mode)

    def matches(self, pattern: str) -> list[str]:
        """The paths that `pattern` names, sorted, as written; wildcards match within one path component.

        A pattern without a wildcard is itself, there or not; one that matches nothing gives nothing.
        """
        if not _MAGIC.search(pattern):
            return [pattern]
        found = [""]
        for part in normpath("/" + pattern).strip("/").split("/"):
            found = [match for base in found for match in self._below(base, part)]
        return sorted(path for path in found if not self._hidden(path))

    def _hidden(self, path: str) -> bool:
        try:
            self.resolved(path)
        except NotFound:
            return True
        return False

    def _below(self, base: str, part: str) -> Iterator[str]:
        if not _MAGIC.search(part):
            yield f"{base}/{part}".strip("/")
            return
        wanted = re.compile(expression(part, deep=False), re.DOTALL)
        try:
            descriptor = open_in_root(self.root, "/" + base, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        with held(descriptor):
            for name in os.listdir(descriptor):
                if wanted.fullmatch(name):
                    yield f"{base}/{name}".strip("/")

    def walk(self, path: str, exclude: Ignore | None = None) -> Iterator[Entry]:
        """`path`, symlinks followed, and all below it, in the order of names; what is ignored is left out.

        exclude: COPY's own patterns, relative to `path`. A directory comes before what is in it.
        """
        found = self.resolved(path)
        parent = open_in_root(self.root, "/" + dirname(found), os.O_RDONLY | os.O_DIRECTORY)
        with held(parent):
            entry = Entry("", parent, basename(found) or ".")
            yield entry
            if entry.kind == stat.S_IFDIR:
                yield from self._inside(entry, found, exclude or Ignore())

    def _inside(self, directory: Entry, base: str, exclude: Ignore) -> Iterator[Entry]:
        descriptor = os.open(directory.name, _DIRECTORY, dir_fd=directory.parent)
        with held(descriptor):
            for name in sorted(os.listdir(descriptor)):
                place = f"{base}/{name}".lstrip("/")
                path = f"{directory.path}/{name}".lstrip("/")
                out = self.ignore.rule(place) or exclude.rule(path)
                if out and not (self.ignore.returns or exclude.returns):
                    continue
                entry = Entry(path, descriptor, name)
                if entry.kind == stat.S_IFDIR:
                    inside = self._inside(entry, place, exclude)
                    if not out:
                        yield entry
                        yield from inside
                    elif (first := next(inside, None)) is not None:  # something in it came back
                        yield entry
                        yield first
                        yield from inside
                elif not out:
                    yield entry

    def digest(
        self, paths: Iterable[str], exclude: Ignore | None = None, told: Callable[[int], None] | None = None
    ) -> Digest:
        """What would be copied of `paths`, as one digest: names, modes, contents, links; never times.

        Owners count where they are kept. told: hears of the bytes that were read.
        """
        import hashlib

        total = hashlib.sha256()
        for path in paths:
            for entry in self.walk(path, exclude):
                name = entry.path or basename(normpath("/" + path))
                total.update(f"{name}\0{self._facts(entry, told)}\0".encode(errors="surrogateescape"))
        return "sha256:" + total.hexdigest()

    def _facts(self, entry: Entry, told: Callable[[int], None] | None) -> str:
        status = entry.status
        owner = f"{status.st_uid}:{status.st_gid}" if self.owners else ""
        if entry.kind == stat.S_IFLNK:
            return f"link {owner} {entry.link()}"
        if entry.kind == stat.S_IFREG:
            with held(entry.open()) as file:
                return f"{status.st_mode:o} {owner} {capability(file).hex()} {_content(file, told)}"
        return f"{status.st_mode:o} {owner} {status.st_rdev if entry.kind in (stat.S_IFBLK, stat.S_IFCHR) else ''}"


class LazyTree(Tree):
    """A tree that is mounted or made when it is first looked into: a cached COPY never does."""

    def __init__(self, mount: Callable[[], int], name: str, *, owners: bool) -> None:
        """mount: gives the root's descriptor."""
        self._mount = mount
        self._root = -1
        self.name, self.owners, self.ignore = name, owners, Ignore()
        self._known = ""

    @property
    def _prefix(self) -> str:  # type: ignore[override]
        """The root's path, as the kernel tells those below it: "" for a mount that is attached nowhere."""
        if not self._known:
            self._known = os.readlink(f"/proc/self/fd/{self.root}") + "/"
        return self._known.rstrip("/")

    @property
    def root(self) -> int:  # type: ignore[override]
        """The mount's descriptor."""
        if self._root < 0:
            self._root = self._mount()
        return self._root

    def close(self) -> None:
        """Unmount."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


def _content(file: int, told: Callable[[int], None] | None) -> str:
    import hashlib

    total = hashlib.sha256()
    while block := os.read(file, _BLOCK):
        total.update(block)
        if told:
            told(len(block))
    return total.hexdigest()

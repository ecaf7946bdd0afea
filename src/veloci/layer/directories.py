"""The directories of a tree being written: open ones kept at hand, missing ones made, times set last."""

from __future__ import annotations

import os
from errno import ELOOP, ENOENT, ENOTDIR
from stat import S_ISDIR, S_ISLNK

from veloci.errors import InvalidInput
from veloci.kernel.files import open_in_root
from veloci.layer.tree import remove_tree
from veloci.layer.whiteout import PREFIX, make_opaque

OPEN = 64  # directories kept open
_FLAGS = os.O_RDONLY | os.O_DIRECTORY
LINKS = 40  # symlinks followed in making missing directories


class Directory:
    """An open directory. careful: what is made in it may inherit an owner or an access list."""

    __slots__ = ("careful", "file")

    def __init__(self, file: int, *, careful: bool) -> None:
        self.file, self.careful = file, careful


class Directories:
    """Directories below `root` by their paths, as `components` gives them; b"" is the root."""

    def __init__(self, root: int, *, overlay: bool) -> None:
        self.root = Directory(os.dup(root), careful=True)
        self.implied: dict[bytes, None] = {b"": None} if overlay else {}
        self._overlay = overlay
        self._open: dict[bytes, Directory] = {}
        self._retired: list[Directory] = []  # no longer at hand, but perhaps in use for this entry
        self._times: dict[bytes, tuple[int, int]] = {}  # path -> modification time in ns, inode
        if not overlay:
            status = os.fstat(root)
            self._times[b""] = (status.st_mtime_ns, status.st_ino)

    def get(self, path: bytes) -> Directory:
        """The directory at `path`, made with those above it if it is missing; symlinks lead inside the root."""
        if not path:
            return self.root
        found = self._open.get(path)
        if found is None:
            try:
                found = self.find(path)
            except (FileNotFoundError, NotADirectoryError):
                found = self._make(path, LINKS)
        return found

    def find(self, path: bytes) -> Directory:
        """The directory at `path`. Raises FileNotFoundError, NotADirectoryError."""
        if not path:
            return self.root
        found = self._open.get(path)
        if found is None:
            if path.startswith(PREFIX) or b"/" + PREFIX in path:
                raise InvalidInput(f"{path.decode(errors='backslashreplace')} is below a whiteout's name", where="tar")
            found = Directory(open_in_root(self.root.file, os.fsdecode(path), _FLAGS), careful=True)
            if not self._overlay:
                status = os.fstat(found.file)
                self._times.setdefault(path, (status.st_mtime_ns, status.st_ino))
            self._keep(path, found)
        return found

    def within(self, path: bytes) -> Directory | None:
        """As `get`; None where this layer has a file in its place, which stays."""
        try:
            return self.find(path)
        except NotADirectoryError:
            return None
        except FileNotFoundError:
            return self.get(path)

    def entered(self, path: bytes, parent: Directory, name: bytes) -> Directory:
        """The directory `name` in `parent`, which is at `path`; no symlink."""
        found = self._open.get(path)
        if found is None:
            found = Directory(os.open(name, _FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.file), careful=False)
            self._keep(path, found)
        return found

    def seen(self, path: bytes, mtime: int) -> None:
        """Remember the time (ns) that the directory at `path`, which is open, shall have at the end."""
        file = self._open[path].file if path else self.root.file
        self._times[path] = (mtime, os.fstat(file).st_ino)

    def stands(self, path: bytes) -> bool:
        """Whether the directory that was made at `path` is still there: a later entry may have taken its place."""
        if not path:
            return True
        try:
            return os.fstat(self.find(path).file).st_ino == self._times[path][1]
        except (FileNotFoundError, NotADirectoryError):
            return False

    def forget(self, path: bytes) -> None:
        """What is at `path` goes: so do open directories below it, or below a symlink that it was."""
        self._retired += self._open.values()
        self._open.clear()
        self.implied.pop(path, None)

    def release(self) -> None:
        """Close what was forgotten; nobody uses a directory got before this."""
        for directory in self._retired:
            os.close(directory.file)
        self._retired.clear()

    def finish(self) -> None:
        """Set the times, but of directories that others have replaced."""
        for path, (mtime, inode) in self._times.items():
            try:
                file = open_in_root(self.root.file, os.fsdecode(path) or ".", _FLAGS)
            except OSError as error:
                if error.errno in (ENOENT, ENOTDIR, ELOOP):
                    continue
                raise
            if os.fstat(file).st_ino == inode:
                os.utime(file, ns=(mtime, mtime))
            os.close(file)

    def close(self) -> None:
        """Close what is open."""
        self.forget(b"\0")
        self.release()
        os.close(self.root.file)

    def _keep(self, path: bytes, directory: Directory) -> None:
        while len(self._open) >= OPEN:
            self._retired.append(self._open.pop(next(iter(self._open))))
        self._open[path] = directory

    def _make(self, path: bytes, links: int) -> Directory:
        """Make the directory at `path`: also where a symlink points to nothing yet, and in place of a file."""
        head, _, name = path.rpartition(b"/")
        parent = self.get(head)
        try:
            os.mkdir(name, 0o755, dir_fd=parent.file)
            hides = False
        except FileExistsError:
            status = os.lstat(name, dir_fd=parent.file)
            if S_ISLNK(status.st_mode):
                if not links:
                    raise InvalidInput(
                        "too many symlinks", where=f"tar: {path.decode(errors='backslashreplace')}"
                    ) from None
                target = os.readlink(name, dir_fd=parent.file)
                aim = components(target if target.startswith(b"/") else b"/".join((head, target)))
                if aim and aim not in self._open:
                    try:
                        self.find(aim)
                    except (FileNotFoundError, NotADirectoryError):
                        self._make(aim, links - 1)
                return self.find(path)
            if S_ISDIR(status.st_mode):
                return self.find(path)
            hides = self._overlay  # what this layer had here, or removed, took away what is below
            remove_tree(parent.file, name)
            os.mkdir(name, 0o755, dir_fd=parent.file)
        made = Directory(os.open(name, _FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.file), careful=False)
        os.fchmod(made.file, 0o755)
        if hides:
            make_opaque(made.file)
        self._times[path] = (0, os.fstat(made.file).st_ino)
        if self._overlay:
            self.implied[path] = None
        self._keep(path, made)
        return made


def components(name: bytes) -> bytes:
    """A name from an archive as a path below the root: no slash at its ends, no `.`, and `..` stops at the root."""
    if name.startswith(b"./"):
        name = name[2:]
    if b"/." not in name and b"//" not in name and not name.startswith(b"."):
        return name.strip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)

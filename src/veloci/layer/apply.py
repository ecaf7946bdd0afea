"""A layer's tar onto a directory: owners, modes, times, attributes, links, whiteouts; never outside it.

Every path is resolved by the kernel with the directory as its root, every file is made new
(O_EXCL), and what is changed by name was made by us a moment before. This is the hot loop: the
directories last used stay open, and a file costs about six system calls.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EEXIST, ENOTSUP, EPERM
from stat import S_IFBLK, S_IFCHR, S_IFIFO, S_ISDIR, S_ISLNK

from veloci.errors import HostError
from veloci.layer.directories import Directories, components
from veloci.layer.owners import ROOTLESS, noted, usual
from veloci.layer.tar import Reader, wrong
from veloci.layer.tree import remove_tree
from veloci.layer.whiteout import META, OPAQUE, OURS, PREFIX, is_whiteout, make_opaque, make_whiteout
from veloci.spec.digest import hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.layer.directories import Directory
    from veloci.layer.owners import Owners
    from veloci.layer.tar import Entry

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_NODES = {b"3": S_IFCHR, b"4": S_IFBLK, b"6": S_IFIFO}


def apply(
    chunks: Iterable[bytes],
    root: int,
    *,
    overlay: bool,
    owners: Owners | None = None,
    keep_links: bool = False,
    whiteouts: bool = True,
    hashes: dict[int, str] | None = None,
) -> int:
    """Apply an uncompressed tar to the directory `root`, a descriptor. Returns the number of entries.

    overlay: write overlayfs's whiteouts into a directory of this layer alone; else remove what the
    whiteouts name from the tree that is there. owners: whose files they become (None: `owners.usual`).
    keep_links: a directory's entry leaves a symlink to a directory as it is. whiteouts: False for a tar
    that is no layer, in which `.wh.a` is a file as any other. hashes: gets the sha256 in hex of the files
    written, but of sparse ones, by inode.
    Raises InvalidInput for a malformed or hostile tar,
    HostError when a system call fails.
    """
    layer = Application(root, overlay=overlay, owners=owners, keep_links=keep_links)
    layer.whiteouts = whiteouts
    layer.hashes = hashes
    try:
        layer.read(chunks)
        if layer.links:
            path, target = layer.links[0]
            wrong(f"is a hard link to {target.decode(errors='backslashreplace')}, which is not there", path)
        layer.finish()
    finally:
        layer.close()
    return layer.entries


class Application:
    """One layer being applied.

    After `read`: `implied` are the directories that the tar did not list but needed (overlay form),
    `links` the (path, target) of hard links whose target is not in this layer. Both want the layers
    below (layer.settle). `finish` sets the directories' times, last.
    """

    def __init__(self, root: int, *, overlay: bool, owners: Owners | None = None, keep_links: bool = False) -> None:
        self.root, self.overlay, self.keep_links = root, overlay, keep_links
        self.owners = owners or usual()
        self.entries = 0
        self.hashes: dict[int, str] | None = None
        self.whiteouts = True
        self.links: list[tuple[bytes, bytes]] = []
        self.directories = Directories(root, overlay=overlay)
        self._fresh: set[bytes] = set()  # plain form: what this layer made; its whiteouts spare it
        self._gives = not self.owners.rootless and (os.geteuid() == 0 or not self.owners.plain)
        self._user, self._group = (os.geteuid(), os.getegid()) if not self.owners.rootless else (-1, -1)

    @property
    def implied(self) -> dict[bytes, None]:
        """Directories made because something was in them, in the order of their making."""
        return self.directories.implied

    def close(self) -> None:
        """Close what is open."""
        self.directories.close()

    def finish(self) -> None:
        """Give the directories their times."""
        self.directories.finish()

    def read(self, chunks: Iterable[bytes]) -> None:
        """Apply every entry of the tar. Raises InvalidInput, HostError."""
        reader = Reader(chunks)
        name = b""
        try:
            for entry in reader:
                name = entry.name
                self._entry(entry, reader)
        except OSError as error:
            shown = name.decode(errors="backslashreplace")
            raise HostError(f"unpack {shown}", error, hint=_hint(error)) from error
        self.entries = reader.entries

    def _entry(self, entry: Entry, reader: Reader) -> None:
        self.directories.release()
        if not self.owners.plain:
            self._map(entry)
        path = components(entry.name)
        if not path:
            if entry.kind != b"5":
                wrong("the root can only be a directory", entry.name)
            self._attributes(entry, self.directories.root.file, b"")
            self.directories.seen(b"", entry.mtime)
            return
        head, _, name = path.rpartition(b"/")
        if self.whiteouts:
            if name.startswith(PREFIX):
                self._whiteout(head, name, entry.name)
                return
            if path.startswith(META) or b"/" + META in path:
                return
        parent = self.directories.get(head)
        if not self.overlay:
            above = path
            while above and above not in self._fresh:
                self._fresh.add(above)
                above = above.rpartition(b"/")[0]
        if entry.kind == b"0":
            self._file(entry, parent, name, path, reader)
        elif entry.kind == b"5":
            self._directory(entry, parent, name, path)
        elif entry.kind == b"1":
            self._link(entry, parent, name, path)
        else:
            self._node(entry, parent, name, path)

    def _file(self, entry: Entry, parent: Directory, name: bytes, path: bytes, reader: Reader) -> None:
        try:
            file = os.open(name, _NEW, 0o600, dir_fd=parent.file)
        except FileExistsError:
            self._clear(parent, name, path)
            file = os.open(name, _NEW, 0o600, dir_fd=parent.file)
        try:
            if entry.sparse is not None:
                _write_sparse(file, entry, reader)
            else:
                pieces: Iterable[memoryview] = reader.body()
                if self.hashes is not None:
                    pieces = self._hashed(file, pieces, self.hashes)
                for piece in pieces:
                    written = os.write(file, piece)
                    while written < len(piece):
                        written += os.write(file, piece[written:])
            if parent.careful or entry.uid != self._user or entry.gid != self._group:
                self._own(file, entry)
            os.fchmod(file, entry.mode)
            if entry.xattrs:
                self._set_attributes(file, entry)
            os.utime(file, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(file)

    @staticmethod
    def _hashed(file: int, pieces: Iterable[memoryview], hashes: dict[int, str]) -> Iterator[memoryview]:
        sum_ = hasher("sha256:")
        for piece in pieces:
            sum_.update(piece)
            yield piece
        hashes[os.fstat(file).st_ino] = sum_.hexdigest()

    def _directory(self, entry: Entry, parent: Directory, name: bytes, path: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent.file)
            fresh = True
        except FileExistsError:
            mode = os.lstat(name, dir_fd=parent.file).st_mode
            if self.keep_links and S_ISLNK(mode) and self._is_directory(path):
                return
            fresh = not S_ISDIR(mode)
            if fresh:
                self._clear(parent, name, path)
                os.mkdir(name, 0o700, dir_fd=parent.file)
                if self.overlay:  # what this layer had here, or removed, took away what is below
                    make_opaque(self.directories.entered(path, parent, name).file)
        directory = self.directories.entered(path, parent, name)
        self._attributes(entry, directory.file, path)
        directory.careful = bool(entry.mode & 0o2000 or entry.xattrs) or not fresh
        if not fresh:
            for key in os.listxattr(directory.file):
                if key.encode() not in entry.xattrs and not key.encode().startswith((*OURS, b"security.selinux")):
                    os.removexattr(directory.file, key)
        self.directories.seen(path, entry.mtime)

    def _attributes(self, entry: Entry, directory: int, path: bytes) -> None:
        self._own(directory, entry)
        os.fchmod(directory, entry.mode)
        if entry.xattrs:
            self._set_attributes(directory, entry)
        self.directories.implied.pop(path, None)

    def _link(self, entry: Entry, parent: Directory, name: bytes, path: bytes) -> None:
        target = components(entry.link)
        head, _, last = target.rpartition(b"/")
        if target == path or not last:
            wrong("is a hard link to itself" if last else "is a hard link to the root", entry.name)
        try:
            source = self.directories.find(head)
            status = os.lstat(last, dir_fd=source.file)
            if is_whiteout(status):
                wrong("is a hard link to what this layer removes", entry.name)
            try:
                os.link(last, name, src_dir_fd=source.file, dst_dir_fd=parent.file, follow_symlinks=False)
            except FileExistsError:
                there = os.lstat(name, dir_fd=parent.file)
                if (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino):
                    self._clear(parent, name, path)
                    os.link(last, name, src_dir_fd=source.file, dst_dir_fd=parent.file, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            if not self.overlay:
                wrong(
                    f"is a hard link to {entry.link.decode(errors='backslashreplace')}, which is not there", entry.name
                )
            with suppress(FileNotFoundError):  # what had the name before the link goes
                if not is_whiteout(os.lstat(name, dir_fd=parent.file)):
                    self._clear(parent, name, path)
            self.links.append((path, target))

    def _node(self, entry: Entry, parent: Directory, name: bytes, path: bytes) -> None:
        """A symlink, device or fifo."""
        if entry.kind == b"3" and not entry.major and not entry.minor:
            wrong("is a device 0/0, overlayfs's whiteout", entry.name)
        for last in (False, True):
            try:
                if entry.kind == b"2":
                    os.symlink(entry.link, name, dir_fd=parent.file)
                elif self.owners.rootless and entry.kind != b"6":  # as umoci: an empty file in a device's place
                    os.close(os.open(name, _NEW, 0o600, dir_fd=parent.file))
                else:
                    device = os.makedev(entry.major, entry.minor)
                    os.mknod(name, _NODES[entry.kind] | 0o600, device, dir_fd=parent.file)
                break
            except FileExistsError:
                if last:
                    raise
                self._clear(parent, name, path)
        if self._gives:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent.file, follow_symlinks=False)
        if entry.kind != b"2":
            os.chmod(name, entry.mode, dir_fd=parent.file)
        if entry.xattrs:
            self._set_attributes(f"/proc/self/fd/{parent.file}/".encode() + name, entry)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent.file, follow_symlinks=False)

    def _own(self, file: int, entry: Entry) -> None:
        if self._gives:
            os.fchown(file, entry.uid, entry.gid)

    def _map(self, entry: Entry) -> None:
        """Let the entry's owner be the one here, or a note of it."""
        if self.owners.rootless:
            if (entry.uid or entry.gid) and entry.kind in (b"0", b"5"):  # no other kind has such attributes
                entry.xattrs[ROOTLESS] = noted(entry.uid, entry.gid)
        else:
            entry.uid, entry.gid = self.owners.host(entry.uid, entry.gid)

    def _is_directory(self, path: bytes) -> bool:
        try:
            self.directories.find(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _set_attributes(self, file: int | bytes, entry: Entry) -> None:
        """Set extended attributes, but overlayfs's own and the host's labels; what the filesystem lacks is left out."""
        for key, value in entry.xattrs.items():
            if key.startswith(OURS) or key == b"security.selinux":
                continue
            try:
                if isinstance(file, int):
                    os.setxattr(file, key, value)
                else:
                    os.setxattr(file, key, value, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (ENOTSUP, EPERM) or (
                    error.errno == EPERM and self._gives and isinstance(file, int)
                ):
                    raise

    def _clear(self, parent: Directory, name: bytes, path: bytes) -> None:
        """Remove what is at `path`."""
        self.directories.forget(path)
        remove_tree(parent.file, name)

    def _whiteout(self, head: bytes, name: bytes, shown: bytes) -> None:
        if name == OPAQUE:
            self._opaque(head)
            return
        if name.startswith(META):
            return
        name = name[len(PREFIX) :]
        if name in (b"", b".", b".."):
            wrong("names nothing that could be removed", shown)
        path = head + b"/" + name if head else name
        if self.overlay:
            below = self.directories.within(head)
            if below is None:
                return
            parent = below
            try:
                make_whiteout(parent.file, name)
            except FileExistsError:
                if S_ISDIR(os.lstat(name, dir_fd=parent.file).st_mode):
                    make_opaque(self.directories.get(path).file)
            return
        try:
            parent = self.directories.find(head)
            if path not in self._fresh:
                self.directories.forget(path)
                remove_tree(parent.file, name)
            elif S_ISDIR(os.lstat(name, dir_fd=parent.file).st_mode):
                self._empty(path)
        except (FileNotFoundError, NotADirectoryError):
            pass

    def _opaque(self, path: bytes) -> None:
        if self.overlay:
            directory = self.directories.within(path)
            if directory is not None:
                make_opaque(directory.file)
            return
        with suppress(FileNotFoundError, NotADirectoryError):
            self._empty(path)

    def _empty(self, path: bytes) -> None:
        """Plain form: remove from a directory what this layer did not make."""
        directory = self.directories.find(path)
        for name in os.listdir(directory.file):
            raw = os.fsencode(name)
            child = path + b"/" + raw if path else raw
            if child not in self._fresh:
                self.directories.forget(child)
                remove_tree(directory.file, raw)
            elif S_ISDIR(os.lstat(raw, dir_fd=directory.file).st_mode):
                self._empty(child)
                directory = self.directories.find(path)


def _write_sparse(file: int, entry: Entry, reader: Reader) -> None:
    """The stored pieces at their offsets, holes between them."""
    pieces = iter(entry.sparse or ())
    offset, length = next(pieces, (0, 0))
    for body in reader.body():
        rest = body
        while rest:
            if not length:
                offset, length = next(pieces)
                continue
            size = os.pwrite(file, rest[:length], offset)
            rest, offset, length = rest[size:], offset + size, length - size
    os.ftruncate(file, entry.size)


def _hint(error: OSError) -> str:
    return {EPERM: "run as root", EEXIST: "two names differ only in what this filesystem ignores"}.get(
        error.errno or 0, ""
    )

"""A layer's tar to a tree in memory, as `layer.apply` makes it on the disk in overlayfs's form."""

from __future__ import annotations

import os
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG

from veloci.layer.directories import components
from veloci.layer.erofs.tree import NONE, Node, Tree, whiteout
from veloci.layer.tar import Reader, wrong
from veloci.layer.whiteout import META, OPAQUE, OURS, PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from veloci.layer.tar import Entry

_KINDS = {b"0": S_IFREG, b"2": S_IFLNK, b"3": S_IFCHR, b"4": S_IFBLK, b"5": S_IFDIR, b"6": S_IFIFO}
_CANNOT = b"user."  # only files and directories have such attributes: xattr(7)
_LEFT_OUT = (*OURS, b"security.selinux")
# Those that EROFS has a number for: fs/erofs/erofs_fs.h, EROFS_XATTR_INDEX_*.
NAMESPACES = (b"user.", b"trusted.", b"security.", b"system.posix_acl_access", b"system.posix_acl_default")


class Reading:
    """One layer being read.

    After `read`: `tree.implied` are the directories that the tar did not list but needed, `links` the
    (path, target) of hard links whose target is not in this layer. Both want the layers below (`settle`).
    """

    def __init__(self) -> None:
        self.tree = Tree()
        self.links: list[tuple[bytes, bytes]] = []
        self.entries = 0

    def read(self, chunks: Iterable[bytes]) -> None:
        """Take every entry of the uncompressed tar. Raises InvalidInput."""
        reader = Reader(chunks)
        for entry in reader:
            self._entry(entry, reader.offset)
        self.entries = reader.entries

    def _entry(self, entry: Entry, offset: int) -> None:
        path = components(entry.name)
        if not path:
            if entry.kind != b"5":
                wrong("the root can only be a directory", entry.name)
            self._describe(self.tree.root, entry)
            self.tree.implied.pop(b"", None)
            return
        head, _, name = path.rpartition(b"/")
        if name.startswith(PREFIX):
            self._whiteout(head, name, entry.name)
            return
        if path.startswith(META) or b"/" + META in path:
            return
        if len(name) > 255:
            wrong("has a name of more than 255 bytes", entry.name)
        parent = self.tree.get(head)
        if entry.kind == b"5":
            self._directory(entry, parent, name, path)
        elif entry.kind == b"1":
            self._link(entry, parent, name, path)
        else:
            self._file(entry, parent, name, path, offset)

    def _file(self, entry: Entry, parent: Node, name: bytes, path: bytes, offset: int) -> None:
        """Anything but a directory."""
        if entry.kind == b"3" and not entry.major and not entry.minor:
            wrong("is a device 0/0, overlayfs's whiteout", entry.name)
        node = Node(_KINDS[entry.kind])
        self._describe(node, entry)
        if entry.kind == b"0":
            node.size, node.at, node.sparse = entry.size, offset, entry.sparse
        elif entry.kind == b"2":
            node.target, node.size = entry.link, len(entry.link)
            node.mode = S_IFLNK | 0o777
        elif entry.kind != b"6":
            node.device = os.makedev(entry.major, entry.minor)
        if name in parent.children:
            self.tree.forget(path)
        parent.children[name] = node

    def _directory(self, entry: Entry, parent: Node, name: bytes, path: bytes) -> None:
        there = parent.children.get(name)
        if there is not None and there.is_directory:
            hidden = b"trusted.overlay.opaque" in there.xattrs
            self._describe(there, entry)
            if hidden:
                there.hide()
            self.tree.implied.pop(path, None)
            return
        node = Node(S_IFDIR)
        self._describe(node, entry)
        if there is not None:  # what this layer had here, or removed, took away what is below
            node.hide()
            self.tree.forget(path)
        parent.children[name] = node
        self.tree.entered(path, node)

    @staticmethod
    def _describe(node: Node, entry: Entry) -> None:
        """Give a node the entry's owner, mode, time and attributes, but overlayfs's own and the host's labels."""
        node.mode = node.mode & 0o170000 | entry.mode
        node.uid, node.gid, node.mtime = entry.uid, entry.gid, entry.mtime
        node.xattrs = attributes(entry.xattrs, node.is_file or node.is_directory) if entry.xattrs else NONE

    def _link(self, entry: Entry, parent: Node, name: bytes, path: bytes) -> None:
        target = components(entry.link)
        head, _, last = target.rpartition(b"/")
        if target == path or not last:
            wrong("is a hard link to itself" if last else "is a hard link to the root", entry.name)
        try:
            node = self.tree.find(head).children.get(last)
        except (FileNotFoundError, NotADirectoryError):
            node = None
        if node is None:
            there = parent.children.get(name)
            if there is not None and not there.is_whiteout:  # what had the name before the link goes
                del parent.children[name]
                self.tree.forget(path)
            self.links.append((path, target))
            return
        if node.is_whiteout:
            wrong("is a hard link to what this layer removes", entry.name)
        if node.is_directory:
            wrong("is a hard link to a directory", entry.name)
        if name in parent.children and parent.children[name] is not node:
            self.tree.forget(path)
        parent.children[name] = node

    def _whiteout(self, head: bytes, name: bytes, shown: bytes) -> None:
        if name == OPAQUE:
            directory = self.tree.within(head)
            if directory is not None:
                directory.hide()
            return
        if name.startswith(META):
            return
        name = name[len(PREFIX) :]
        if name in (b"", b".", b".."):
            wrong("names nothing that could be removed", shown)
        parent = self.tree.within(head)
        if parent is None:
            return
        children = parent.children
        there = children.get(name)
        if there is None:
            children[name] = whiteout()
        elif there.is_directory:
            there.hide()


def attributes(found: dict[bytes, bytes], user: bool) -> dict[bytes, bytes]:
    """What of a file's attributes a layer keeps. user: whether it may have `user.` ones."""
    return {
        key: value
        for key, value in found.items()
        if key.startswith(NAMESPACES)
        and not key.startswith(_LEFT_OUT)
        and (user or not key.startswith(_CANNOT))
        and len(value) < 1 << 16
    }

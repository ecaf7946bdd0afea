"""A layer in memory, in overlayfs's form: what a file is, where its content stands, what a path leads to."""

from __future__ import annotations

from errno import ENOTDIR
from stat import S_IFCHR, S_IFDIR, S_ISDIR, S_ISLNK, S_ISREG

from veloci.errors import InvalidInput
from veloci.layer.directories import LINKS, components
from veloci.layer.tar import wrong
from veloci.layer.whiteout import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OPAQUE = b"trusted.overlay.opaque"
TAR, INDEX = 1, 0  # the devices that content may stand on
NONE: dict[bytes, bytes] = {}  # most files have no attributes; never changed


class Node:
    """A file of any kind.

    mode: with the type bits. mtime: nanoseconds. device: what a device node stands for, as stat(2) encodes it.
    target: a symlink's. children: a directory's. at: byte of the tar where a file's content begins, or, with
    `place` INDEX, byte of the index. sparse: (offset, length) of the stored pieces, or None.
    number: the inode's once it has one.
    """

    __slots__ = (
        "at",
        "children",
        "device",
        "gid",
        "links",
        "mode",
        "mtime",
        "number",
        "place",
        "size",
        "sparse",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self, mode: int, uid: int = 0, gid: int = 0, mtime: int = 0) -> None:
        self.mode, self.uid, self.gid, self.mtime = mode, uid, gid, mtime
        self.size = self.at = self.device = self.links = 0
        self.place, self.number = TAR, -1
        self.target = b""
        self.xattrs = NONE
        self.sparse: list[tuple[int, int]] | None = None
        self.children: dict[bytes, Node] = {} if S_ISDIR(mode) else NOBODY

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return S_ISDIR(self.mode)

    @property
    def is_whiteout(self) -> bool:
        """Whether it is overlayfs's whiteout."""
        return self.mode & S_IFMT == S_IFCHR and not self.device

    @property
    def is_file(self) -> bool:
        """Whether it has content."""
        return S_ISREG(self.mode)

    def hide(self) -> None:
        """Make the directory opaque: it hides what lower layers have in it."""
        self.xattrs = {**self.xattrs, OPAQUE: b"y"}


S_IFMT = 0o170000
NOBODY: dict[bytes, Node] = {}  # what is in a file that is no directory


def whiteout() -> Node:
    """What hides a name of the layers below."""
    return Node(S_IFCHR)


class Tree:
    """The directories of a layer by path, as `components` gives them; what is missing is made."""

    def __init__(self) -> None:
        self.root = Node(S_IFDIR | 0o755)
        self.implied: dict[bytes, Node] = {b"": self.root}  # directories made because something was in them
        self._known: dict[bytes, Node] = {b"": self.root}

    def find(self, path: bytes) -> Node:
        """The directory at `path`, symlinks followed within the root. Raises FileNotFoundError, NotADirectoryError."""
        node = self._known.get(path)
        if node is None:
            if path.startswith(PREFIX) or b"/" + PREFIX in path:
                raise InvalidInput(f"{path.decode(errors='backslashreplace')} is below a whiteout's name", where="tar")
            node = self._known[path] = self._walk(path)
        return node

    def _walk(self, path: bytes) -> Node:
        above = [self.root]
        todo = path.split(b"/")[::-1]
        links = LINKS
        while todo:
            part = todo.pop()
            if part == b"..":
                del above[max(1, len(above) - 1) :]
            if part in (b"", b".", b".."):
                continue
            node = above[-1].children.get(part)
            if node is None:
                raise FileNotFoundError(path)
            if S_ISLNK(node.mode):
                links -= 1
                if links < 0:
                    wrong("too many symlinks", path)
                if node.target.startswith(b"/"):
                    del above[1:]
                todo += node.target.split(b"/")[::-1]
            elif node.is_directory:
                above.append(node)
            else:
                raise NotADirectoryError(ENOTDIR, path)
        return above[-1]

    def get(self, path: bytes) -> Node:
        """The directory at `path`, made with those above it if it is missing."""
        node = self._known.get(path)
        if node is None:
            try:
                node = self.find(path)
            except (FileNotFoundError, NotADirectoryError):
                node = self._make(path, LINKS)
        return node

    def within(self, path: bytes) -> Node | None:
        """As `get`; None where this layer has a file in its place, which stays."""
        try:
            return self.find(path)
        except NotADirectoryError:
            return None
        except FileNotFoundError:
            return self.get(path)

    def _make(self, path: bytes, links: int) -> Node:
        """Make the directory at `path`: also where a symlink points to nothing yet, and in place of a file."""
        head, _, name = path.rpartition(b"/")
        parent = self.get(head)
        there = parent.children.get(name)
        if there is not None and S_ISLNK(there.mode):
            if not links:
                wrong("too many symlinks", path)
            aim = components(there.target if there.target.startswith(b"/") else b"/".join((head, there.target)))
            try:
                self.find(aim)
            except (FileNotFoundError, NotADirectoryError):
                self._make(aim, links - 1)
            return self.find(path)
        if there is not None and there.is_directory:
            return self.find(path)
        node = Node(S_IFDIR | 0o755)
        if there is not None:  # what this layer had here, or removed, took away what is below
            node.hide()
            self.forget(path)
        parent.children[name] = self._known[path] = node
        self.implied[path] = node
        return node

    def entered(self, path: bytes, node: Node) -> None:
        """The directory `node` stands at `path`."""
        self._known[path] = node

    def forget(self, path: bytes) -> None:
        """What is at `path` goes, and what is known of the paths below it or through it."""
        self._known = {b"": self.root}
        self.implied.pop(path, None)

    def nodes(self) -> Iterator[Node]:
        """Every file, once for each of its names, directories before what is in them."""
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            stack += node.children.values()

"""Layers read as lists of files, one upon the other: what each adds, changes, removes, and the tree they make.

Nothing is unpacked. Memory grows with the number of files, not with their size.
"""

from __future__ import annotations

from veloci.layer.directories import components
from veloci.layer.tar import Reader, wrong
from veloci.layer.whiteout import META, OPAQUE, PREFIX
from veloci.spec.digest import hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.layer.tar import Entry

KINDS = {b"0": "file", b"1": "link", b"2": "symlink", b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo"}


class File:
    """What a layer says of a path. size: bytes of content. layer: which brought it. content: its sha256, in hex."""

    __slots__ = ("content", "gid", "kind", "layer", "link", "mode", "mtime", "size", "uid", "xattrs")

    def __init__(self, entry: Entry, layer: int, content: str) -> None:
        self.kind, self.layer, self.content = KINDS[entry.kind], layer, content
        self.size, self.mode, self.uid, self.gid = entry.size, entry.mode, entry.uid, entry.gid
        self.mtime, self.link = entry.mtime, entry.link
        self.xattrs = tuple(sorted(entry.xattrs.items()))

    def same(self, other: File) -> bool:
        """Whether nothing but the layer differs; of a directory the time does not count."""
        mine, others = self._seen(), other._seen()
        return mine == others and (self.kind == "dir" or self.mtime // 1_000_000_000 == other.mtime // 1_000_000_000)

    def _seen(self) -> tuple[object, ...]:
        mode = 0 if self.kind == "symlink" else self.mode  # nobody asks for it
        return self.kind, self.content, self.size, mode, self.uid, self.gid, self.link, self.xattrs


class Layer:
    """What one layer did to the tree. wasted: bytes of lower layers that it hides."""

    def __init__(self) -> None:
        self.added: list[bytes] = []
        self.changed: list[bytes] = []
        self.removed: list[bytes] = []
        self.size = self.wasted = 0
        self.files: dict[bytes, File] = {}  # its own


class Tree:
    """The files of some layers together, by path; b"" is the root."""

    def __init__(self) -> None:
        self.files: dict[bytes, File] = {}
        self.layers: list[Layer] = []
        self._below: dict[bytes, set[bytes]] = {}  # a directory's path -> names in it

    def add(self, tar: Iterable[bytes], *, hashing: bool = True) -> Layer:
        """Put a layer, an uncompressed tar, on top. hashing: whether contents are to be known. Raises InvalidInput."""
        number, layer = len(self.layers), Layer()
        gone, own, above = [], layer.files, set()  # above: what something of this layer is in
        reader = Reader(tar)
        for entry in reader:
            path = components(entry.name)
            head, _, name = path.rpartition(b"/")
            if name.startswith(PREFIX):
                if name == OPAQUE:
                    gone += [head + b"/" + child if head else child for child in self._below.get(head, ())]
                elif not name.startswith(META):
                    if name[len(PREFIX) :] in (b"", b".", b".."):
                        wrong("names nothing that could be removed", entry.name)
                    gone.append(head + b"/" + name[len(PREFIX) :] if head else name[len(PREFIX) :])
                continue
            if entry.kind != b"5":  # a file in a directory's place takes away what was in it, also if it goes again
                gone += [path + b"/" + child for child in self._below.get(path, ())]
                if path in above:
                    for below in [other for other in own if other.startswith(path + b"/")]:
                        del own[below]
            while head and head not in above:
                above.add(head)
                head = head.rpartition(b"/")[0]
            own.pop(path, None)  # of two entries the last counts
            own[path] = File(entry, number, _content(reader, entry) if hashing else "")
        before = {path: self.files[path] for path in own if path in self.files}
        for path in gone:
            self._remove(path, layer)
        for path, file in own.items():
            self._put(path, file, before.get(path), layer)
        layer.removed = [path for path in layer.removed if path not in own]
        layer.added = [path for path in layer.added if path in self.files]
        layer.size = sum(file.size for file in own.values())
        self.layers.append(layer)
        return layer

    def _put(self, path: bytes, file: File, before: File | None, layer: Layer) -> None:
        now = self.files.get(path)
        self._clear_above(path, layer)
        if file.kind != "dir" and self._below.get(path):
            self._remove(path, layer)
        elif now is not None and now.layer != file.layer:
            layer.wasted += now.size
        self.files[path] = file
        at = path
        while at:  # directories need not be listed
            head, _, name = at.rpartition(b"/")
            names = self._below.setdefault(head, set())
            if name in names:
                break
            names.add(name)
            at = head
        if before is None:
            layer.added.append(path)
        elif not file.same(before):
            layer.changed.append(path)

    def _clear_above(self, path: bytes, layer: Layer) -> None:
        """Remove the file in whose place a directory comes, because something is in it."""
        head = path.rpartition(b"/")[0]
        while head:
            above = self.files.get(head)
            if above is not None and above.kind not in ("dir", "symlink"):
                self._remove(head, layer)
            head = head.rpartition(b"/")[0]

    def _remove(self, path: bytes, layer: Layer) -> None:
        for name in list(self._below.pop(path, ())):
            self._remove(path + b"/" + name if path else name, layer)
        file = self.files.pop(path, None)
        if file is not None and file.layer < len(self.layers):  # not of this layer
            layer.wasted += file.size
            layer.removed.append(path)
        head, _, name = path.rpartition(b"/")
        self._below.get(head, set()).discard(name)

    def has(self, path: bytes) -> bool:
        """Whether there is something at the path; also a directory that no layer lists, for what is in it."""
        return path in self.files or bool(self._below.get(path))

    def below(self, path: bytes) -> Iterator[bytes]:
        """The paths directly in a directory, sorted."""
        for name in sorted(self._below.get(path, ())):
            yield path + b"/" + name if path else name


def _content(reader: Reader, entry: Entry) -> str:
    if entry.kind != b"0":
        return ""
    sum_ = hasher("sha256:")
    for piece in reader.body():
        sum_.update(piece)
    if entry.sparse is not None:
        sum_.update(repr(entry.sparse).encode())
    return sum_.hexdigest()

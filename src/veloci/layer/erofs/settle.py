"""What a layer wants from the layers below it, as `layer.settle` does it on the disk."""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISLNK, S_ISREG

from veloci.kernel.files import open_in_root
from veloci.layer.erofs.read import attributes
from veloci.layer.erofs.tree import INDEX, OPAQUE, Node
from veloci.layer.settle import real, status_in, target_of
from veloci.layer.tar import wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from veloci.layer.erofs.read import Reading
    from veloci.layer.erofs.tree import Tree
    from veloci.layer.erofs.write import Index


def settle(layer: Reading, lower: int | None, index: Index) -> None:
    """Finish `layer`. lower: a descriptor of what the layers below make together, None if there are none.

    index: takes the content of files that are copied up. Raises InvalidInput for a hard link to nothing, OSError.
    """
    copies: dict[bytes, Node] = {}
    for path, target in layer.links:
        _link(layer, lower, index, path, target, copies)
    done: set[bytes] = set()
    while waiting := [path for path in layer.tree.implied if path not in done]:
        for path in waiting:
            done.add(path)
            if lower is not None:
                _resemble(layer, lower, path)


def recalled(layer: Reading, below: Sequence[Tree]) -> bool:
    """As `settle`, of layers whose trees are in memory, finished, top first, without a mount of them.

    False, and nothing is done, where that takes more than looking directories up.
    """
    if layer.links:
        return False
    try:
        found = [(path, directory) for path in layer.tree.implied if (directory := _merged(below, path))]
    except LookupError:
        return False
    for path, directory in found:
        try:
            node = layer.tree.find(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if node is not layer.tree.implied[path]:
            continue  # a later entry took its place
        hidden = OPAQUE in node.xattrs
        node.mode, node.uid, node.gid, node.mtime = directory.mode, directory.uid, directory.gid, directory.mtime
        node.xattrs = attributes(directory.xattrs, user=True)
        if hidden:
            node.hide()
    return True


def _merged(below: Sequence[Tree], path: bytes) -> Node | None:
    """The topmost of the directories that are one at `path`; None for no directory. LookupError: a symlink is there."""
    parts = path.split(b"/") if path else []
    for tree in below:
        node, hides = tree.root, False
        for part in parts:
            hides = hides or OPAQUE in node.xattrs
            child = node.children.get(part)
            if child is None:
                break
            if S_ISLNK(child.mode):
                raise LookupError(path)
            if not child.is_directory:
                return None
            node = child
        else:
            return node
        if hides:
            return None
    return None


def _resemble(layer: Reading, lower: int, path: bytes) -> None:
    """Give an implied directory the attributes of the one below; where a symlink is below, go where it points."""
    tree = layer.tree
    try:
        node = tree.find(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if node is not layer.tree.implied[path]:
        return  # a later entry took its place
    place = real(lower, path)
    status = status_in(lower, place)
    if status is None or not S_ISDIR(status.st_mode):
        return
    if place != path:
        target = tree.get(place)
        _merge(node, target)
        head, _, name = path.rpartition(b"/")
        tree.find(head).children.pop(name, None)
        tree.forget(path)
        node = tree.get(place)
    source = open_in_root(lower, os.fsdecode(place) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        hidden = OPAQUE in node.xattrs
        _describe(node, status, source)
        if hidden:
            node.hide()
    finally:
        os.close(source)


def _merge(source: Node, target: Node) -> None:
    for name, node in source.children.items():
        there = target.children.get(name)
        if there is not None and there.is_directory and node.is_directory:
            _merge(node, there)
        else:
            target.children[name] = node


def _link(
    layer: Reading, lower: int | None, index: Index, path: bytes, target: bytes, copies: dict[bytes, Node]
) -> None:
    """Make a hard link to a file of the layers below. copies: the files that were copied up."""
    head, _, last = target.rpartition(b"/")
    if lower is not None:
        head = real(lower, head)
    aim = head + b"/" + last if head else last
    status = None if lower is None else status_in(lower, aim)
    if status is None or S_ISDIR(status.st_mode) or lower is None:
        wrong(f"is a hard link to {target.decode(errors='backslashreplace')}, which is not there", path)
    node = copies.get(aim)
    if node is None:
        node = copies[aim] = _copied(lower, aim, status, index)
        parent = layer.tree.within(head)
        if parent is not None:  # unless a later entry of this layer has the name
            parent.children.setdefault(last, node)
    above, _, name = path.rpartition(b"/")
    try:
        place = layer.tree.find(above)
    except (FileNotFoundError, NotADirectoryError):
        return  # a later entry took the place of its directory
    there = place.children.get(name)
    if there is None or there.is_whiteout:  # else a later entry took the name
        place.children[name] = node


def _copied(lower: int, path: bytes, status: os.stat_result, index: Index) -> Node:
    """A file copied up: content, owner, mode, attributes, time."""
    node = Node(status.st_mode)
    if S_ISREG(status.st_mode):
        source = open_in_root(lower, os.fsdecode(path), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            node.size, node.place = status.st_size, INDEX
            node.at = index.copy(source)
            _describe(node, status, source)
        finally:
            os.close(source)
        return node
    if S_ISLNK(status.st_mode):
        node.target = target_of(lower, path)
        node.size = len(node.target)
    node.device = status.st_rdev
    _describe(node, status, -1)
    return node


def _describe(node: Node, status: os.stat_result, source: int) -> None:
    """Owner, mode, time and, of an open file, attributes."""
    node.mode, node.uid, node.gid, node.mtime = status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns
    if source >= 0:
        found = {os.fsencode(key): os.getxattr(source, key) for key in os.listxattr(source)}
        node.xattrs = attributes(found, user=True)

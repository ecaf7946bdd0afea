"""The files of an image as a list, with the layer that each is from; nothing is unpacked."""

from __future__ import annotations

from veloci.layer.merge import Tree
from veloci.transport.edited import layer_tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.transport.edited import Edited


def tree(image: Edited, *, hashing: bool = True) -> Tree:
    """All files of an image, layer upon layer. hashing: whether their contents are compared. Raises Corrupt."""
    found = Tree()
    for layer, diff_id in zip(image.draft.layers, image.draft.diff_ids, strict=True):
        with layer_tar(image.base, layer, diff_id) as tar:
            found.add(tar, hashing=hashing)
    return found


def compared(one: Tree, two: Tree) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The paths that are in `two` alone, in both but not the same, and in `one` alone; each sorted."""
    added = sorted(path for path in two.files if not one.has(path))
    changed = sorted(path for path, file in two.files.items() if path in one.files and not file.same(one.files[path]))
    removed = sorted(path for path in one.files if not two.has(path))
    return added, changed, removed

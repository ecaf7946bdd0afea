"""A few paths of a tree to a layer, and the removal of others: what `repack` writes."""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISSOCK

from veloci.kernel.files import open_in_root
from veloci.layer.diff import Status, Walk, chunked, whiteout
from veloci.layer.write import END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.layer.owners import Owners


def pick(
    root: int,
    paths: Iterable[bytes],
    removed: Iterable[bytes] = (),
    *,
    epoch: int | None = None,
    owners: Owners | None = None,
) -> Iterator[bytes]:
    """An uncompressed tar of `paths` below the directory `root`, and of whiteouts for `removed`.

    Paths are relative, b"" is the root itself; what is below a directory is in it only if named. epoch, owners: as
    for `diff`. Raises OSError.
    """
    yield from chunked(_picked(root, sorted(set(paths)), sorted(set(removed)), Walk(epoch, owners)))


def _picked(root: int, paths: list[bytes], removed: list[bytes], walk: Walk) -> Iterator[bytes]:
    gone = set(removed)
    for path in sorted({*paths, *gone}):
        if path in gone:
            yield whiteout(path)
            continue
        head, _, name = path.rpartition(b"/")
        parent = open_in_root(root, os.fsdecode(head) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            status = Status(parent, name or b".")
            if S_ISDIR(status.stat.st_mode):
                yield walk.directory((path or b".") + b"/", status)
            elif not S_ISSOCK(status.stat.st_mode):
                yield from walk.file(path, name, parent, status)
        finally:
            os.close(parent)
    yield END

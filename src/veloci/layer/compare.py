"""Two whole trees to the layer that makes one of the other. Sorted and reproducible, as diff is."""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISSOCK

from veloci.layer.diff import Status, Walk, chunked, equal, status_below, whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from veloci.layer.owners import Owners

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def compare(
    new: int,
    old: int,
    *,
    epoch: int | None = None,
    owners: Owners | None = None,
    mount_points: Collection[bytes] = (),
) -> Iterator[bytes]:
    """The uncompressed tar that, applied to the tree `old`, gives the tree `new`; both are directories' descriptors.

    A file of several names is in it under all of them if any is new. epoch, owners, mount_points: as for `diff`.
    """
    walk = _Trees(links(new), links(old), epoch, owners)
    walk.mount_points = mount_points
    yield from chunked(walk.changed(new, old))


class _Trees(Walk):
    """A walk over both trees."""

    def __init__(
        self,
        new: dict[bytes, tuple[bytes, ...]],
        old: dict[bytes, tuple[bytes, ...]],
        epoch: int | None,
        owners: Owners | None,
    ) -> None:
        super().__init__(epoch, owners)
        self._new, self._old = new, old

    def inside(self, path: bytes, upper: int, lower: int | None) -> Iterator[bytes]:
        """See Walk."""
        there = set(map(os.fsencode, os.listdir(upper)))
        before = set() if lower is None else set(map(os.fsencode, os.listdir(lower)))
        for name in sorted(there | before):
            if name not in there:
                yield from self.parents()
                yield whiteout(path + name)
                continue
            status = Status(upper, name)
            below = status_below(lower, name) if name in before else None
            if not below and path + name in self.mount_points and self._bare(path + name, name, upper, status):
                continue
            if S_ISDIR(status.stat.st_mode):
                yield from self.enter(path + name + b"/", name, upper, lower, status, below)
            elif S_ISSOCK(status.stat.st_mode):
                continue
            elif not self._same(path + name, name, upper, lower, status, below):
                yield from self.parents()
                yield from self.file(path + name, name, upper, status)

    def _same(
        self, path: bytes, name: bytes, upper: int, lower: int | None, status: Status, below: Status | None
    ) -> bool:
        return (
            below is not None
            and self._new.get(path) == self._old.get(path)
            and status.same(below)
            and equal(upper, lower, name, status.stat.st_mode)
        )


def links(root: int) -> dict[bytes, tuple[bytes, ...]]:
    """The names of every file of several names below a directory, by each of them."""
    groups: dict[int, list[bytes]] = {}
    _collect(root, b"", groups)
    return {name: tuple(sorted(names)) for names in groups.values() for name in names if len(names) > 1}


def _collect(directory: int, path: bytes, groups: dict[int, list[bytes]]) -> None:
    with os.scandir(directory) as entries:
        found = [(os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in entries]
    for name, status in found:
        if S_ISDIR(status.st_mode):
            inner = os.open(name, _DIRECTORY, dir_fd=directory)
            try:
                _collect(inner, path + name + b"/", groups)
            finally:
                os.close(inner)
        elif status.st_nlink > 1:
            groups.setdefault(status.st_ino, []).append(path + name)

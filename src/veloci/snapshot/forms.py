"""How a layer is kept: unpacked in overlayfs's form, or as its tar with an index that the kernel reads it by."""

from __future__ import annotations

import os

from veloci.content.files import AHEAD, kept
from veloci.layer.apply import Application
from veloci.layer.settle import settle
from veloci.snapshot.snapshots import made
from veloci.spec.digest import hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Protocol

    from veloci.layer.erofs.read import Reading
    from veloci.layer.erofs.tree import Tree

    class Form(Protocol):
        """A layer being made in a directory of its own. First `read`, then, if it `wants`, `settle`; `close` always."""

        @property
        def wants(self) -> str:
            """What of the layers below is needed for what is left: see `wanted`."""

        def read(self, chunks: Iterable[bytes]) -> None:
            """Take the uncompressed tar, but for what needs the layers below. Raises InvalidInput, HostError."""

        @property
        def tree(self) -> Tree | None:
            """The layer's files, if they are in memory; what is left to do is not done in it before `settle`."""

        def recall(self, below: Sequence[Tree]) -> bool:
            """Take what is wanted of the layers below from memory, top first; False if that cannot be done."""

        def settle(self, lower: int | None) -> None:
            """Do the rest. lower: a descriptor of what is wanted, None if there is no layer below."""

        def sync(self) -> bool:
            """Bring what the layer's files hold to the disk, if they are few; else False."""

        def close(self) -> None:
            """Close what is open."""


class Directory:
    """A layer unpacked: `fs` holds its files, with overlayfs's whiteouts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._layer: Application | None = None

    def read(self, chunks: Iterable[bytes]) -> None:
        """See Form."""
        os.mkdir(f"{self._path}/fs", 0o755)
        root = os.open(f"{self._path}/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchmod(root, 0o755)
            self._layer = Application(root, overlay=True)
        finally:
            os.close(root)
        self._layer.read(chunks)

    @property
    def wants(self) -> str:
        """See Form."""
        return wanted(self._layer.implied, self._layer.links) if self._layer else ""

    @property
    def tree(self) -> Tree | None:
        """See Form."""
        return None

    def recall(self, below: Sequence[Tree]) -> bool:
        """See Form."""
        del below
        return False

    def settle(self, lower: int | None) -> None:
        """See Form."""
        assert self._layer is not None
        settle(self._layer, lower)

    def sync(self) -> bool:
        """See Form."""
        return False

    def close(self) -> None:
        """See Form."""
        if self._layer is not None:
            self._layer.close()


class Archive:
    """A layer as it came: `tar`, and `index`; `fs` is an empty directory with the owner, mode and time of its root."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._layer: Reading | None = None

    def read(self, chunks: Iterable[bytes]) -> None:
        """See Form."""
        from veloci.layer.erofs.read import Reading

        self._layer = Reading()
        file = os.open(f"{self._path}/tar", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._layer.read(kept(file, chunks))
            if os.fstat(file).st_size >= AHEAD:
                os.fdatasync(file)  # here, where other layers are read meanwhile
        finally:
            os.close(file)

    @property
    def wants(self) -> str:
        """See Form."""
        return wanted(self._layer.tree.implied, self._layer.links) if self._layer else ""

    @property
    def tree(self) -> Tree | None:
        """See Form."""
        return self._layer.tree if self._layer else None

    def recall(self, below: Sequence[Tree]) -> bool:
        """See Form."""
        from veloci.layer.erofs.settle import recalled

        return self._layer is not None and recalled(self._layer, below)

    def settle(self, lower: int | None) -> None:
        """See Form."""
        from veloci.layer.erofs.settle import settle
        from veloci.layer.erofs.write import Index

        assert self._layer is not None
        identity = hasher("sha256:")
        identity.update(os.path.basename(self._path).encode())
        tar = os.open(f"{self._path}/tar", os.O_RDONLY | os.O_CLOEXEC)
        file = os.open(f"{self._path}/index", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            index = Index(file, tar)
            settle(self._layer, lower, index)
            index.finish(self._layer.tree, identity.digest()[:16])
        finally:
            os.close(tar)
            os.close(file)
        self._make_root()

    def _make_root(self) -> None:
        """The directory that stands for the layer's root: what is written upon the layer begins as a copy of it."""
        assert self._layer is not None
        root = self._layer.tree.root
        path = f"{self._path}/fs"
        made(path, 0o755)
        os.chown(path, root.uid, root.gid)
        os.chmod(path, root.mode & 0o7777)
        for key, value in root.xattrs.items():
            if not key.startswith(b"trusted.overlay."):
                os.setxattr(path, key, value)
        os.utime(path, ns=(root.mtime, root.mtime))

    def sync(self) -> bool:
        """See Form."""
        for name in ("tar", "index"):
            file = os.open(f"{self._path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(file)
            finally:
                os.close(file)
        return True

    def close(self) -> None:
        """See Form."""


def wanted(implied: Collection[bytes], links: Collection[object]) -> str:
    """What a layer wants of those below: "" for nothing, "root" for what their root looks like, "all" for any file.

    implied: the directories that its tar did not list, b"" the root. links: hard links to files below.
    """
    if links or any(implied):
        return "all"
    return "root" if implied else ""

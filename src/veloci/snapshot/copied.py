"""Layers copied together into one plain tree, as overlayfs would show them: for hosts that lack overlayfs."""

from __future__ import annotations

import os
from stat import S_ISDIR

from veloci.kernel import mount
from veloci.layer.settle import copy_attributes, copy_up
from veloci.layer.tree import remove_tree
from veloci.layer.whiteout import is_opaque, is_whiteout
from veloci.snapshot.overlay import archived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def attached(path: str, *, writable: bool) -> int:
    """A descriptor of a detached mount of the directory `path`; closing it unmounts it. Raises OSError."""
    tree = mount.open_tree(mount.AT_FDCWD, path)
    if not writable:
        mount.mount_setattr(tree, set=mount.MOUNT_ATTR_RDONLY)
    return tree


def merge(lowers: Sequence[str], target: str) -> None:
    """Copy the layers in the directories `lowers`, top first, to the empty directory `target`. Raises OSError."""
    root = os.open(target, _DIRECTORY)
    try:
        for path in reversed(lowers):
            tree = archived(path, [])
            try:
                source = os.open(path, _DIRECTORY) if tree < 0 else os.open(".", _DIRECTORY, dir_fd=tree)
                try:
                    _Copy(root).directory(source, root, b"")
                finally:
                    os.close(source)
            finally:
                if tree >= 0:
                    os.close(tree)
    finally:
        os.close(root)


class _Copy:
    """One layer onto a tree."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._links: dict[int, bytes] = {}  # inode of a file of several names -> where its copy is

    def directory(self, source: int, target: int, path: bytes) -> None:
        """What is in the directory `source`, and its attributes, to `target`, which is at `path`."""
        with os.scandir(source) as entries:
            names = [os.fsencode(entry.name) for entry in entries]
        for name in names:
            status = os.lstat(name, dir_fd=source)
            if S_ISDIR(status.st_mode):
                self._enter(source, target, name, path + name + b"/")
            elif is_whiteout(status):
                remove_tree(target, name)
            else:
                self._file(source, target, name, path + name, status)
        status = os.fstat(source)
        for key in os.listxattr(target):
            if not key.startswith("security.selinux"):
                os.removexattr(target, key)
        copy_attributes(source, target, status)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def _enter(self, source: int, target: int, name: bytes, path: bytes) -> None:
        inner = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            if is_opaque(inner) or not _is_directory(target, name):
                remove_tree(target, name)
                os.mkdir(name, 0o700, dir_fd=target)
            outer = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                self.directory(inner, outer, path)
            finally:
                os.close(outer)
        finally:
            os.close(inner)

    def _file(self, source: int, target: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        remove_tree(target, name)
        first = self._links.get(status.st_ino) if status.st_nlink > 1 else None
        if first is None:
            copy_up(source, name, status, target, name)
            if status.st_nlink > 1:
                self._links[status.st_ino] = path
        else:
            os.link(first, name, src_dir_fd=self._root, dst_dir_fd=target, follow_symlinks=False)


def _is_directory(parent: int, name: bytes) -> bool:
    try:
        return S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:
        return False

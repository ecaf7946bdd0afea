"""Mount points of a RUN that its root file system lacks: made before, removed after, as if never there.

Only what was made here is removed, found again by its directory and inode, and only while empty
(CVE-2024-23652). The directory's times are put back, so that it does not enter the layer.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from posixpath import basename, dirname
from typing import TYPE_CHECKING

from veloci.build.context import held
from veloci.errors import InvalidInput
from veloci.kernel.files import open_in_root

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def make(root: int, mounts: Sequence[tuple[str, bool]]) -> list[tuple[str, int]]:
    """Make the missing mount points (path, whether a directory) below `root`, a descriptor.

    Returns path and inode of each that was made, parents first. Those below another mount are not made.
    """
    made: list[tuple[str, int]] = []
    targets = [path.rstrip("/") for path, _ in mounts]
    for path, directory in sorted(mounts):
        if any(path.startswith(f"{other}/") for other in targets if other):
            continue
        parts = path.strip("/").split("/")
        for size in range(1, len(parts) + 1):
            here = "/" + "/".join(parts[:size])
            inode = _made(root, here, directory=directory or size < len(parts))
            if inode:
                made.append((here, inode))
    return made


def _made(root: int, path: str, *, directory: bool) -> int:
    """The inode of a stub at `path`; 0 if something is there."""
    with suppress(FileNotFoundError):
        os.close(open_in_root(root, path, os.O_PATH))
        return 0
    name = basename(path)
    with held(open_in_root(root, dirname(path), _DIRECTORY)) as parent:
        before = os.fstat(parent)
        try:
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except FileExistsError:
            raise InvalidInput(f"cannot mount on {path}: it is a symlink that leads nowhere") from None
        os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        return os.lstat(name, dir_fd=parent).st_ino


def remove(root: int, made: Sequence[tuple[str, int]]) -> None:
    """Remove what `make` made and nobody used."""
    for path, inode in reversed(made):
        name = basename(path)
        try:
            parent = open_in_root(root, dirname(path), _DIRECTORY)
        except OSError:
            continue  # the step removed the directory
        with held(parent):
            before = os.fstat(parent)
            try:
                status = os.lstat(name, dir_fd=parent)
            except FileNotFoundError:
                continue
            if status.st_ino != inode:
                continue
            if stat.S_ISDIR(status.st_mode):
                with suppress(OSError):  # not empty: the step has used it
                    os.rmdir(name, dir_fd=parent)
            elif status.st_size == 0:
                os.unlink(name, dir_fd=parent)
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))

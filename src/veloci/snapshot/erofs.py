"""A layer's tar mounted as it is, by its index; what a container's start needs, and imports nothing.

Linux 6.12 and later mount an index that is a file, on most file systems; else, and from 6.4 on, when EROFS
learned blocks of less than a page (Debian's 6.1 has that too), the two files are attached to loop devices.
"""

from __future__ import annotations

import os
from errno import ENOTBLK

from veloci.kernel import mount


def mounted(index: str, tar: str) -> int:
    """A descriptor of a detached read-only mount of the layer; closing it unmounts it. Raises OSError."""
    try:
        return _mounted(index, tar)
    except OSError as error:
        if error.errno != ENOTBLK:
            raise
    return _looped(index, tar)


def _mounted(index: str, tar: str) -> int:
    context = mount.fsopen("erofs")
    try:
        mount.fsconfig(context, "source", index)
        mount.fsconfig(context, "device", tar)
        mount.fsconfig(context, "ro")
        mount.fscreate(context)
        return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)


def _looped(*paths: str) -> int:
    from veloci.kernel.loop import attached

    opened, names = [], []
    try:
        for path in paths:
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            device, name = attached(opened[-1])
            opened.append(device)
            names.append(name)
        return _mounted(*names)
    finally:
        for file in opened:
            os.close(file)

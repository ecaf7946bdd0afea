"""A layer's tar mounted as it is, by its index; what a container's start needs, and imports nothing.

Linux 6.12 and later mount an index that is a file; before, EROFS wants a block device.
"""

from __future__ import annotations

import os

from veloci.kernel import mount


def mounted(index: str, tar: str) -> int:
    """A descriptor of a detached read-only mount of the layer; closing it unmounts it. Raises OSError."""
    context = mount.fsopen("erofs")
    try:
        mount.fsconfig(context, "source", index)
        mount.fsconfig(context, "device", tar)
        mount.fsconfig(context, "ro")
        mount.fscreate(context)
        return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)

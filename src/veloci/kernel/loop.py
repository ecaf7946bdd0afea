"""Files as block devices, for file systems that cannot be mounted from a file — loop(4)."""

from __future__ import annotations

import os
from errno import EBUSY, ENXIO
from fcntl import ioctl

from veloci.kernel.call import words

# include/uapi/linux/loop.h
_CONFIGURE, _GET_FREE = 0x4C0A, 0x4C82
_READ_ONLY, _AUTOCLEAR = 1, 4
_SIZE, _FLAGS = 304, 60  # bytes of struct loop_config, and where lo_flags stands in it
SECTOR = 512


def attached(file: int) -> tuple[int, str]:
    """A read-only block device of the open file: its descriptor and its name in /dev.

    It is gone when nobody has it open or mounted any more. Raises OSError.
    """
    # fd, block size; then loop_info64's offset, limit and names, all zero but the flags
    wanted = words(4, file, SECTOR).ljust(_FLAGS, b"\0") + words(4, _READ_ONLY | _AUTOCLEAR)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            name = f"/dev/loop{ioctl(control, _GET_FREE)}"
            device = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                ioctl(device, _CONFIGURE, wanted.ljust(_SIZE, b"\0"))
            except OSError as error:
                os.close(device)
                if error.errno not in (EBUSY, ENXIO):  # another process was quicker
                    raise
            else:
                return device, name
    finally:
        os.close(control)

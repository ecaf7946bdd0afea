"""What killed commands left in the store's ingest/, and its removal."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from time import time

from veloci.content.files import is_at

RESUMED = 86400.0  # seconds for which an interrupted download waits to be resumed, unless room is asked for


def sweep(root: str, older: float = RESUMED) -> int:
    """Remove from the store at `root` the files that nobody writes any more. Returns the bytes freed.

    older: seconds since the last byte after which also what a download left goes, which could be resumed.
    Call it with the lock of leases held exclusively.
    """
    freed = 0
    try:
        names = os.listdir(f"{root}/ingest")
    except FileNotFoundError:
        return 0
    for name in names:
        path = f"{root}/ingest/{name}"
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its writer has ended
        try:
            flock(file, LOCK_EX | LOCK_NB)
            status = os.fstat(file)
            if is_at(file, path) and (name.startswith("new-") or time() - status.st_mtime >= older):
                os.unlink(path)
                freed += status.st_size
        except BlockingIOError:
            pass  # it is being written
        finally:
            os.close(file)
    return freed

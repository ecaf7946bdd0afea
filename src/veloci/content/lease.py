"""A lease: the digests that one running command needs, in a file that it keeps locked.

The kernel drops the lock with the process, however it ends, so no lease outlives its command.
"""

from __future__ import annotations

import atexit
import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from veloci.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.digest import Digest


class Lease:
    """Digests that no collection may remove, until `close` or the end of the process."""

    def __init__(self, root: str) -> None:
        with Locked(root, LOCK_SH):  # no collection takes the new file, not locked yet, for a dead one
            self._path = f"{root}/leases/{os.getpid()}-{os.urandom(6).hex()}"
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            flock(self._file, LOCK_EX)
        self._root, self._pid = root, os.getpid()
        self._noted: set[Digest] = set()
        atexit.register(self._unlink)  # tidier than a file without a lock, which the next collection removes

    def note(self, digest: Digest) -> None:
        """Add a digest. After this returns, whether its blob exists does not change. Raises HostError."""
        if digest in self._noted:
            return
        with Locked(self._root, LOCK_SH):
            try:
                os.write(self._file, f"{digest}\n".encode())
            except OSError as error:
                from veloci.content.ingest import room

                raise HostError(f"note that {digest} is needed", error, hint=room(error)) from error
        self._noted.add(digest)

    def close(self) -> None:
        """End the lease."""
        atexit.unregister(self._unlink)
        self._unlink()
        os.close(self._file)

    def _unlink(self) -> None:
        if os.getpid() == self._pid:  # not a fork of the process that holds it
            os.unlink(self._path)


class Locked:
    """`with` it: the lock between those who need blobs (LOCK_SH) and those who delete them (LOCK_EX)."""

    def __init__(self, root: str, how: int) -> None:
        self._root, self._how = root, how

    def __enter__(self) -> None:
        path = f"{self._root}/leases/lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            from veloci.content.files import made

            made(f"{self._root}/leases")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(self._file, self._how)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def held(root: str) -> Iterator[Digest]:
    """The digests of all live leases; dead ones are removed. Call it with the lock held exclusively."""
    for name in os.listdir(f"{root}/leases"):
        if name == "lock":
            continue
        path = f"{root}/leases/{name}"
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # it ended just now
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            with os.fdopen(os.dup(file), encoding="ascii") as lines:
                yield from lines.read().split()
        else:
            os.unlink(path)
        finally:
            os.close(file)

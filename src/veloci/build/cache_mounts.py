"""RUN --mount=type=cache: directories that last from build to build, and who uses them.

    mounts/<hash>/fs     its files
    mounts/<hash>/lock   locked by those who use it: shared, or alone (sharing=locked, private)
    mounts/<hash>/about  JSON: id, for people

The name is a hash, for an id comes from a Dockerfile (CVE-2024-9675). A second user of a private
one gets another directory, <hash>-1.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from typing import TYPE_CHECKING

from veloci.build.cache import key, locked, remove
from veloci.spec.document import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class CacheMounts:
    """The cache mounts below a build cache's `root`."""

    def __init__(self, root: str) -> None:
        self.root = f"{root}/mounts"

    @contextmanager
    def used(
        self, identity: str, origin: str, sharing: str, fill: Callable[[str], None], wait: Callable[[], None]
    ) -> Iterator[str]:
        """The files' directory, ours as long as the block lasts.

        origin: what it starts from, "" for nothing. sharing: shared, private or locked (waits for its turn).
        fill: makes a new one's directory what it is at first. wait: called while others have it; may raise.
        """
        name, number = key("mount", identity, origin), 0
        while True:
            place = f"{self.root}/{name}-{number}" if number else f"{self.root}/{name}"
            file = self._locked(place, sharing, wait)
            if file >= 0:
                break
            number += 1
        try:
            self._filled(place, identity, fill)
            os.utime(place)
            yield f"{place}/fs"
        finally:
            os.close(file)

    def _locked(self, place: str, sharing: str, wait: Callable[[], None]) -> int:
        """The locked file of the mount at `place`; -1 if it is private and in use."""
        how = LOCK_SH if sharing == "shared" else LOCK_EX
        while True:
            os.makedirs(place, 0o700, exist_ok=True)
            try:
                file = os.open(f"{place}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # pruned just now
            try:
                if sharing == "private":
                    flock(file, how | LOCK_NB)
                else:
                    locked(file, how, wait)
                if os.path.exists(f"{place}/lock") and os.path.samestat(os.stat(f"{place}/lock"), os.fstat(file)):
                    return file
            except BlockingIOError:
                os.close(file)
                return -1
            except FileNotFoundError:
                pass  # pruned while we waited
            os.close(file)

    def _filled(self, place: str, identity: str, fill: Callable[[str], None]) -> None:
        if os.path.isdir(f"{place}/fs"):
            return
        new = f"{place}/new-{os.getpid()}-{os.urandom(6).hex()}"
        os.mkdir(new, 0o755)
        fill(new)
        with open(f"{place}/about", "wb") as file:
            file.write(dumps({"id": identity}))
        try:
            os.rename(new, f"{place}/fs")
        except OSError:  # another build was first
            remove(new)

    def all(self) -> Iterator[tuple[str, str, float]]:
        """Name, id, and when it was used last, of each."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return
        for name in names:
            identity = ""
            broken = suppress(OSError, ValueError, StopIteration, KeyError, TypeError)
            with broken, open(f"{self.root}/{name}/about", "rb") as file:
                identity = str(loads(file.read())["id"])
            with suppress(FileNotFoundError):
                yield name, identity, os.stat(f"{self.root}/{name}").st_mtime

    def size(self, name: str) -> int:
        """Its bytes on the disk."""
        from veloci.layer.tree import used

        try:
            directory = os.open(f"{self.root}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            return used(directory)
        finally:
            os.close(directory)

    def remove(self, name: str) -> bool:
        """Delete one that nobody uses. False if somebody does."""
        place, grave = f"{self.root}/{name}", f"{self.root}/gone-{os.urandom(6).hex()}"
        if name.startswith("gone-"):
            remove(place)
            return True
        file = os.open(f"{place}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(file, LOCK_EX | LOCK_NB)
            os.rename(place, grave)
        except BlockingIOError:
            return False
        finally:
            os.close(file)
        remove(grave)
        return True

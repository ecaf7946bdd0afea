"""Uploads that a process began and did not end: the next one goes on with them, also after kill -9."""

from __future__ import annotations

import os

from veloci.blocks import suppress
from veloci.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

OLD = 7 * 86400  # seconds after which no registry remembers an upload


class Unfinished:
    """The record of one upload, `with` which it is made: nobody else goes on with it meanwhile.

    folder: where records are; None keeps none. key: what is sent where, in words. `address` is where the registry
    said that it goes on, "" if there is none, or if another process is at it: then nothing is recorded.
    """

    def __init__(self, folder: str | None, key: str) -> None:
        from veloci.spec.digest import of

        self._folder = folder
        self._path = f"{folder}/{of(key.encode())[7:]}"
        self._file = -1
        self.address = ""

    def __enter__(self) -> Self:
        from fcntl import LOCK_EX, LOCK_NB, flock

        if self._folder is None:
            return self
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._sweep(self._folder)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            flock(self._file, LOCK_EX | LOCK_NB)
            text = os.pread(self._file, 8192, 0).decode("ascii", "replace")
        except BlockingIOError:
            os.close(self._file)
            self._file = -1
            return self
        except OSError as error:
            raise HostError("remember an upload", error, where=self._folder) from error
        self.address = text.removesuffix("\n") if text.endswith("\n") else ""  # else it was cut
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def note(self, address: str) -> None:
        """Remember where it goes on."""
        if self._file >= 0 and address.isascii() and len(address) < 8000:
            try:
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, f"{address}\n".encode(), 0)
            except OSError as error:
                raise HostError("remember an upload", error, where=self._path) from error

    def done(self) -> None:
        """Forget it: it is whole."""
        if self._file >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def _sweep(self, folder: str) -> None:
        """Forget what is too old."""
        from time import time

        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time() - OLD:
                        os.unlink(entry.path)

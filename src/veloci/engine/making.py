"""Containers that are being made or removed, so that what killed commands left is found without a look at the others.

.making/ID        the name it is to have; locked by the command that makes it, gone once it is whole
.making/.ID       the same, before it is locked
.making/.gone-ID  the directory of one that is being removed, locked by the command that does it
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE = ".gone-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Making:
    """The directory `.making`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._marks: dict[str, int] = {}  # ID -> descriptor of the lock, of what this process is making or clears away
        self._graves: dict[str, int] = {}  # the same, of what it is removing

    def begin(self, id: str) -> None:
        """From now on, and until `end`, it counts as abandoned when this process ends."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        part = f"{self._directory}/.{id}"
        while True:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            flock(descriptor, LOCK_EX)
            try:
                os.rename(part, f"{self._directory}/{id}")  # whoever sees it sees it locked
            except FileNotFoundError:  # another command took it for abandoned before it was locked
                os.close(descriptor)
                continue
            self._marks[id] = descriptor
            return

    def named(self, id: str, name: str) -> None:
        """It is about to take this name."""
        if id in self._marks:
            os.pwrite(self._marks[id], name.encode() + bytes(128 - len(name)), 0)

    def bury(self, id: str, path: str) -> None:
        """Take the directory of one that goes out of sight, in one step; `end` removes it. It may be gone already."""
        try:
            descriptor = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            return
        os.makedirs(self._directory, 0o700, exist_ok=True)
        flock(descriptor, LOCK_EX)
        try:
            os.rename(path, f"{self._directory}/{_GONE}{id}")
        except FileNotFoundError:  # another command was quicker
            os.close(descriptor)
            return
        self._graves[id] = descriptor

    def end(self, id: str) -> None:
        """It is whole, or gone for good."""
        if id in self._marks:
            _unlink(f"{self._directory}/{id}")
            os.close(self._marks.pop(id))
        if id in self._graves:
            _remove(self._directory, f"{_GONE}{id}")
            os.close(self._graves.pop(id))

    def busy(self, id: str) -> bool:
        """Whether another command is making it."""
        descriptor = _locked(f"{self._directory}/{id}", os.O_RDWR)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None and os.path.exists(f"{self._directory}/{id}")

    def abandoned(self) -> Iterator[tuple[str, str]]:
        """What killed commands were making or removing: ID and name ("": it has none), locked until `end`."""
        try:
            entries = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for entry in entries:
            if entry in self._marks or entry.removeprefix(_GONE) in self._graves:
                continue
            path, gone = f"{self._directory}/{entry}", entry.startswith(_GONE)
            descriptor = _locked(path, _DIRECTORY if gone else os.O_RDWR)
            if descriptor is None:
                continue
            if gone:
                self._graves[entry.removeprefix(_GONE)] = descriptor
                yield entry.removeprefix(_GONE), ""
            elif entry.startswith("."):
                _unlink(path)
                os.close(descriptor)
            else:
                self._marks[entry] = descriptor
                yield entry, os.read(descriptor, 256).rstrip(b"\0").decode(errors="replace")


def _locked(path: str, flags: int) -> int | None:
    """A descriptor that has the lock; None if another process has it or nothing is there."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(parent: str, name: str) -> None:
    from veloci.layer.tree import remove_tree

    directory = os.open(parent, _DIRECTORY)
    try:
        remove_tree(directory, name.encode())
    finally:
        os.close(directory)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return

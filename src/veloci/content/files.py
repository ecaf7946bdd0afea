"""Files that appear whole and last: written aside under a lock, synced, renamed."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, flock

from veloci.blocks import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

AHEAD = 8 << 20  # bytes after which the kernel is told to begin to write them, so that little is left to wait for


def made(path: str) -> None:
    """Make the directory `path` and those above it, for us alone."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:  # os.makedirs would leave those above to the umask
        made(os.path.dirname(path))
        made(path)


@contextmanager
def temporary(root: str) -> Generator[tuple[int, str]]:
    """A new file in the store's ingest/, locked so that a collection spares it; gone at the end unless renamed."""
    made(f"{root}/ingest")
    path = f"{root}/ingest/new-{os.getpid()}-{os.urandom(6).hex()}"
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(file, LOCK_EX)
        if is_at(file, path):
            break
        os.close(file)  # a collection came between open and lock
    try:
        yield file, path
    finally:
        if is_at(file, path):
            os.unlink(path)
        os.close(file)


def is_at(file: int, path: str) -> bool:
    """Whether `path` is still a name of the open `file`."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(file)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def write(file: int, data: bytes, at: int) -> None:
    """Write all of `data` at offset `at`."""
    rest = memoryview(data)
    while rest:
        size = os.pwrite(file, rest, at)
        rest, at = rest[size:], at + size


def kept(file: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, each written to the empty `file` before it is passed on; soon they are on their way to the disk."""
    at = begun = 0
    for chunk in chunks:
        write(file, chunk, at)
        at += len(chunk)
        if at - begun >= AHEAD:
            from veloci.kernel.files import begin_write_back

            begin_write_back(file, begun, at - begun)
            begun = at
        yield chunk


def appear(file: int, path: str, target: str) -> None:
    """Give the written file at `path` its name `target`: its bytes are on the disk before the name is."""
    os.fdatasync(file)
    os.rename(path, target)
    sync_names(os.path.dirname(target) or ".")


def sync_names(path: str) -> None:
    """Bring the names in the directory `path` to the disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def replace(root: str, target: str, data: bytes) -> None:
    """Write `data` to `target` below the store's `root`: the old content or the new, also after a power cut."""
    with temporary(root) as (file, path):
        write(file, data, 0)
        appear(file, path, target)


def create(root: str, target: str, data: bytes) -> None:
    """Write `data` to `target` below the store's `root`, unless it is there or another comes first."""
    with temporary(root) as (file, path):
        write(file, data, 0)
        os.fdatasync(file)
        with suppress(FileExistsError):
            os.link(path, target)

"""A tar file, written reproducibly: no times, no owners, sizes known afterwards."""

from __future__ import annotations

import os
import tarfile

from veloci.content.files import appear, write
from veloci.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    Sink: TypeAlias = Callable[[Iterator[bytes], int], None]  # takes the archive's chunks, and how many bytes they are

BLOCK = 512


class Writer:
    """A tar in a file beside `path`, which it becomes when it is `done`; to a pipe or terminal it is copied then."""

    def __init__(self, path: str | int | Sink) -> None:
        """path: a file's, the descriptor of what to write to at the end, or what takes it then. Raises HostError."""
        self._target = path
        self.names: set[str] = set()
        self._end = 0
        self._aside = ""
        try:
            if not isinstance(path, str) or (os.path.exists(path) and not os.path.isfile(path)):
                from tempfile import TemporaryFile

                with TemporaryFile(prefix="veloci-") as spool:
                    self._file = os.dup(spool.fileno())
            else:
                aside = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}-{os.getpid()}"
                self._file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
                self._aside = aside
        except OSError as error:
            raise HostError("write", error, where=str(path)) from error

    def add(self, name: str, data: bytes) -> None:
        """Add a small file, unless it is there."""
        if name not in self.names:
            self.stream(lambda: name, (data,))

    def stream(self, name: Callable[[], str], chunks: Iterable[bytes]) -> None:
        """Add a file of any length; `name` is called for its name when all of `chunks` is written."""
        at = start = self._end + BLOCK
        try:
            os.ftruncate(self._file, self._end)  # of one that failed
            for chunk in chunks:
                write(self._file, chunk, at)
                at += len(chunk)
        except OSError as error:
            raise HostError("write the archive", error, where=str(self._target)) from error
        chosen = name()
        if chosen in self.names:
            os.ftruncate(self._file, self._end)
            return
        info = tarfile.TarInfo(chosen)
        info.size, info.mode = at - start, 0o644
        write(self._file, info.tobuf(tarfile.GNU_FORMAT), self._end)
        self.names.add(chosen)
        self._end = at + -(at - start) % BLOCK

    def done(self) -> None:
        """End the archive, and put it where it belongs. Raises HostError."""
        try:
            os.ftruncate(self._file, self._end + 2 * BLOCK)
            if self._aside:
                appear(self._file, self._aside, str(self._target))
                self._aside = ""
            elif callable(self._target):
                self._target(self._chunks(), self._end + 2 * BLOCK)
            else:
                self._pour(self._target)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise HostError("write the archive", error, where=str(self._target)) from error

    def close(self) -> None:
        """Drop what is not done."""
        os.close(self._file)
        if self._aside:
            os.unlink(self._aside)

    def _chunks(self) -> Iterator[bytes]:
        at = 0
        while chunk := os.pread(self._file, 1 << 20, at):
            yield chunk
            at += len(chunk)

    def _pour(self, target: str | int) -> None:
        out = target if isinstance(target, int) else os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for chunk in self._chunks():
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(out, rest) :]
        finally:
            if out != target:
                os.close(out)

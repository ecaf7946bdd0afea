"""A folder or a tar file as named files to read; names never lead out of it."""

from __future__ import annotations

import os
import tarfile
from contextlib import contextmanager
from posixpath import dirname, join, normpath
from stat import S_ISREG
from tempfile import TemporaryFile

from veloci.errors import Corrupt, HostError, InvalidInput, NotFound
from veloci.layer.stream import CHUNK, Verified, decompressed, detect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import IO, Any, Protocol

    from veloci.spec.image import Descriptor

    class Files(Protocol):
        """Named files, however they are kept."""

        name: str

        def __contains__(self, name: str) -> bool: ...
        def size(self, name: str) -> int:
            """The length of a file in bytes. Raises NotFound."""

        def chunks(self, name: str, start: int = 0) -> Generator[bytes]:
            """The file's bytes from `start` on. Raises NotFound."""

        def close(self) -> None:
            """Close what is open."""


DOCUMENT = 4 << 20  # bytes of a document, at most
HEADER, HEADERS = 1 << 20, 64 << 20  # bytes of one header of a tar, and of all of them
LINKS = 8  # that a name may lead through


class Folder:
    """The files below a directory; a file that is a symbolic link is not followed."""

    def __init__(self, path: str) -> None:
        self.name = path

    def __contains__(self, name: str) -> bool:
        return os.path.isfile(f"{self.name}/{name}")

    def size(self, name: str) -> int:
        """See Files."""
        file = self._open(name)
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def chunks(self, name: str, start: int = 0) -> Generator[bytes]:
        """See Files."""
        file = self._open(name)
        try:
            while chunk := os.pread(file, CHUNK, start):
                start += len(chunk)
                yield chunk
        finally:
            os.close(file)

    def close(self) -> None:
        """Nothing is open."""

    def _open(self, name: str) -> int:
        try:
            file = os.open(f"{self.name}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"it has no {name}", where=self.name) from None
        except OSError as error:
            raise HostError(f"open {name}", error, where=self.name) from error
        if not S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise InvalidInput(f"{name} is not a regular file", where=self.name)
        return file


class Archive:
    """The files of a tar, compressed or not, in a file or coming from a pipe; its links lead within it only."""

    def __init__(self, path: str | int) -> None:
        """path: a file's, "-" or a descriptor. Raises NotFound, InvalidInput for what is no whole tar."""
        self.name = "standard input" if path in ("-", 0) else str(path)
        try:
            if isinstance(path, int) or path == "-":
                file = os.dup(path if isinstance(path, int) else 0)
            else:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("no such file", where=self.name) from None
        except OSError as error:
            raise HostError("open", error, where=self.name) from error
        self._file = _seekable(file)
        self._places: dict[str, tuple[int, int]] = {}  # name -> offset, size
        self._links: dict[str, str] = {}
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def __contains__(self, name: str) -> bool:
        return self._resolved(name) in self._places

    def size(self, name: str) -> int:
        """See Files."""
        return self._place(name)[1]

    def chunks(self, name: str, start: int = 0) -> Generator[bytes]:
        """See Files."""
        offset, size = self._place(name)
        while start < size:
            chunk = os.pread(self._file, min(CHUNK, size - start), offset + start)
            if not chunk:
                raise Corrupt(f"{self.name}: {name}", want=f"{size} bytes", got=str(start))
            start += len(chunk)
            yield chunk

    def close(self) -> None:
        """See Files."""
        os.close(self._file)

    def _index(self) -> None:
        """Read every header."""
        with os.fdopen(os.dup(self._file), "rb") as file:
            headers: Any = _Headers(file)
            try:
                with tarfile.open(fileobj=headers, mode="r:") as tar:
                    for member in tar:
                        if member.size < 0:
                            raise ValueError(f"an entry of {member.size} bytes")
                        name = _plain(member.name)
                        self._places.pop(name, None)
                        if member.isreg() and not member.issparse():
                            self._places[name] = member.offset_data, member.size
                        elif member.issym():
                            self._links[name] = _plain(join(dirname(member.name), member.linkname))
                        elif member.islnk():
                            self._links[name] = _plain(member.linkname)
                    end = tar.offset
            except (tarfile.TarError, ValueError, OverflowError) as error:
                raise InvalidInput(f"not a tar file: {error}", where=self.name) from None
        # tarfile takes a damaged header for the end: what is left must be nothing, or zeros.
        if any(os.pread(self._file, 1024, max(0, end - 512))[512:] if end else b"") or self._cut(end):
            raise InvalidInput("the tar file is damaged", where=self.name)

    def _cut(self, end: int) -> bool:
        size = os.fstat(self._file).st_size
        return any(offset + length > size for offset, length in self._places.values()) or end > size + 1024

    def _resolved(self, name: str) -> str:
        name = _plain(name)
        for _ in range(LINKS):
            if name not in self._links or name in self._places:
                break
            name = self._links[name]
        return name

    def _place(self, name: str) -> tuple[int, int]:
        try:
            return self._places[self._resolved(name)]
        except KeyError:
            raise NotFound(f"it has no {name}", where=self.name) from None


class _Headers:
    """A tar as tarfile reads its headers: a bounded number of bytes of it, and forward.

    By itself, tarfile reads a header of any size in one piece, and goes back where a size is negative (CVE-2025-8194).
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, HEADERS
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """The next bytes. Raises ValueError."""
        if not 0 <= size <= HEADER:
            raise ValueError(f"a header of {size} bytes")
        self._left -= size
        if self._left < 0:
            raise ValueError(f"more than {HEADERS} bytes of headers")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        """Go on at `offset`. Raises ValueError."""
        if offset < self._file.tell():
            raise ValueError("an entry that ends before it begins")
        return self._file.seek(offset)


@contextmanager
def opened(files: Files, name: str, start: int = 0) -> Generator[Iterator[bytes]]:
    """A file's chunks, and the file closed at the end."""
    chunks = files.chunks(name, start)
    try:
        yield chunks
    finally:
        chunks.close()


def read(files: Files, name: str) -> bytes:
    """A whole small file. Raises NotFound, InvalidInput for one of more than 4 MiB."""
    if files.size(name) > DOCUMENT:
        raise InvalidInput(f"{name} has more than {DOCUMENT} bytes", where=files.name)
    return b"".join(files.chunks(name))


def document(files: Files, name: str, descriptor: Descriptor) -> bytes:
    """A whole manifest or index, verified. Raises NotFound, Corrupt, InvalidInput for one of more than 4 MiB."""
    if descriptor.size > DOCUMENT:
        raise InvalidInput(f"{name} has more than {DOCUMENT} bytes", where=files.name)
    with opened(files, name) as chunks, Verified(chunks, descriptor.digest, descriptor.size) as checked:
        return b"".join(checked)


def _plain(name: str) -> str:
    return normpath("/" + name).lstrip("/")


def _seekable(file: int) -> int:
    """A descriptor of the same content, uncompressed and seekable; `file` is closed if it is another."""
    try:
        head = os.pread(file, 6, 0)
        if not detect(head):
            return file
    except OSError:  # a pipe
        pass
    with os.fdopen(file, "rb", buffering=0) as source, TemporaryFile("wb", buffering=0, prefix="veloci-") as spool:
        for chunk in decompressed(iter(lambda: source.read(CHUNK), b"")):
            rest = memoryview(chunk)
            while rest:
                rest = rest[spool.write(rest) :]
        copy = os.dup(spool.fileno())
    os.lseek(copy, 0, os.SEEK_SET)
    return copy

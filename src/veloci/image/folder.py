"""Files of the host as a layer: a tar as it is, a directory's content or one file somewhere in the image; removals."""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISREG

from veloci.errors import HostError, InvalidInput, NotFound
from veloci.layer.diff import Status, Walk, chunked, whiteout
from veloci.layer.stream import CHUNK, decompressed, detect
from veloci.layer.tar import BLOCK, ZERO, Reader, check
from veloci.layer.whiteout import OPAQUE
from veloci.layer.write import END, header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def layer_of(path: str, at: str, *, opaque: bool = False, epoch: int | None = None) -> Iterator[bytes]:
    """The uncompressed layer of a tar file (plain, gzip, zstd, xz, bzip2), a directory or a plain file.

    at: where in the image a directory's content or a file goes; a tar's names are whole. opaque: hide what lower
    layers have in the directory `at`. epoch: the latest time (s) of a file. Raises NotFound, InvalidInput, HostError.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("no such file", where=path) from None
    except OSError as error:
        raise HostError("open", error, where=path) from error
    mode = os.fstat(file).st_mode
    if S_ISDIR(mode):
        return chunked(_directory(file, _inside(at), Walk(epoch), opaque=opaque))
    if not S_ISREG(mode):
        os.close(file)
        raise InvalidInput("is neither a file nor a directory", where=path)
    if _is_tar(os.pread(file, 512, 0)):
        return _tar(file, path)
    return chunked(_file(file, path, _inside(at) or os.fsencode(os.path.basename(path)), Walk(epoch)))


def removal(paths: Iterable[str]) -> Iterator[bytes]:
    """A layer that removes paths. Raises InvalidInput."""
    names = sorted({_inside(path) for path in paths})
    if b"" in names:
        raise InvalidInput("the root cannot be removed", where="--remove")
    yield b"".join(map(whiteout, names)) + END


def _inside(path: str) -> bytes:
    from posixpath import normpath

    return os.fsencode(normpath("/" + path).strip("/"))


def _is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar, or compressed, and so supposed to hold one."""
    if detect(head) or head[257:262] == b"ustar":
        return True
    if len(head) < BLOCK:
        return False
    try:  # before ustar there was no mark but the header's sum: V7's tar, and cpio's of that name
        check(head, head[148:156])
    except InvalidInput:
        return head == ZERO
    return True


def _tar(file: int, path: str) -> Iterator[bytes]:
    """The tar's bytes; it is read as one on the way."""

    def chunks() -> Iterator[bytes]:
        at = 0
        while chunk := os.pread(file, CHUNK, at):
            yield chunk
            at += len(chunk)

    passed: list[bytes] = []

    def kept() -> Iterator[bytes]:
        for chunk in decompressed(chunks()):
            passed.append(chunk)
            yield chunk

    try:
        for _entry in Reader(kept()):
            yield from passed
            passed.clear()
        yield from passed
    except InvalidInput as error:
        raise InvalidInput(f"not a layer: {error}", where=path) from None
    finally:
        os.close(file)


def _directory(root: int, at: bytes, walk: Walk, *, opaque: bool) -> Iterator[bytes]:
    prefix = at + b"/" if at else b""
    try:
        if at:
            yield walk.directory(prefix, Status(root, b"."))
        if opaque:
            yield header(prefix + OPAQUE, b"0", mode=0)
        yield from walk.inside(prefix, root, None)
        yield END
    finally:
        os.close(root)


def _file(file: int, path: str, at: bytes, walk: Walk) -> Iterator[bytes]:
    directory, name = os.path.split(os.path.abspath(path))
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield from walk.file(at, os.fsencode(name), parent, Status(parent, os.fsencode(name)))
        yield END
    finally:
        os.close(parent)
        os.close(file)

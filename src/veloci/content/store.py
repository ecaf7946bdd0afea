"""Blobs: open, read, write. Reading imports almost nothing: a container's start goes through here."""

from __future__ import annotations

import os
from _thread import allocate_lock
from errno import ELOOP
from stat import S_ISREG

from veloci.errors import Corrupt, HostError, InvalidInput, NotFound
from veloci.spec import digest as digests
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from veloci.content.ingest import Claim
    from veloci.content.lease import Lease
    from veloci.spec.digest import Digest

CHUNK = 1 << 20  # bytes
DOCUMENT = 4 << 20  # bytes of the largest document: a manifest, an index, a config


class Store:
    """Content by digest, under the directory `root`.

    What a Store object wrote, or said it `has`, no collection removes before the object's lease
    ends: with the outermost `leased` block, or else with the process.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = allocate_lock()  # threads share one lease
        self._lease: Lease | None = None
        self._depth: list[None] = []  # one for each `leased` block inside which we are

    def path(self, digest: Digest) -> str:
        """Where the blob is or would be. Raises InvalidInput for what is no digest: it may come from anywhere."""
        if not digests.valid(digest):
            raise InvalidInput(f"{digest!r} is not a digest")
        algorithm, _, encoded = digest.partition(":")
        return f"{self.root}/blobs/{algorithm}/{encoded}"

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here, whole. If so it stays until this object's lease ends."""
        path = self.path(descriptor.digest)
        if not _is_whole(path, descriptor.size):
            return False
        self.note(descriptor.digest)
        return _is_whole(path, descriptor.size)  # a collection may have come in between

    def open(self, descriptor: Descriptor, start: int = 0) -> Blob:
        """The blob from byte `start` on: a context manager that gives an iterator of chunks of at most 1 MiB.

        The bytes are not verified again. Raises NotFound, Corrupt for a file of another size or kind.
        """
        return Blob(self._opened(descriptor), start)

    def read(self, descriptor: Descriptor) -> bytes:
        """A whole document of at most 4 MiB, verified. Raises NotFound, Corrupt, InvalidInput for a larger one."""
        if descriptor.size > DOCUMENT:
            raise InvalidInput(f"{descriptor.digest} has {descriptor.size} bytes, too many for a document")
        with Blob(self._opened(descriptor), 0) as chunks:
            data = b"".join(chunks)
        got = digests.of(data)
        if not descriptor.digest.startswith("sha256:"):
            hasher = digests.hasher(descriptor.digest)
            hasher.update(data)
            got = f"{hasher.name}:{hasher.hexdigest()}"
        if got != descriptor.digest:
            raise Corrupt("content", want=descriptor.digest, got=got)
        return data

    def claim(self, descriptor: Descriptor) -> AbstractContextManager[Claim]:
        """The right to write the blob; waits while another process writes it, takes over when that one dies.

        with store.claim(layer) as claim:
            if not claim.whole:
                with fetch(layer, claim.start) as wire, claim.keeping(wire) as chunks: ...
        """
        from veloci.content.ingest import claim

        return claim(self, descriptor)

    def keeping(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> AbstractContextManager[Iterator[bytes]]:
        """Pass `chunks` through, and store them on the way.

        The blob appears when the block ends well and every byte was right, or not at all. What the
        block did not read is read then. Raises Corrupt, HostError (disk full).
        """
        from veloci.content.ingest import keeping

        return keeping(self, descriptor, chunks)

    def ingest(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Store `chunks`; nothing appears unless all of it is right. Raises Corrupt, HostError (disk full)."""
        with self.keeping(descriptor, chunks):
            pass

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Store `chunks`, whose digest is not known beforehand. Returns their descriptor."""
        from veloci.content.ingest import adopt

        return adopt(self, chunks, media_type)

    def put(self, data: bytes, media_type: str, annotations: dict[str, str] | None = None) -> Descriptor:
        """Store `data`, all in memory: a document. Returns its descriptor."""
        from veloci.content.ingest import put

        digest = put(self, data)
        return Descriptor(media_type=media_type, digest=digest, size=len(data), annotations=annotations or {})

    def partial(self, digest: Digest) -> int:
        """How many bytes an interrupted download of the blob left, from its start on."""
        try:
            return os.lstat(self.partial_path(digest)).st_size
        except FileNotFoundError:
            return 0

    def partial_path(self, digest: Digest) -> str:
        """Where the blob is while it is written; locked by its writer."""
        return f"{self.root}/ingest/{self.path(digest)[len(self.root) + len('/blobs/') :].replace('/', '-')}"

    def remove(self, digest: Digest) -> int:
        """Delete a blob, whoever may need it. Returns the bytes freed, 0 if it is not here."""
        path = self.path(digest)
        try:
            size = os.lstat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        return size

    def digests(self) -> Iterator[Digest]:
        """The digest of every blob, in no order; what has another name there is passed over."""
        for algorithm in _names(f"{self.root}/blobs"):
            for encoded in _names(f"{self.root}/blobs/{algorithm}"):
                digest = f"{algorithm}:{encoded}"
                if digests.valid(digest):
                    yield digest

    def note(self, digest: Digest) -> None:
        """Keep `digest` from collection until this object's lease ends."""
        with self._lock:
            if self._lease is None:
                from veloci.content.lease import Lease

                self._lease = Lease(self.root)
            lease = self._lease
        lease.note(digest)

    def leased(self) -> Leased:
        """A block at whose end the lease ends; for processes that live long. Blocks may nest."""
        return Leased(self)

    def _opened(self, descriptor: Descriptor) -> int:
        path = self.path(descriptor.digest)
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            hint = f"it is said to be at {descriptor.urls[0]}" if descriptor.urls else "pull the image again"
            raise NotFound(f"blob {descriptor.digest} is not in {self.root}", hint=hint) from None
        except OSError as error:
            if error.errno == ELOOP:
                raise Corrupt(descriptor.digest, want="a plain file", got="a symlink") from None
            raise HostError(f"open blob {descriptor.digest}", error) from error
        status = os.fstat(file)
        if not S_ISREG(status.st_mode) or status.st_size != descriptor.size:
            os.close(file)
            raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got=str(status.st_size))
        return file


class Blob:
    """An open blob; `with` gives its chunks and closes it."""

    def __init__(self, file: int, start: int) -> None:
        self._file = file
        self._at = start

    def __enter__(self) -> Iterator[bytes]:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = os.pread(self._file, CHUNK, self._at)
        if not chunk:
            raise StopIteration
        self._at += len(chunk)
        return chunk


class Leased:
    """A `with` block that ends a store's lease."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store._depth.append(None)

    def __exit__(self, *_: object) -> None:
        store = self._store
        store._depth.pop()
        lease = store._lease
        if lease is not None and not store._depth:
            store._lease = None
            lease.close()


def _is_whole(path: str, size: int) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return S_ISREG(status.st_mode) and status.st_size == size


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []

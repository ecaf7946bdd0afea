"""Writing blobs: one writer each, whole or not at all, resumed where an earlier writer stopped."""

from __future__ import annotations

import os
from errno import EDQUOT, ENOSPC
from fcntl import LOCK_EX, flock

from veloci.blocks import contextmanager
from veloci.content.files import AHEAD, appear, create, is_at, kept, made, replace, temporary, write
from veloci.errors import Corrupt, HostError, InvalidInput
from veloci.kernel.files import begin_write_back
from veloci.layer.stream import CHUNK, Hashed, Verified
from veloci.spec import digest as digests
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from veloci.content.store import Store
    from veloci.spec.digest import Digest

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
WORTH = 1 << 20  # bytes of an interrupted download that are worth keeping


class Claim:
    """The right to write one blob.

    whole: it is here already, there is nothing to do. start: how many of its first bytes an
    interrupted writer left; `keeping` wants the bytes from there on.
    """

    def __init__(self, store: Store, descriptor: Descriptor, file: int) -> None:
        self._store, self._descriptor, self._file = store, descriptor, file
        self.whole = file < 0
        self.start = 0 if self.whole else os.fstat(file).st_size
        if self.start > descriptor.size:
            self.restart()

    def restart(self) -> None:
        """Forget the kept bytes: the other side cannot send the rest alone. A blob that is whole stays."""
        if not self.whole:
            os.ftruncate(self._file, 0)
        self.start = 0

    @contextmanager
    def keeping(self, chunks: Iterable[bytes]) -> Generator[Iterator[bytes]]:
        """Give the whole blob, the kept bytes before `chunks`, and store `chunks` on the way.

        It appears when the block ends well and every byte was right. Raises Corrupt, HostError.
        """
        descriptor = self._descriptor
        if self.whole:
            with Verified(chunks, descriptor.digest, descriptor.size) as checked:
                yield checked
            return
        checked = Verified(self._joined(chunks), descriptor.digest, descriptor.size)
        try:
            yield self._written(checked)
            for _chunk in self._written(checked):
                pass
            checked.finish()
            publish(self._store, self._file, self._store.partial_path(descriptor.digest), descriptor.digest)
        except OSError as error:
            if not room(error):
                raise
            self._drop()
            raise HostError(f"store {descriptor.digest}", error, hint=room(error)) from error
        except (Corrupt, InvalidInput):
            self._drop()
            raise
        self.whole = True

    def _joined(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        at = 0
        while at < self.start and (before := os.pread(self._file, min(CHUNK, self.start - at), at)):
            at += len(before)
            yield before
        yield from chunks

    def _written(self, checked: Verified) -> Iterator[bytes]:
        begun = max(self.start, checked.count)
        for chunk in checked:
            if checked.count > self.start:
                write(self._file, chunk, checked.count - len(chunk))
            if checked.count - begun >= AHEAD:
                begin_write_back(self._file, begun, checked.count - begun)
                begun = checked.count
            yield chunk

    def _drop(self) -> None:
        os.unlink(self._store.partial_path(self._descriptor.digest))

    def close(self) -> None:
        """Give the claim up; what was written stays for the next one if it is worth it."""
        if self._file < 0:
            return
        path = self._store.partial_path(self._descriptor.digest)
        if not self.whole and is_at(self._file, path) and os.fstat(self._file).st_size < WORTH:
            os.unlink(path)
        os.close(self._file)
        self._file = -1


@contextmanager
def claim(store: Store, descriptor: Descriptor) -> Generator[Claim]:
    """See Store.claim."""
    held = Claim(store, descriptor, _lock(store, descriptor))
    try:
        if not held.whole and held.start == descriptor.size > 0:  # its writer died before the last step
            try:
                with held.keeping(()):
                    pass
            except Corrupt:
                held.close()
                held = Claim(store, descriptor, _lock(store, descriptor))
        yield held
    finally:
        held.close()


@contextmanager
def keeping(store: Store, descriptor: Descriptor, chunks: Iterable[bytes]) -> Generator[Iterator[bytes]]:
    """See Store.keeping."""
    with claim(store, descriptor) as held:
        if held.start:
            held.restart()
        with held.keeping(chunks) as passing:
            yield passing


def put(store: Store, data: bytes) -> Digest:
    """See Store.put."""
    digest = digests.of(data)
    if not store.has(Descriptor(media_type="", digest=digest, size=len(data))):
        with _written_aside(store) as (file, path):
            write(file, data, 0)
            publish(store, file, path, digest)
    return digest


def adopt(store: Store, chunks: Iterable[bytes], media_type: str) -> Descriptor:
    """See Store.adopt."""
    hashed = Hashed(chunks)
    with _written_aside(store) as (file, path):
        for _chunk in kept(file, hashed):
            pass
        descriptor = Descriptor(media_type=media_type, digest=hashed.digest, size=hashed.size)
        if not store.has(descriptor):
            publish(store, file, path, descriptor.digest)
    return descriptor


@contextmanager
def _written_aside(store: Store) -> Generator[tuple[int, str]]:
    lay_out(store.root)
    try:
        with temporary(store.root) as aside:
            yield aside
    except OSError as error:
        raise HostError("store a blob", error, hint=room(error)) from error


def publish(store: Store, file: int, path: str, digest: Digest) -> None:
    """Give the written file at `path` its place among the blobs."""
    store.note(digest)
    target = store.path(digest)
    made(os.path.dirname(target))
    appear(file, path, target)


def _lock(store: Store, descriptor: Descriptor) -> int:
    """The locked partial file of the blob, or -1 if the blob is here."""
    path = store.partial_path(descriptor.digest)
    made(f"{store.root}/ingest")
    lay_out(store.root)
    while not store.has(descriptor):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        flock(file, LOCK_EX)
        if is_at(file, path):
            if not store.has(descriptor):
                return file
            os.unlink(path)  # it came another way meanwhile
        os.close(file)
    return -1


def room(error: OSError) -> str:
    """What to do if `error` says that the disk is full, else ""."""
    return "make room: veloci system prune" if error.errno in (ENOSPC, EDQUOT) else ""


def lay_out(root: str) -> None:
    """Make `root` an OCI image layout, if it is none yet."""
    if not os.path.exists(f"{root}/oci-layout"):
        if not os.path.exists(f"{root}/index.json"):
            create(root, f"{root}/index.json", b'{"schemaVersion":2,"manifests":[]}')
        replace(root, f"{root}/oci-layout", LAYOUT)  # the last: it says that all is there

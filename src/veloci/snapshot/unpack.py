"""Layers into their directories: once across processes, side by side, whole or not at all."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_SH, flock

from veloci.kernel.files import sync_filesystem
from veloci.layer.stream import Verified, decompressed
from veloci.layer.tree import remove_tree
from veloci.snapshot.forms import Archive, Directory
from veloci.snapshot.snapshots import Lock, made
from veloci.spec import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import Any, Self

    from veloci.content.store import Store
    from veloci.snapshot.forms import Form
    from veloci.snapshot.snapshots import Snapshots
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor


class Claim:
    """The right to make one layer: its locked directory in ingest/, or nothing to do if `whole`."""

    def __init__(self, snapshots: Snapshots, chain_id: Digest, parent: Digest) -> None:
        self.snapshots, self.chain_id, self.parent = snapshots, chain_id, parent
        self.path = f"{snapshots.root}/ingest/{os.path.basename(snapshots.layer(chain_id))}"
        self._form: Form | None = None
        self._file = self._lock()
        self.whole = self._file < 0

    @property
    def fs(self) -> str:
        """Where the layer's files go."""
        return f"{self.path}/fs"

    def _lock(self) -> int:
        made(f"{self.snapshots.root}/ingest")
        while not self.snapshots.has(self.chain_id):
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            try:
                file = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            flock(file, LOCK_EX)
            if _is_at(file, self.path) and not self.snapshots.has(self.chain_id):
                for name in os.listdir(file):  # of one who died
                    remove_tree(file, os.fsencode(name))
                return file
            os.close(file)
        return -1

    def read(self, chunks: Iterable[bytes]) -> None:
        """Take the tar, but for what needs the layers below."""
        self._form = Archive(self.path) if self.snapshots.driver == "erofs" else Directory(self.path)
        self._form.read(chunks)

    def settle(self, below: list[str], trees: dict[str, int] | None = None) -> None:
        """Do what needs the layers below, whose directories are `below`, top first. trees: see overlay.mounted."""
        assert self._form is not None
        if not below or not self._form.wants:
            self._form.settle(None)
            return
        with _together(self.snapshots, below, trees) as lower:
            self._form.settle(lower)

    def publish(self) -> None:
        """Give the layer its place; its files are on the disk already."""
        snapshots = self.snapshots
        names = [os.path.basename(self.path)]
        if self.parent:
            names += [
                path.split("/")[-2] for path in snapshots._lowers(snapshots.layer(self.parent), "the layer below")
            ]
        with open(f"{self.path}/lowers", "w", encoding="ascii") as file:
            file.write("".join(f"{name}\n" for name in names))
            file.flush()
            os.fdatasync(file.fileno())
        made(f"{snapshots.root}/layers")
        os.rename(self.path, snapshots.layer(self.chain_id))
        self._sync(f"{snapshots.root}/layers")
        self.whole = True

    @staticmethod
    def _sync(path: str) -> None:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def sync(self) -> None:
        """Bring the files to the disk: a layer whose name lasts must not have lost its content."""
        sync_filesystem(self._file)

    def close(self) -> None:
        """Give the claim up; what was not published goes."""
        if self._form is not None:
            self._form.close()
        if self._file < 0:
            return
        if not self.whole:
            self.snapshots._discard(self.path)
        os.close(self._file)
        self._file = -1


def unpack(
    snapshots: Snapshots,
    store: Store,
    layers: Sequence[tuple[Descriptor, Digest]],
    *,
    parallel: Callable[..., Iterable[Any]],
    progress: Any,
) -> Digest:
    """See Snapshots.unpack."""
    with Unpacking(snapshots, layers) as work:
        return work.finish(store, parallel=parallel, progress=progress)


class Unpacking:
    """The layers of one image that are missing, claimed; they appear together when all are read, or not at all.

    A layer may be `read` while its bytes come by on their way into the store; `finish` reads the others from there.
    """

    def __init__(self, snapshots: Snapshots, layers: Sequence[tuple[Descriptor, Digest]]) -> None:
        """Waits for other processes that unpack the same layers."""
        self._snapshots = snapshots
        self._chain = digests.chain_ids([diff_id for _, diff_id in layers])
        self._claims: list[tuple[Claim, Descriptor, Digest]] = []
        self._unread: dict[Digest, list[Claim]] = {}  # by the blob's digest; a layer may stand twice in an image
        self._stack = ExitStack()
        if not self._chain or snapshots.has(self._chain[-1]):
            return
        try:
            _counted_on(snapshots, self._chain, self._stack)
            for at, (descriptor, diff_id) in enumerate(layers):
                if snapshots.has(self._chain[at]):
                    continue
                claim = Claim(snapshots, self._chain[at], self._chain[at - 1] if at else "")
                self._stack.callback(claim.close)
                if not claim.whole:
                    self._claims.append((claim, descriptor, diff_id))
                    self._unread.setdefault(descriptor.digest, []).append(claim)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wants(self, digest: Digest) -> bool:
        """Whether the blob's layer is still to be read."""
        return bool(self._unread.get(digest))

    def read(self, digest: Digest, packed: Iterable[bytes]) -> None:
        """Unpack the layer from its blob's bytes. Raises Corrupt, InvalidInput, HostError."""
        claim = self._unread[digest].pop()
        diff_id = next(each for other, _, each in self._claims if other is claim)
        with Verified(decompressed(packed), diff_id) as tar:
            claim.read(tar)

    def finish(self, store: Store, *, parallel: Callable[..., Iterable[Any]] = map, progress: Any = None) -> Digest:
        """Unpack what was not read from the store, and let all layers appear. Returns the chain ID of all."""

        def one(descriptor: Descriptor) -> None:
            with store.open(descriptor) as packed:
                self.read(descriptor.digest, _told(packed, descriptor, progress) if progress else packed)

        unread = [
            descriptor for claim, descriptor, _ in self._claims if claim in self._unread.get(descriptor.digest, ())
        ]
        for _done in parallel(one, unread):
            pass
        if self._claims:
            self._publish()
            for descriptor in unread if progress else ():
                progress.done(_key(descriptor), "Pull complete")
        return self._chain[-1] if self._chain else ""

    def _publish(self) -> None:
        snapshots, base = self._snapshots, self._claims[0][0].parent
        below = snapshots._lowers(snapshots.layer(base), "the base") if base else []
        trees: dict[str, int] = {}  # each layer is mounted once, not for every layer above it
        try:
            for claim, _, _ in self._claims:
                claim.settle(below, trees)
                below = [claim.fs, *below]
        finally:
            for tree in trees.values():
                os.close(tree)
        self._claims[-1][0].sync()
        for claim, _, _ in self._claims:
            claim.publish()


def apply(snapshots: Snapshots, parent: Digest, diff_id: Digest, chunks: Iterable[bytes]) -> Digest:
    """See Snapshots.apply."""
    with ExitStack() as stack:
        chain_id = digests.chain(parent, diff_id)
        _counted_on(snapshots, [parent, chain_id], stack)
        claim = Claim(snapshots, chain_id, parent)
        stack.callback(claim.close)
        if claim.whole:
            with Verified(chunks, diff_id):
                return claim.chain_id
        with Verified(chunks, diff_id) as tar:
            claim.read(tar)
        claim.settle(snapshots._lowers(snapshots.layer(parent), f"layer {parent}") if parent else [])
        claim.sync()
        claim.publish()
    return chain_id


def commit(snapshots: Snapshots, key: str, diff_id: Digest) -> Digest:
    """See Snapshots.commit."""
    parent = snapshots.parent(key)
    claim = Claim(snapshots, digests.chain(parent, diff_id), parent)
    try:
        if not claim.whole:
            if snapshots.copied(key):
                claim.read(snapshots.changes(key))
                claim.settle(snapshots._lowers(snapshots.layer(parent), "the layer below"))
            else:
                os.rename(f"{snapshots._writable(key)}/fs", claim.fs)
            claim.sync()
            claim.publish()
    finally:
        claim.close()
    snapshots.remove(key)
    return claim.chain_id


@contextmanager
def _together(snapshots: Snapshots, lowers: list[str], trees: dict[str, int] | None) -> Generator[int]:
    """A descriptor of the directory that layers in `lowers`, top first, make together; they may be unfinished."""
    with ExitStack() as stack:
        if snapshots.copies:
            stack.enter_context(Lock(snapshots.root, LOCK_SH))  # else it might be collected
            place = f"{snapshots.root}/ingest/gone-{os.getpid()}-{os.urandom(6).hex()}"
            made(place)
            stack.callback(snapshots._discard, place)
            snapshots.merge(lowers, place)
            view = os.open(place, os.O_PATH | os.O_CLOEXEC)
        else:
            view = snapshots.overlaid(lowers, trees)
        stack.callback(os.close, view)
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=view)
        stack.callback(os.close, directory)
        yield directory


def _counted_on(snapshots: Snapshots, chain: Sequence[Digest], stack: ExitStack) -> None:
    """Keep the layers `chain`, those here and those that come, from collection until the stack ends."""
    lease = snapshots.lease()
    stack.callback(lease.close)
    for chain_id in filter(None, chain):
        lease.note(chain_id)


def _is_at(file: int, path: str) -> bool:
    """Whether the open directory still has the name `path`: the one before us may have published it."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.fstat(file).st_ino == there.st_ino


def _key(descriptor: Descriptor) -> str:
    return descriptor.digest.partition(":")[2][:12]


def _told(chunks: Iterable[bytes], descriptor: Descriptor, progress: Any) -> Iterator[bytes]:
    """Tell `progress` how far the layer is."""
    progress.start(_key(descriptor), "Extracting", descriptor.size)
    for chunk in chunks:
        yield chunk
        progress.advance(_key(descriptor), len(chunk))

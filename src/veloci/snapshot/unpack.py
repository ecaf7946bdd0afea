"""Layers into their directories: once across processes, side by side, whole or not at all."""

from __future__ import annotations

import os
from _thread import allocate_lock
from contextlib import ExitStack, closing, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_SH, flock

from veloci.kernel.files import sync_filesystem
from veloci.layer.stream import Verified, decompressed
from veloci.layer.tree import remove_tree
from veloci.snapshot.drivers import usable
from veloci.snapshot.forms import Archive, Directory
from veloci.snapshot.snapshots import Lock, made
from veloci.spec import digest as digests
from veloci.spec import media

FEW = 8  # layers that are brought to the disk file by file, not with all else that the filesystem holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import Any, Self

    from veloci.content.store import Store
    from veloci.layer.erofs.tree import Tree
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
        self.is_read = False
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
        self.is_read = True

    @property
    def tree(self) -> Tree | None:
        """The layer's files if they are in memory."""
        return self._form.tree if self._form else None

    def settle(
        self, below: list[str], trees: dict[str, int] | None = None, memory: Sequence[Tree] | None = None
    ) -> None:
        """Do what needs the layers below, whose directories are `below`, top first.

        trees: see overlay.mounted. memory: the files of all these layers, if they are in memory.
        """
        assert self._form is not None
        wants = self._form.wants
        if memory and wants == "all" and self._form.recall(memory):
            wants = ""
        if not below or not wants:
            self._form.settle(None)
        elif wants == "root":  # what layers make together has the topmost one's root
            with _opened(below[0]) as root:
                self._form.settle(root)
        else:
            with _together(self.snapshots, below, trees) as lower:
                self._form.settle(lower)
        self.stand_on(below)

    def stand_on(self, below: list[str]) -> None:
        """Write which layers are below, by their directories, top first."""
        names = [os.path.basename(self.path), *(path.split("/")[-2] for path in below)]
        with open(f"{self.path}/lowers", "w", encoding="ascii") as file:
            file.write("".join(f"{name}\n" for name in names))

    def sync(self) -> bool:
        """Bring the layer to the disk, if its files are few; else False."""
        if self._form is None or not self._form.sync():
            return False
        with open(f"{self.path}/lowers", "rb", buffering=0) as lowers:
            os.fdatasync(lowers.fileno())
        os.fsync(self._file)
        return True

    def sync_all(self) -> None:
        """Bring all that the filesystem holds to the disk."""
        sync_filesystem(self._file)

    def publish(self) -> None:
        """Give the layer its place: what it holds is on the disk already, its name is not."""
        made(f"{self.snapshots.root}/layers")
        os.rename(self.path, self.snapshots.layer(self.chain_id))
        self.whole = True

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
    ahead: Callable[[Iterator[bytes]], Generator[bytes]] | None,
    progress: Any,
) -> Digest:
    """See Snapshots.unpack."""
    with Unpacking(snapshots, layers, ahead) as work:
        return work.finish(store, parallel=parallel, progress=progress)


class Unpacking:
    """The layers of one image that are missing, claimed; they appear together when all are read, or not at all.

    A layer may be `read` while its bytes come by on their way into the store; `finish` reads the others from there.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        layers: Sequence[tuple[Descriptor, Digest]],
        ahead: Callable[[Iterator[bytes]], Generator[bytes]] | None = None,
    ) -> None:
        """Waits for other processes that unpack the same layers.

        ahead: makes an iterator one of which another thread has the next items ready.
        """
        self._snapshots, self._ahead = snapshots, ahead
        self._chain = digests.chain_ids([diff_id for _, diff_id in layers])
        self._claims: list[tuple[Claim, Descriptor, Digest]] = []
        self._unread: dict[Digest, list[Claim]] = {}  # by the blob's digest; a layer may stand twice in an image
        self._stack = ExitStack()
        self._turn = allocate_lock()  # of the thread that settles layers
        self._settled = 0
        self._below: list[str] = []  # directories of the layers that are settled and those below, top first
        self._memory: list[Tree] | None = []  # the files of these layers; None if not all are in memory
        self._trees: dict[str, int] = {}  # each layer is mounted once, not for every layer above it
        if not self._chain or snapshots.has(self._chain[-1]):
            return
        try:
            _counted_on(snapshots, self._chain, self._stack)
            for at, (descriptor, diff_id) in enumerate(layers):
                if snapshots.has(self._chain[at]):
                    continue
                media.check_layer(descriptor.media_type, descriptor.digest)
                claim = Claim(snapshots, self._chain[at], self._chain[at - 1] if at else "")
                self._stack.callback(claim.close)
                if not claim.whole:
                    self._claims.append((claim, descriptor, diff_id))
                    self._unread.setdefault(descriptor.digest, []).append(claim)
            if self._claims:
                self._below = _below(snapshots, self._claims[0][0].parent)
                self._memory = None if self._below else []
                self._stack.callback(self._unmount)
                usable(snapshots)  # chosen once, where the store has none yet, not by every thread
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
        descriptor, diff_id = next((each, diff_id) for other, each, diff_id in self._claims if other is claim)
        much = 3 * descriptor.size > sum(each.size for _, each, _ in self._claims)  # others end before
        with ExitStack() as stack:
            tar = decompressed(packed)
            if self._ahead and much:
                tar = stack.enter_context(closing(self._ahead(tar)))
            with Verified(tar, diff_id) as verified:
                claim.read(verified)
        self._settle()

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
            self._settle()
            publish([claim for claim, _, _ in self._claims])
            for descriptor in unread if progress else ():
                progress.done(_key(descriptor), "Pull complete")
        return self._chain[-1] if self._chain else ""

    def _settle(self) -> None:
        """Settle the layers that are read, as far as those below them are: while others still come."""
        with self._turn:
            while self._settled < len(self._claims):
                claim = self._claims[self._settled][0]
                if not claim.is_read:
                    return
                claim.settle(self._below, self._trees, self._memory)
                self._below = [claim.fs, *self._below]
                tree = claim.tree
                self._memory = None if tree is None or self._memory is None else [tree, *self._memory]
                self._settled += 1

    def _unmount(self) -> None:
        for tree in self._trees.values():
            os.close(tree)


def publish(claims: Sequence[Claim]) -> None:
    """Let layers appear, base first, when all that they hold is on the disk."""
    if len(claims) > FEW or not all(claim.sync() for claim in claims):
        claims[-1].sync_all()
    for claim in claims:
        claim.publish()
    with _opened(f"{claims[-1].snapshots.root}/layers") as layers:
        os.fsync(layers)


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
        usable(snapshots)
        with Verified(chunks, diff_id) as tar:
            claim.read(tar)
        claim.settle(_below(snapshots, parent))
        publish([claim])
    return chain_id


def commit(snapshots: Snapshots, key: str, diff_id: Digest) -> Digest:
    """See Snapshots.commit."""
    parent = snapshots.parent(key)
    claim = Claim(snapshots, digests.chain(parent, diff_id), parent)
    try:
        if not claim.whole:
            if snapshots.copied(key):
                claim.read(snapshots.changes(key))
                claim.settle(_below(snapshots, parent))
            else:
                os.rename(f"{snapshots._writable(key)}/fs", claim.fs)
                claim.stand_on(_below(snapshots, parent))
            publish([claim])
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


@contextmanager
def _opened(path: str) -> Generator[int]:
    """A descriptor of a directory."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def _below(snapshots: Snapshots, parent: Digest) -> list[str]:
    """The directories of the layer `parent` and those below it, top first."""
    return snapshots._lowers(snapshots.layer(parent), f"layer {parent}") if parent else []


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

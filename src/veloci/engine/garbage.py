"""What images, the build cache and running commands need, and the removal of everything else.

An image needs its blobs and its unpacked layers; a cached build step its blob and, as long as it is
there, its unpacked layer: so the cache outlives the image that was built. Containers keep the layers
below their own, which `Snapshots.collect` sees to.
"""

from __future__ import annotations

from veloci.content.collect import RESUMED
from veloci.errors import Corrupt, InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.content.store import Store
    from veloci.engine.engine import Engine
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor


class Needed:
    """The digests of blobs and the chain IDs of layers that something needs."""

    def __init__(self) -> None:
        self.blobs: set[Digest] = set()
        self.chains: set[Digest] = set()
        self._read: set[Digest] = set()  # manifests and indexes

    def image(self, store: Store, descriptor: Descriptor) -> None:
        """Add a manifest's or an index's, and all that it holds, as far as it is here and whole.

        Raises HostError where the system cannot read what is here: nothing may be taken for unneeded then.
        """
        from veloci.spec import digest as digests
        from veloci.spec import media
        from veloci.spec.image import ImageConfig, Index, Manifest

        if descriptor.digest in self._read:
            return
        self._read.add(descriptor.digest)
        self.blobs.add(descriptor.digest)
        name = f"manifest {descriptor.digest}"
        try:
            if media.is_index(descriptor.media_type):
                for entry in Index.decode(store.read(descriptor), name=name).manifests:
                    self.image(store, entry)
            elif media.is_manifest(descriptor.media_type):
                manifest = Manifest.decode(store.read(descriptor), name=name)
                self.blobs.add(manifest.config.digest)
                self.blobs.update(layer.digest for layer in manifest.layers)
                config = ImageConfig.decode(store.read(manifest.config), name=f"config {manifest.config.digest}")
                self.chains.update(digests.chain_ids(config.rootfs.diff_ids)[-1:])
        except (NotFound, Corrupt, InvalidInput):
            return  # a part is not here, damaged, or no image: what it held nobody can use

    def cached(self, root: str) -> None:
        """Add what the steps in the build cache below `root` made."""
        for layer in cached(root):
            self.blobs.add(layer[0])
            self.chains.add(layer[1])


def cached(root: str) -> Iterator[tuple[Digest, Digest]]:
    """Blob and chain ID ("" if it was not unpacked) of each step in the build cache of an engine's `root`."""
    from os.path import isdir

    if not isdir(f"{root}/build/steps"):
        return  # nothing was ever built
    from veloci.build.cache import Cache

    for entry in Cache(f"{root}/build").entries():
        if entry.layer is not None:
            yield entry.layer.descriptor.digest, entry.layer.chain_id


def needed(engine: Engine) -> Needed:
    """What the images and the build cache of the engine need."""
    found = Needed()
    for _name, descriptor in engine.names.all():
        found.image(engine.store, descriptor)
    found.cached(engine.root)
    return found


def collect(engine: Engine, older: float = RESUMED) -> int:
    """Delete the blobs and unpacked layers that nothing needs. Returns the bytes freed.

    What running commands hold stays; what killed ones left goes. Names go before: a kill in the middle
    leaves what the next collection finds. older: seconds after which an interrupted download goes too.
    """
    from fcntl import LOCK_EX

    from veloci.content.collect import sweep
    from veloci.content.lease import Locked, held

    store = engine.store
    with Locked(store.root, LOCK_EX):
        wanted = needed(engine)
        kept = wanted.blobs.union(held(store.root))
        freed = sum(store.remove(digest) for digest in list(store.digests()) if digest not in kept)
        freed += sweep(store.root, older)
    if engine.names.is_stale():
        engine.names.refresh()

    def chains() -> Iterator[Digest]:  # asked for under the lock of layers: what was named until then counts
        yield from filter(None, needed(engine).chains)

    return freed + engine.snapshots.collect(chains())

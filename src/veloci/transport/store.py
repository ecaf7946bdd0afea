"""The local store as a place."""

from __future__ import annotations

from veloci.errors import Corrupt, InvalidInput, NotFound, VelociError
from veloci.spec import media
from veloci.spec.image import ImageConfig, Manifest
from veloci.transport.memory import Memory
from veloci.transport.place import Place, drain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.snapshot.unpack import Unpacking
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.place import Chunks, Opened


class StorePlace(Place):
    """An image in the local store, by name.

    reference: None takes and gives no name. descriptor: what it is, if the caller looked it up
    another way, by its ID; else the name decides. more: further names it gets.
    """

    words = ("Pulling fs layer", "Pull complete", "Already exists")

    def __init__(
        self,
        store: Store,
        names: Names,
        reference: Reference | None,
        descriptor: Descriptor | None = None,
        *,
        more: Sequence[Reference] = (),
    ) -> None:
        self.store, self.names = store, names
        self.reference = reference.with_default_tag() if reference else None
        self.name = self.reference.familiar() if self.reference else "the local store"
        self.digest = self.reference.digest if self.reference else None
        self.descriptor = descriptor
        self._more = [each.with_default_tag() for each in more]
        self._memory = Memory(store.root)
        self.watch: Unpacking | None = None  # reads layers while they come

    def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
        """The repositories from which the blob came, or to which it went."""
        return self._memory.repositories(descriptor.digest)

    def noted(self, descriptor: Descriptor, where: Reference) -> None:
        """See Source."""
        self._memory.note_repository(descriptor.digest, where)

    def known(self, diff_id: Digest, media_type: str) -> Descriptor | None:
        """See Destination."""
        return next((each for each in self._memory.forms(diff_id, media_type) if self.store.has(each)), None)

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        found = descriptor or self.descriptor
        if found is None:
            if self.reference is None:
                raise NotFound("no image is named")
            found = self.names.get(str(self.reference))
        return found, self.store.read(found)

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        return self.store.open(descriptor, start)

    def has(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        return self.store.has(descriptor)

    def at_hand(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        return self.store.has(descriptor)

    def put(self, descriptor: Descriptor, opened: Opened, origins: Sequence[Reference]) -> str:
        """See Destination. Goes on where an interrupted copy stopped, waits for another's."""
        del origins
        with self.store.claim(descriptor) as claim:
            if claim.whole:
                return self.words[2]
            failure = None
            missed: list[VelociError] = []
            with opened(claim.start) as wire, claim.keeping(_noted(wire, missed)) as chunks:
                if self.watch and self.watch.wants(descriptor.digest):
                    try:
                        self.watch.read(descriptor.digest, chunks)
                    except (Corrupt, InvalidInput) as error:
                        if missed:
                            raise missed[0] from None
                        failure = error  # a damaged blob is told as one, when it is read to its end
                drain(chunks)
            if failure:
                raise failure
        return ""

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """See Destination."""
        return self.store.adopt(chunks, media_type)

    def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        self.store.ingest(descriptor, (raw,))
        self._remember(descriptor, raw)

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        if not self.store.has(descriptor):
            self.store.ingest(descriptor, (raw,))
        self._remember(descriptor, raw)
        if self.reference:
            for name in (self.reference, *self._more):
                self.names.set(str(name), descriptor)

    def _remember(self, descriptor: Descriptor, raw: bytes) -> None:
        """Keep in mind what the image's compressed layers unpack to."""
        if not media.is_manifest(descriptor.media_type):
            return
        manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
        if manifest.config.media_type in media.CONFIGS:
            config = ImageConfig.decode(self.store.read(manifest.config), name=f"config {manifest.config.digest}")
            for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=False):
                if media.compression(layer.media_type):
                    self._memory.note_form(diff_id, layer)


def _noted(chunks: Iterable[bytes], errors: list[VelociError]) -> Iterator[bytes]:
    """Pass chunks through, and note the error that ends them: whoever reads them may have errors of the same kind."""
    try:
        yield from chunks
    except VelociError as error:
        errors.append(error)
        raise

"""The local store as a place."""

from __future__ import annotations

from veloci.errors import NotFound
from veloci.transport.place import Place, drain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.place import Chunks, Opened


class StorePlace(Place):
    """An image in the local store, by name.

    reference: None takes and gives no name. descriptor: what it is, if the caller looked it up
    another way, by its ID; else the name decides.
    """

    words = ("Pulling fs layer", "Pull complete", "Already exists")

    def __init__(
        self, store: Store, names: Names, reference: Reference | None, descriptor: Descriptor | None = None
    ) -> None:
        self.store, self.names = store, names
        self.reference = reference.with_default_tag() if reference else None
        self.name = self.reference.familiar() if self.reference else "the local store"
        self.descriptor = descriptor

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

    def put(self, descriptor: Descriptor, opened: Opened, origin: Reference | None) -> str:
        """See Destination. Goes on where an interrupted copy stopped, waits for another's."""
        del origin
        with self.store.claim(descriptor) as claim:
            if claim.whole:
                return self.words[2]
            with opened(claim.start) as wire, claim.keeping(wire) as chunks:
                drain(chunks)
        return ""

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """See Destination."""
        return self.store.adopt(chunks, media_type)

    def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        self.store.ingest(descriptor, (raw,))

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        if not self.store.has(descriptor):
            self.store.ingest(descriptor, (raw,))
        if self.reference:
            self.names.set(str(self.reference), descriptor)

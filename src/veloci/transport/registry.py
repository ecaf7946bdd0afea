"""docker://host/repository:tag: an image at a registry."""

from __future__ import annotations

from veloci.errors import Denied, NotFound, VelociError
from veloci.registry.client import Repository
from veloci.transport.place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from veloci.registry.session import Session
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.place import Chunks, Opened


MOUNTS = 3  # repositories that are tried


class RegistryPlace(Place):
    """The image `reference` at its registry."""

    far = True
    words = ("Pushing", "Pushed", "Layer already exists")

    def __init__(self, reference: Reference, session: Session | None = None, *, more: Sequence[str] = ()) -> None:
        """more: further tags that what is written gets."""
        self._more = more
        self.reference = reference.with_default_tag()
        self.name, self.digest = self.reference.familiar(), self.reference.digest
        self.repository = Repository(self.reference, session=session)
        self._root: tuple[Descriptor, bytes] | None = None
        self._manifests: dict[Digest, tuple[Descriptor, bytes]] = {}
        self._here: frozenset[Digest] | None = None  # blobs that need not be asked for
        self._mistaken = False

    def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
        """The repository itself."""
        del descriptor
        return (self.reference,)

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        if descriptor:
            if descriptor.digest not in self._manifests:
                self._manifests[descriptor.digest] = self.repository.manifest(descriptor.digest)
            return self._manifests[descriptor.digest]
        if self._root is None:
            self._root = self.repository.manifest()
        return self._root

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        return self.repository.blob(descriptor, start)

    def doubted(self) -> bool:
        """See Source."""
        if not self.repository.doubt():
            return False
        self._root = None
        return True

    def look(self) -> None:
        """See Destination."""
        if self._here is None:
            self._here = self.repository.parts()

    def has(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        self.look()
        return self.at_hand(descriptor) or self.repository.has(descriptor)

    def at_hand(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        return self._here is not None and descriptor.digest in self._here

    def put(self, descriptor: Descriptor, opened: Opened, origins: Sequence[Reference]) -> str:
        """See Destination. A blob of another repository of the same registry is mounted."""
        here = self.reference
        others = [o.repository for o in origins if o.registry == here.registry and o.repository != here.repository]
        for repository in others[:MOUNTS]:
            try:
                if self.repository.mount(descriptor, repository):
                    return f"Mounted from {repository}"
            except (NotFound, Denied):
                continue  # not every registry can, and not everybody may
        self.repository.upload(descriptor, opened)
        return ""

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """See Destination."""
        return self.repository.adopt(chunks, media_type)

    def mistaken(self) -> bool:
        """See Destination. A registry may have lost blobs of what it has a manifest of."""
        before, self._mistaken = self._mistaken, False
        return before

    def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        self._put_manifest(descriptor, raw, descriptor.digest)

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        for tag in (self.reference.tag or descriptor.digest, *self._more):
            self._put_manifest(descriptor, raw, tag)

    def _put_manifest(self, descriptor: Descriptor, raw: bytes, reference: str) -> None:
        try:
            self.repository.put_manifest(raw, descriptor.media_type, reference)
        except VelociError:
            self._mistaken, self._here = bool(self._here), frozenset()
            raise

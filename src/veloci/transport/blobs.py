"""The blobs that what a place names consists of."""

from __future__ import annotations

from veloci.errors import NotFound
from veloci.spec import media
from veloci.spec.image import Index, Manifest
from veloci.transport.select import DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Source


def listed(source: Source, digest: Digest) -> Descriptor:
    """The descriptor of a config or layer by its digest. Raises NotFound."""
    for found in _blobs(source, *source.manifest(), DEPTH):
        if found.digest == digest:
            return found
    raise NotFound(f"it has no blob {digest}", where=source.name, hint="veloci inspect --raw shows what it has")


def _blobs(source: Source, descriptor: Descriptor, raw: bytes, depth: int) -> Iterator[Descriptor]:
    if media.is_index(descriptor.media_type) and depth:
        for entry in Index.decode(raw, name=f"index {descriptor.digest}").manifests:
            if media.is_index(entry.media_type) or media.is_manifest(entry.media_type):
                yield from _blobs(source, *source.manifest(entry), depth - 1)
    elif media.is_manifest(descriptor.media_type):
        manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
        yield from (manifest.config, *manifest.layers)

"""An image from elsewhere with changes: documents made anew, layers added; what stays is read from where it is."""

from __future__ import annotations

import os
from contextlib import contextmanager
from tempfile import TemporaryFile

from veloci.errors import HostError
from veloci.image.draft import Draft
from veloci.layer.stream import Hashed, compressed
from veloci.spec import media
from veloci.spec.image import Descriptor, Manifest
from veloci.transport.place import Place, given, kept, reading
from veloci.transport.select import select, small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from veloci.spec.digest import Digest
    from veloci.spec.platform import Platform
    from veloci.spec.reference import Reference
    from veloci.transport.place import Chunks, Source


class Edited(Place):
    """A source that is another one, `base`, with `draft` for its documents and the blobs that `add` took."""

    def __init__(
        self, base: Source, descriptor: Descriptor, raw: bytes, spread: Callable[..., Iterable[bytes]] = map
    ) -> None:
        """descriptor, raw: of the manifest. spread: a map for a layer's chunks.

        Raises InvalidInput for what is no image, NotFound, Corrupt.
        """
        self.base, self.name, self._spread = base, base.name, spread
        self.original = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
        self.draft = Draft(raw, small(base, self.original.config), name=base.name)
        self._sources: dict[Digest, Source] = {}  # of layers that come from yet another place
        self._kept: list[Source] = []
        self._files: dict[Digest, int] = {}
        self._documents: dict[Digest, bytes] = {}

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        for place in (*self._kept, self.base):
            place.__exit__(*_)
        self._kept.clear()

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        del descriptor
        manifest, raw, config, config_raw = self.draft.documents()
        self._documents[config.digest] = config_raw
        return manifest, raw

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        digest = descriptor.digest
        if digest in self._documents:
            return given(self._documents[digest], start)
        if digest in self._files:
            return kept(self._files[digest], start)
        return self._sources.get(digest, self.base).blob(descriptor, start)

    def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
        """See Source."""
        return self._sources.get(descriptor.digest, self.base).origins(descriptor)

    def add(self, tar: Iterable[bytes], kind: str = "gzip", level: int | None = None) -> tuple[Descriptor, Digest]:
        """Keep a layer's uncompressed tar, compressed by `kind`. Returns the layer and its diff ID."""
        plain = Hashed(tar)
        packed = Hashed(compressed(plain, kind, level, spread=self._spread))
        try:
            with TemporaryFile("wb", buffering=0, prefix="veloci-") as file:
                for chunk in packed:
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
                if packed.digest not in self._files:
                    self._files[packed.digest] = os.dup(file.fileno())
        except OSError as error:
            raise HostError("keep a layer", error) from error
        media_type = media.packed(media.converted(media.LAYER, self.draft.format), kind)
        return Descriptor(media_type=media_type, digest=packed.digest, size=packed.size), plain.digest

    def borrow(self, layer: Descriptor, source: Source) -> None:
        """Let `layer` come from another place."""
        self._sources[layer.digest] = source

    def keep(self, source: Source) -> None:
        """Close another place together with this one."""
        self._kept.append(source)


def edited(source: Source, platform: Platform | None = None, *, spread: Callable[..., Iterable[bytes]] = map) -> Edited:
    """The image that a place names, of an index the one for `platform`, to be changed.

    spread: a map for the chunks of a layer that is added. Raises NotFound, InvalidInput.
    """
    return Edited(source, *select(source, *source.manifest(), platform), spread)


def layer_tar(source: Source, layer: Descriptor, diff_id: Digest) -> Chunks:
    """A layer's uncompressed tar, checked against its digest and its diff ID when the block ends."""
    return _checked(source, layer, diff_id)


@contextmanager
def _checked(source: Source, layer: Descriptor, diff_id: Digest) -> Generator[Iterator[bytes]]:
    from veloci.layer.stream import Verified, decompressed

    media.check_layer(layer.media_type, layer.digest)
    with (
        reading(source, layer) as chunks,
        Verified(chunks, layer.digest, layer.size) as packed,
        Verified(decompressed(packed), diff_id) as tar,
    ):
        yield tar

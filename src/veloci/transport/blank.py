"""An image of nothing, as a source: what others are begun with."""

from __future__ import annotations

from veloci.image.draft import moment
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import Descriptor
from veloci.transport.place import Place, given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.platform import Platform
    from veloci.transport.place import Chunks


class Blank(Place):
    """An image without layers for a platform."""

    def __init__(self, platform: Platform) -> None:
        self.name = "an empty image"
        config = {"created": moment(), **platform.plain(), "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
        self._config = dumps({**config, "history": []})
        entry = Descriptor(media_type=media.CONFIG, digest=digests.of(self._config), size=len(self._config))
        document = {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": entry.plain(), "layers": []}
        self._raw = dumps(document)

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        del descriptor
        digest = digests.of(self._raw)
        return Descriptor(media_type=media.MANIFEST, digest=digest, size=len(self._raw)), self._raw

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        del descriptor
        return given(self._config, start)

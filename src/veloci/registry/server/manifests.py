"""What a manifest must be for the registry to take it."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec import media
from veloci.spec.document import loads
from veloci.spec.image import Descriptor, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.digest import Digest


class Accepted:
    """A checked manifest.

    blobs, manifests: what it needs in the same repository. subject: what it refers to, there or not.
    """

    def __init__(self, raw: bytes, media_type: str, digest: Digest) -> None:
        """Raises InvalidInput for what is no manifest of `media_type`."""
        self.blobs: list[Digest] = []
        self.manifests: list[Digest] = []
        document: Manifest | Index
        if media.is_manifest(media_type):
            document = Manifest.decode(raw, name="manifest")
            self.blobs = [item.digest for item in (document.config, *document.layers) if not item.urls]
            kind = document.artifact_type or document.config.media_type
        elif media.is_index(media_type):
            document = Index.decode(raw, name="manifest")
            self.manifests = [item.digest for item in document.manifests if not item.urls]
            kind = document.artifact_type or ""
        else:
            raise InvalidInput(f"media type {media_type!r} is no manifest's")
        both = loads(raw)
        if both.get("mediaType", media_type) != media_type:
            raise InvalidInput(f"the manifest says it is {both['mediaType']!r}, the request {media_type!r}")
        if both.get("manifests") is not None and both.get("layers") is not None:  # CVE-2021-41190
            raise InvalidInput("the manifest has layers and manifests, so it is two things")
        if document.schema_version != 2:
            raise InvalidInput(f"expected schemaVersion 2, got {document.schema_version}")
        self.subject = document.subject.digest if document.subject else None
        self.descriptor = Descriptor(
            media_type=media_type,
            digest=digest,
            size=len(raw),
            artifact_type=kind or None,
            annotations=document.annotations,
        )

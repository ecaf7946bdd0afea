"""An image's documents in the other family: Docker's version 2 schema 2, or OCI's. Layers stay as they are.

https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md#compatibility-matrix
"""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import Descriptor, ImageConfig, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from veloci.spec.digest import Digest

FORMATS = ("oci", "docker")


def family(media_type: str) -> str:
    """Whose a manifest's or index's media type is: "oci" or "docker"."""
    return "docker" if media_type in (media.DOCKER_MANIFEST, media.DOCKER_LIST) else "oci"


def convert(manifest: bytes, config: bytes, to: str) -> tuple[bytes, str, bytes]:
    """The manifest in the family `to` ("oci" or "docker"), its media type, and the config.

    Docker's config is the OCI config with more fields, so its bytes, and with them the image's ID, stay.
    Raises InvalidInput for an artifact, or a config that is none.
    """
    parsed = Manifest.decode(manifest, name="manifest")
    ImageConfig.decode(config, name=f"config {parsed.config.digest}")
    raw, media_type = rewritten(parsed, to)
    return raw, media_type, config


def rewritten(manifest: Manifest, to: str, layers: Mapping[Digest, Descriptor] | None = None) -> tuple[bytes, str]:
    """A manifest of the family `to` with the same content, and its media type.

    layers: what has come in a layer's place, by the old digest. Annotations are lost in Docker's family,
    which has none. Raises InvalidInput for an artifact, which Docker's family cannot hold.
    """
    if to not in FORMATS:
        raise InvalidInput(f"{to!r} is no image format", hint="oci or docker")
    if to == "docker" and manifest.config.media_type not in media.CONFIGS:
        raise InvalidInput(f"it is no image but an artifact ({manifest.config.media_type}), which stays OCI")
    now = [(layers or {}).get(layer.digest, layer) for layer in manifest.layers]
    media_type = media.converted(media.MANIFEST, to)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _entry(manifest.config, to),
        "layers": [_entry(layer, to) for layer in now],
    }
    if to == "oci":
        if manifest.artifact_type:
            document["artifactType"] = manifest.artifact_type
        if manifest.subject:
            document["subject"] = manifest.subject.plain()
        if manifest.annotations:
            document["annotations"] = manifest.annotations
    return dumps(document), media_type


def reindexed(index: Index, to: str, manifests: Mapping[Digest, Descriptor]) -> tuple[bytes, str]:
    """An index of the family `to` whose manifests have been replaced, and its media type."""
    media_type = media.converted(media.INDEX, to)
    entries = []
    for entry in index.manifests:
        now = manifests.get(entry.digest, entry)
        plain = {**entry.plain(), "mediaType": now.media_type, "digest": now.digest, "size": now.size}
        if to == "docker":
            plain.pop("annotations", None)
        entries.append(plain)
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    if to == "oci" and index.annotations:
        document["annotations"] = index.annotations
    return dumps(document), media_type


def _entry(descriptor: Descriptor, to: str) -> dict[str, Any]:
    """A descriptor's fields in the order in which docker and skopeo write them."""
    entry: dict[str, Any] = {
        "mediaType": media.converted(descriptor.media_type, to),
        "size": descriptor.size,
        "digest": descriptor.digest,
    }
    if descriptor.urls:
        entry["urls"] = list(descriptor.urls)
    if to == "oci" and descriptor.annotations:
        entry["annotations"] = descriptor.annotations
    if to == "oci" and descriptor.data is not None:
        entry["data"] = descriptor.data
    return entry

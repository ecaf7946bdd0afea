"""A new image from its parts: config and layers to a manifest."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from veloci.content.store import Store


def assemble(
    store: Store,
    config: dict[str, Any] | bytes,
    layers: Sequence[Descriptor],
    *,
    format: str = "oci",
    annotations: dict[str, str] | None = None,
) -> Descriptor:
    """Store a config and the manifest that joins it to `layers`, base first. Returns the manifest's descriptor.

    config: as bytes it is stored as it is. format: "oci" or "docker"; the layers' media types
    follow it, their bytes stay. annotations: the manifest's; Docker's manifests have none.
    Raises InvalidInput for another format.
    """
    if format not in ("oci", "docker"):
        raise InvalidInput(f"{format!r} is no image format", hint="oci or docker")
    kind = media.MANIFEST if format == "oci" else media.DOCKER_MANIFEST
    raw = config if isinstance(config, bytes) else dumps(config)
    stored = store.put(raw, media.converted(media.CONFIG, format))
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": stored.plain(),
        "layers": [_layer(layer, format).plain() for layer in layers],
    }
    if annotations and format == "oci":
        manifest["annotations"] = annotations
    return store.put(dumps(manifest), kind)


def _layer(layer: Descriptor, format: str) -> Descriptor:
    return Descriptor(
        media_type=media.converted(layer.media_type, format),
        digest=layer.digest,
        size=layer.size,
        urls=layer.urls,
        annotations=layer.annotations if format == "oci" else {},
    )

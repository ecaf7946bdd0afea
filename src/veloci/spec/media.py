"""Media types of both families, and what they say.

https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md
https://distribution.github.io/distribution/spec/manifest-v2-2/
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    MediaType: TypeAlias = str
else:

    class MediaType:
        """The field type: text that names a media type."""

        @staticmethod
        def convert(value):
            """`value` if it is a media type by RFC 6838, section 4.2; parameters may follow."""
            from veloci.spec.document import wrong

            return value if type(value) is str and valid(value) else wrong(f"expected a media type, got {value!r:.100}")


_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME = _FIRST | frozenset("!#$&-^_.+")

OCI = "application/vnd.oci."
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
LAYER_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
LAYER_FOREIGN_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_FOREIGN_TAR = "application/vnd.docker.image.rootfs.foreign.diff.tar"

# Annotations that say where in a layer's bytes what is, for those who fetch it in parts: eStargz, zstd:chunked.
OF_BYTES = (
    "containerd.io/snapshot/stargz/",
    "io.containers.estargz.",
    "io.containers.zstd-chunked.",
    "io.github.containers.zstd-chunked.",
)

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_LIST)
CONFIGS = (CONFIG, DOCKER_CONFIG)

# Docker's type on the left, OCI's on the right: what conversion swaps.
PAIRS = (
    (DOCKER_MANIFEST, MANIFEST),
    (DOCKER_LIST, INDEX),
    (DOCKER_CONFIG, CONFIG),
    (DOCKER_LAYER, LAYER_GZIP),
    (DOCKER_LAYER_TAR, LAYER),
    (DOCKER_LAYER_ZSTD, LAYER_ZSTD),
    (DOCKER_FOREIGN, LAYER_FOREIGN_GZIP),
    (DOCKER_FOREIGN_TAR, LAYER_FOREIGN),
)


def valid(media_type: str) -> bool:
    """Whether the text has the form of a media type: type/subtype, each of at most 127 characters (RFC 6838, 4.2)."""
    kind, slash, subtype = media_type.partition(";")[0].partition("/")
    return bool(slash) and all(
        0 < len(name) < 128 and name[0] in _FIRST and _NAME.issuperset(name) for name in (kind, subtype)
    )


def is_manifest(media_type: str) -> bool:
    """Whether a document of this type is one image's manifest."""
    return media_type in MANIFESTS


def is_index(media_type: str) -> bool:
    """Whether a document of this type lists manifests."""
    return media_type in INDEXES


def is_layer(media_type: str) -> bool:
    """Whether a blob of this type is a file system layer, and not an encrypted one."""
    known = media_type.startswith(("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."))
    return known and not media_type.endswith("+encrypted")


def check_layer(media_type: str, digest: str) -> None:
    """Raise Unsupported for what cannot be unpacked, whatever its bytes look like."""
    if not is_layer(media_type):
        from veloci.errors import Unsupported

        why = "it is encrypted" if media_type.endswith("+encrypted") else f"its type is {media_type}"
        raise Unsupported(f"the layer {digest} cannot be unpacked: {why}")


def compression(media_type: str) -> str:
    """What the type promises of a layer's bytes: "gzip", "zstd", or "" for a plain tar. The bytes may differ."""
    for kind in ("gzip", "zstd"):
        if media_type.endswith(("+" + kind, "." + kind)):
            return kind
    return ""


def packed(media_type: str, kind: str) -> str:
    """The type of the same layer compressed by `kind`: "gzip", "zstd", or "" for a plain tar."""
    family = (
        {"": LAYER, "gzip": LAYER_GZIP, "zstd": LAYER_ZSTD},
        {"": DOCKER_LAYER_TAR, "gzip": DOCKER_LAYER, "zstd": DOCKER_LAYER_ZSTD},
    )
    return next((types[kind] for types in family if media_type in types.values()), media_type)


def docker_holds(media_type: str) -> bool:
    """Whether a manifest of Docker's version 2 schema 2 may list a layer of this type, or the same in OCI's words.

    Docker reads no zstd there, and its family knows no layers but its own.
    """
    return converted(media_type, "docker") in (DOCKER_LAYER, DOCKER_LAYER_TAR, DOCKER_FOREIGN, DOCKER_FOREIGN_TAR)


def converted(media_type: str, to: str) -> str:
    """The same thing's type in the other family, or the type itself if it has none. to: "oci" or "docker"."""
    for docker, oci in PAIRS:
        if media_type in (docker, oci):
            return oci if to == "oci" else docker
    return media_type

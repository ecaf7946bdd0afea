"""Descriptor, manifest, index, image config (image-spec), in OCI's and Docker's form alike.

What was read is kept as bytes and never written again from the value: unknown
fields are ignored (considerations.md#extensibility) and would be lost.
"""

from __future__ import annotations

from veloci.spec import media
from veloci.spec.digest import Digest
from veloci.spec.document import Document, Json, OneOf, Wrong, wrong
from veloci.spec.media import MediaType
from veloci.spec.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, TypeAlias

if TYPE_CHECKING:
    SchemaVersion: TypeAlias = int
    Size: TypeAlias = int
    Layers: TypeAlias = str
    ManifestType: TypeAlias = str
    IndexType: TypeAlias = str
    Uri: TypeAlias = str
else:

    class SchemaVersion:
        """The field type: 2, the only one there is."""

        @staticmethod
        def convert(value):
            """`value` if it is 2."""
            return value if type(value) is int and value == 2 else wrong(f"expected 2, got {value!r:.100}")

    class Size:
        """The field type: bytes."""

        @staticmethod
        def convert(value):
            """`value` if it is a whole number, 0 or more."""
            return value if type(value) is int and value >= 0 else wrong(f"expected a size, got {value!r:.100}")

    class Layers:
        """The field type: how a root file system is kept, of which there is one way."""

        @staticmethod
        def convert(value):
            """`value` if it is "layers"."""
            return value if value == "layers" else wrong(f"expected 'layers', got {value!r:.100}")

    ManifestType, IndexType = OneOf(*media.MANIFESTS), OneOf(*media.INDEXES)

    class Uri:
        """The field type: an address."""

        @staticmethod
        def convert(value):
            """`value` if it could be a URI by RFC 3986: it has a scheme, and no character that none has."""
            if type(value) is str and value.isascii() and value.isprintable() and not _NEVER & set(value):
                scheme, colon, _ = value.partition(":")
                if colon and scheme[:1].isalpha() and not scheme.strip(_SCHEME):
                    return value
            return wrong(f"expected a URI, got {value!r:.100}")

    _NEVER = frozenset(' <>"{}|\\^`')
    _SCHEME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-."


REF_NAME = "org.opencontainers.image.ref.name"  # annotations.md: the name of an image in a layout's index


class Descriptor(Document):
    """What some content is, how long (bytes), and its hash.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#properties
    """

    media_type: MediaType
    digest: Digest
    size: Size
    urls: tuple[Uri, ...] = ()
    annotations: dict[str, str] = {}
    data: str | None = None  # base64
    platform: Platform | None = None
    artifact_type: MediaType | None = None

    @classmethod
    def convert(cls, value: Any) -> Self:
        """See Document; what is embedded is checked against digest and size."""
        found = super().convert(value)
        if found.data is not None and not is_embedded(found):
            error = Wrong("is not the content that digest and size promise")
            error.path = ".data"
            raise error
        return found


class Manifest(Document):
    """One image for one platform.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#image-manifest-property-descriptions
    """

    schema_version: SchemaVersion
    config: Descriptor
    layers: tuple[Descriptor, ...]  # base first
    media_type: ManifestType = media.MANIFEST
    artifact_type: MediaType | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}

    @classmethod
    def convert(cls, value: Any) -> Self:
        """See Document; what is also an index is refused (CVE-2021-41190)."""
        if type(value) is dict and value.get("manifests") is not None:
            wrong("is a manifest and an index")
        return super().convert(value)


class Index(Document):
    """Several manifests under one name: one a platform, or whatever their descriptors say.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md
    """

    schema_version: SchemaVersion
    manifests: tuple[Descriptor, ...] = ()
    media_type: IndexType = media.INDEX
    artifact_type: MediaType | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}

    @classmethod
    def convert(cls, value: Any) -> Self:
        """See Document; what is also a manifest is refused (CVE-2021-41190)."""
        if type(value) is dict and (value.get("layers") is not None or value.get("config") is not None):
            wrong("is a manifest and an index")
        if type(value) is dict and "manifests" not in value:  # Go writes null for none
            wrong("missing 'manifests'")
        return super().convert(value)

    def plain(self) -> dict[str, Any]:
        """See Document; an empty list is no absence."""
        return {**super().plain(), "manifests": [entry.plain() for entry in self.manifests]}


class Healthcheck(
    Document,
    test="Test",
    interval="Interval",
    timeout="Timeout",
    start_period="StartPeriod",
    start_interval="StartInterval",
    retries="Retries",
):
    """How Docker asks a container how it is; durations in nanoseconds."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(
    Document,
    hostname="Hostname",
    user="User",
    exposed_ports="ExposedPorts",
    env="Env",
    entrypoint="Entrypoint",
    cmd="Cmd",
    volumes="Volumes",
    working_dir="WorkingDir",
    labels="Labels",
    stop_signal="StopSignal",
    healthcheck="Healthcheck",
    shell="Shell",
    on_build="OnBuild",
    args_escaped="ArgsEscaped",
):
    """What a container of the image does unless told otherwise; Docker's fields beside the specification's.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#properties
    """

    hostname: str = ""
    user: str = ""
    exposed_ports: dict[str, Json] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, Json] = {}
    working_dir: str = ""
    labels: dict[str, str] = {}
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False


class RootFs(Document, diff_ids="diff_ids"):
    """The digests of the layers' uncompressed tars, base first."""

    type: Layers
    diff_ids: tuple[Digest, ...] = ()

    @classmethod
    def convert(cls, value: Any) -> Self:
        """See Document; null is no layers, as docker writes it, but absence is refused."""
        if type(value) is dict and "diff_ids" not in value:
            wrong("missing 'diff_ids'")
        return super().convert(value)

    def plain(self) -> dict[str, Any]:
        """See Document; an empty list is no absence."""
        return {**super().plain(), "diff_ids": list(self.diff_ids)}


class History(Document, created_by="created_by", empty_layer="empty_layer"):
    """How one layer came about, or a step that made none."""

    created: str | None = None  # RFC 3339
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(Document, os_version="os.version", os_features="os.features"):
    """What is in the image and how it is run.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
    """

    architecture: str
    os: str
    rootfs: RootFs
    created: str | None = None  # RFC 3339
    author: str = ""
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()
    config: ContainerConfig = ContainerConfig()
    history: tuple[History, ...] = ()


def is_embedded(descriptor: Descriptor) -> bool:
    """Whether a descriptor's `data` is what it describes, as far as its digest can be computed."""
    from binascii import a2b_base64

    from veloci.spec.digest import VERIFIED, hasher

    try:
        data = a2b_base64(descriptor.data or "", strict_mode=True)
    except ValueError:
        return False
    algorithm, _, encoded = descriptor.digest.partition(":")
    if len(data) != descriptor.size:
        return False
    if algorithm not in VERIFIED:
        return True
    sum_ = hasher(descriptor.digest)
    sum_.update(data)
    return sum_.hexdigest() == encoded

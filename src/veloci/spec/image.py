"""Descriptor, manifest, index, image config (image-spec), in OCI's and Docker's form alike.

What was read is kept as bytes and never written again from the value: unknown
fields are ignored (considerations.md#extensibility) and would be lost.
"""

from __future__ import annotations

from veloci.spec import media
from veloci.spec.digest import Digest
from veloci.spec.document import Document, Json
from veloci.spec.platform import Platform

REF_NAME = "org.opencontainers.image.ref.name"  # annotations.md: the name of an image in a layout's index


class Descriptor(Document):
    """What some content is, how long (bytes), and its hash.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#properties
    """

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    data: str | None = None  # base64
    platform: Platform | None = None
    artifact_type: str | None = None


class Manifest(Document):
    """One image for one platform.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#image-manifest-property-descriptions
    """

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]  # base first
    media_type: str = media.MANIFEST
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Index(Document):
    """Several manifests under one name: one a platform, or whatever their descriptors say.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md
    """

    schema_version: int
    manifests: tuple[Descriptor, ...] = ()
    media_type: str = media.INDEX
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


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

    type: str
    diff_ids: tuple[Digest, ...] = ()


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

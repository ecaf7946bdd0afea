"""One image in the store: its manifest and its config, read together."""

from __future__ import annotations

from veloci.errors import InvalidInput, NotFound
from veloci.spec import digest as digests
from veloci.spec import media, platform
from veloci.spec.image import ImageConfig, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.content.store import Store
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.platform import Platform

DEPTH = 8  # indexes within indexes


class Image:
    """An image: the value of its documents beside their bytes.

    descriptor: of the manifest. raw, manifest: its bytes and value. config_raw, config: the same of
    the config. Raises NotFound, Corrupt, InvalidInput for documents that contradict each other.
    """

    def __init__(self, store: Store, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.raw = store.read(descriptor)
        self.manifest = Manifest.decode(self.raw, name=f"manifest {descriptor.digest}")
        config = self.manifest.config
        if config.media_type not in media.CONFIGS:
            raise InvalidInput(f"{descriptor.digest} is no image but an artifact: its config is {config.media_type}")
        self.config_raw = store.read(config)
        self.config = ImageConfig.decode(self.config_raw, name=f"config {config.digest}")
        if self.config.rootfs.type != "layers":
            raise InvalidInput(
                f"expected 'layers', got {self.config.rootfs.type!r}", where=f"config {self.id}: $.rootfs.type"
            )
        if len(self.layers) != len(self.diff_ids):
            raise InvalidInput(
                f"{len(self.layers)} layers, but {len(self.diff_ids)} diff IDs", where=f"image {self.id}"
            )

    @property
    def id(self) -> Digest:
        """The config's digest, docker's image ID."""
        return self.manifest.config.digest

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers' descriptors, base first."""
        return self.manifest.layers

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The digests of the layers' uncompressed tars, base first."""
        return self.config.rootfs.diff_ids

    @property
    def chain_id(self) -> Digest:
        """What identifies all its layers together; "" for an image of none."""
        chain = digests.chain_ids(self.diff_ids)
        return chain[-1] if chain else ""

    @property
    def size(self) -> int:
        """Bytes of its documents and compressed layers."""
        return len(self.raw) + len(self.config_raw) + sum(layer.size for layer in self.layers)


def select(store: Store, descriptor: Descriptor, wanted: Platform | None = None) -> Image:
    """The image behind `descriptor`: itself, or the one in an index that fits best.

    wanted: None is this machine's platform; an image that stands alone is taken whatever it is for,
    unless a platform is given. Raises NotFound with what there is instead.
    """
    offered: list[str] = []
    found = _find(store, descriptor, wanted or platform.host(), offered, DEPTH)
    if found is None:
        raise NotFound(
            f"{descriptor.digest} has no image for {wanted or platform.host()}",
            hint=f"--platform {offered[0]}" if offered else "",
        )
    image = Image(store, found)
    if wanted and not platform.matches(wanted, platform_of(image.config)):
        raise NotFound(
            f"{descriptor.digest} is for {platform_of(image.config)}, not for {wanted}",
            hint=f"--platform {platform_of(image.config)}",
        )
    return image


def platform_of(config: ImageConfig) -> Platform:
    """The platform that a config names."""
    return platform.Platform(architecture=config.architecture, os=config.os, variant=config.variant or None)


def _find(store: Store, descriptor: Descriptor, wanted: Platform, offered: list[str], depth: int) -> Descriptor | None:
    """The descriptor of the manifest that fits best, depth first; what does not fit is added to `offered`."""
    if media.is_manifest(descriptor.media_type):
        return descriptor
    if not media.is_index(descriptor.media_type):
        raise InvalidInput(f"{descriptor.digest} is neither image nor index, but {descriptor.media_type}")
    if not depth:
        raise InvalidInput(f"{descriptor.digest}: more than {DEPTH} indexes within each other")
    index = Index.decode(store.read(descriptor), name=f"index {descriptor.digest}")
    for place in platform.preferred(wanted, [entry.platform for entry in index.manifests]):
        entry = index.manifests[place]
        if media.is_manifest(entry.media_type) or media.is_index(entry.media_type):
            found = _find(store, entry, wanted, offered, depth - 1)
            if found is not None:
                return found
    offered += platform.others(wanted, [entry.platform for entry in index.manifests])
    return None

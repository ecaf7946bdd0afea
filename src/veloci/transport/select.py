"""One image of what a place names: the one for a platform, where it names several."""

from __future__ import annotations

from veloci.errors import InvalidInput, NotFound
from veloci.spec import media, platform
from veloci.spec.image import ImageConfig, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.image import Descriptor
    from veloci.spec.platform import Platform
    from veloci.transport.place import Source

DEPTH = 8  # indexes within indexes
CONFIG = 4 << 20  # bytes of a config, at most


def select(source: Source, descriptor: Descriptor, raw: bytes, wanted: Platform | None) -> tuple[Descriptor, bytes]:
    """The manifest of the image for a platform (None: this machine's): itself, or the one in an index that fits best.

    An image that stands alone is taken whatever it is for, unless a platform is given. Raises NotFound.
    """
    if not media.is_index(descriptor.media_type):
        if wanted is not None:
            _check_platform(source, descriptor, raw, wanted)
        return descriptor, raw
    offered: list[str] = []
    found = _fitting(source, descriptor, raw, wanted or platform.host(), offered, DEPTH)
    if found is None:
        there = ", ".join(dict.fromkeys(offered))
        raise NotFound(
            f"no image for {wanted or platform.host()}",
            where=source.name,
            hint=f"--platform {offered[0]} (there is {there})" if offered else "",
        )
    return found


def _fitting(
    source: Source, descriptor: Descriptor, raw: bytes, wanted: Platform, offered: list[str], depth: int
) -> tuple[Descriptor, bytes] | None:
    if not depth:
        raise InvalidInput(f"more than {DEPTH} indexes within each other", where=source.name)
    entries = Index.decode(raw, name=f"index {descriptor.digest}").manifests
    for place in platform.preferred(wanted, [entry.platform for entry in entries]):
        entry = entries[place]
        if media.is_manifest(entry.media_type):
            return source.manifest(entry)
        if media.is_index(entry.media_type):
            inner, inner_raw = source.manifest(entry)
            found = _fitting(source, inner, inner_raw, wanted, offered, depth - 1)
            if found is not None:
                return found
    offered += platform.others(wanted, [entry.platform for entry in entries])
    return None


def _check_platform(source: Source, descriptor: Descriptor, raw: bytes, wanted: Platform) -> None:
    manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
    config = ImageConfig.decode(small(source, manifest.config), name=f"config {manifest.config.digest}")
    offered = platform.Platform(architecture=config.architecture, os=config.os, variant=config.variant or None)
    if not platform.matches(wanted, offered):
        raise NotFound(f"the image is for {offered}, not for {wanted}", where=source.name, hint=f"--platform {offered}")


def small(source: Source, descriptor: Descriptor) -> bytes:
    """A whole small blob, verified: a config. Raises InvalidInput, NotFound, Corrupt."""
    if descriptor.size > CONFIG:
        raise InvalidInput(f"config {descriptor.digest} has more than {CONFIG} bytes", where=source.name)
    from veloci.layer.stream import Verified

    with source.blob(descriptor) as chunks, Verified(chunks, descriptor.digest, descriptor.size) as checked:
        return b"".join(checked)

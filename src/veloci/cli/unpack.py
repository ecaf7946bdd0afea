"""`veloci unpack`."""

from __future__ import annotations

from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.image import Descriptor, ImageConfig
    from veloci.spec.platform import Platform
    from veloci.transport.place import Source


def unpack(image: str, bundle: str, /, *, platform: str | None = None) -> int:
    """Unpack an image to an OCI bundle: its files in BUNDLE/rootfs, and BUNDLE/config.json.

    IMAGE is in any place, written as skopeo writes it: oci:DIRECTORY[:NAME], docker-archive:FILE,
    docker://NAME, …, or a NAME in the local store. `veloci-runtime run`, runc and crun run the bundle.

    --platform OS/ARCH   the image for this platform
    """
    from veloci.engine.engine import Engine
    from veloci.spec import platform as platforms
    from veloci.transport.names import Places

    engine = Engine()
    places = Places(engine.store, engine.names, lambda name: engine.images.resolve(name).descriptor)
    with places.source(image) as source:
        _unpack(source, bundle, platforms.parse(platform) if platform else None)
    return 0


def _unpack(source: Source, target: str, wanted: Platform | None) -> None:
    from veloci.errors import InvalidInput
    from veloci.layer.stream import Verified
    from veloci.snapshot.bundle import bundle
    from veloci.spec.image import ImageConfig, Manifest
    from veloci.transport.select import select

    descriptor, raw = select(source, *source.manifest(), wanted)
    manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
    described = manifest.config
    with source.blob(described) as chunks, Verified(chunks, described.digest, described.size) as checked:
        config = ImageConfig.decode(b"".join(checked), name=f"config {described.digest}")
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidInput(f"{len(manifest.layers)} layers, but {len(diff_ids)} diff IDs", where=source.name)
    layers = ((_blob(source, layer), diff_id) for layer, diff_id in zip(manifest.layers, diff_ids, strict=True))
    with bundle(target, layers) as (making, root):
        _configure(config, making, root)


@contextmanager
def _blob(source: Source, layer: Descriptor) -> Iterator[Iterator[bytes]]:
    """A layer as it is stored, checked against its digest."""
    from veloci.layer.stream import Verified

    with source.blob(layer) as chunks, Verified(chunks, layer.digest, layer.size) as checked:
        yield checked


def _configure(image: ImageConfig, making: str, root: int) -> None:
    """Write config.json; an image that names no command gets a shell, as umoci does."""
    from veloci.bundle.configure import configure
    from veloci.bundle.options import Options
    from veloci.kernel.files import read_in_root
    from veloci.spec.document import dumps

    command = (image.config.entrypoint or ()) + (image.config.cmd or ())
    document = configure(
        image,
        Options() if command else Options(args=("sh",)),
        passwd=read_in_root(root, "/etc/passwd", 4 << 20),
        group=read_in_root(root, "/etc/group", 4 << 20),
    )
    with open(f"{making}/config.json", "xb") as file:
        file.write(dumps(document, indent=2) + b"\n")

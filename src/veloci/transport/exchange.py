"""Between the local store and a registry: what `pull` and `push` do."""

from __future__ import annotations

from veloci.errors import Corrupt, InvalidInput, NotFound
from veloci.image.image import Image
from veloci.snapshot.unpack import Unpacking
from veloci.spec import media
from veloci.spec.image import ImageConfig, Manifest
from veloci.spec.platform import Platform, host, matches
from veloci.transport.copy import copy
from veloci.transport.memory import Memory
from veloci.transport.place import anew
from veloci.transport.registry import RegistryPlace
from veloci.transport.select import select, small
from veloci.transport.store import StorePlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.registry.session import Session
    from veloci.snapshot.snapshots import Snapshots
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.place import Progress


class NoImage(InvalidInput):
    """What a registry has under a name is an artifact."""


class Pulled:
    """What a pull brought.

    descriptor: of the image's manifest, which the name now stands for. digest: what the registry has under
    the name, perhaps an index. changed: whether the name stood for something else before.
    """

    def __init__(self, reference: Reference, descriptor: Descriptor, digest: Digest, *, changed: bool) -> None:
        self.reference, self.descriptor = reference, descriptor
        self.digest, self.changed = digest, changed


def pull(
    store: Store,
    names: Names,
    reference: Reference,
    *,
    session: Session | None = None,
    platform: Platform | None = None,
    progress: Progress | None = None,
    parallel: Callable[..., Iterable[Descriptor]] = map,
    ahead: Callable[[Iterator[bytes]], Generator[bytes]] | None = None,
    snapshots: Snapshots | None = None,
) -> Pulled:
    """Bring an image into the store under its name.

    Raises NotFound, Denied, Unavailable, Corrupt, HostError, InvalidInput; of these NoImage for an artifact.

    snapshots: unpack its layers there, each while it comes; ahead: see Unpacking. Where all of it is here already, the
    registry is asked for no more than the digest, which counts against no limit of pulls.
    """
    reference = reference.with_default_tag()
    source = RegistryPlace(reference, session)
    try:
        here = names.get(str(reference))
        before = here.digest
    except NotFound:
        before = ""
    else:
        digest = _same(source, store, here, platform, snapshots)
        if digest:
            return Pulled(reference, here, digest, changed=False)
    destination = StorePlace(store, names, reference)

    def work() -> tuple[Descriptor, Descriptor]:
        found, _raw = source.manifest()
        layers = _layers(source, destination, platform)
        if snapshots is None:
            return found, copy(source, destination, platform=platform, progress=progress, parallel=parallel, once=True)
        with Unpacking(snapshots, layers, ahead) as unpacking:
            destination.watch = unpacking
            descriptor = copy(source, destination, platform=platform, progress=progress, parallel=parallel, once=True)
            unpacking.finish(store, parallel=parallel)
        return found, descriptor

    found, descriptor = anew(source, work)
    Memory(store.root).note_name(descriptor.digest, reference.replace(tag=None, digest=found.digest))
    return Pulled(reference, descriptor, found.digest, changed=before != descriptor.digest)


def _same(
    source: RegistryPlace, store: Store, here: Descriptor, wanted: Platform | None, snapshots: Snapshots | None
) -> Digest | None:
    """The digest that the registry has under the name, if that is what `here` was pulled as or pushed as, and whole."""
    try:
        image = Image(store, here)
    except (NotFound, Corrupt, InvalidInput):
        return None
    offered = Platform(architecture=image.config.architecture, os=image.config.os, variant=image.config.variant or None)
    if not matches(wanted or host(), offered) or not all(store.has(layer) for layer in image.layers):
        return None
    if snapshots is not None and not snapshots.has(image.chain_id):
        return None
    found = source.repository.resolve()
    known = Memory(store.root).names(here.digest)
    there = source.reference
    names = [name.digest for name in known if (name.registry, name.repository) == (there.registry, there.repository)]
    return found.digest if found and found.digest in names else None


def _layers(source: RegistryPlace, store: StorePlace, platform: Platform | None) -> list[tuple[Descriptor, Digest]]:
    """The layers that an image is going to have, each with its diff ID. Raises NoImage for an artifact."""
    descriptor, raw = select(source, *source.manifest(), platform)
    manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
    if manifest.config.media_type not in media.CONFIGS:
        kind = manifest.artifact_type or manifest.config.media_type
        hint = f"veloci artifact pull docker://{source.name}"
        raise NoImage(f"it is no image but an artifact ({kind})", where=source.name, hint=hint)
    raw = small(source, manifest.config)
    store.put_manifest(manifest.config, raw)  # so that it comes once
    diff_ids = ImageConfig.decode(raw, name=f"config {manifest.config.digest}").rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidInput(f"{len(manifest.layers)} layers, but {len(diff_ids)} diff IDs", where=source.name)
    return list(zip(manifest.layers, diff_ids, strict=True))


def push(
    store: Store,
    names: Names,
    descriptor: Descriptor,
    reference: Reference,
    *,
    session: Session | None = None,
    format: str | None = None,
    progress: Progress | None = None,
    parallel: Callable[..., Iterable[Descriptor]] = map,
) -> Descriptor:
    """Send the image `descriptor` to where `reference` says; an index with all it holds.

    format: "oci" or "docker"; None keeps what it is. Returns what the registry now has under the name.
    Raises Denied, Unavailable, InvalidInput, NotFound for a blob that the store lacks.
    """
    source = StorePlace(store, names, reference, descriptor)
    done = copy(
        source, RegistryPlace(reference, session), format=format, all=True, progress=progress, parallel=parallel
    )
    Memory(store.root).note_name(descriptor.digest, reference.replace(tag=None, digest=done.digest))
    return done

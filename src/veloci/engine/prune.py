"""Removing what nobody uses: containers that ended, networks, images, the build cache."""

from __future__ import annotations

from veloci.engine.journal import pruned
from veloci.errors import VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.engine.engine import Engine
    from veloci.engine.images import Listed
    from veloci.engine.record import Record
    from veloci.engine.usage import CacheUse
    from veloci.network.store import Network
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor


def containers(engine: Engine, wanted: Callable[[Record], bool]) -> tuple[list[str], int]:
    """Remove the containers that do not live and are `wanted`. Returns their IDs and the bytes that they wrote."""
    from veloci.engine.usage import Usage

    gone, freed = [], 0
    for record, alive, size in Usage(engine).containers():
        if alive or not wanted(record):
            continue
        try:
            engine.containers.remove(record.id)
        except VelociError:  # started or removed just now
            continue
        gone.append(record.id)
        freed += size
    pruned(engine, "container", freed)
    return gone, freed


def networks(engine: Engine, wanted: Callable[[Network], bool]) -> list[str]:
    """Remove the networks but `bridge` that no container has and that are `wanted`. Returns their names."""
    from veloci.engine.record import Records

    used = {record.network for record in Records(engine.root, engine.run_root).all()}
    gone = []
    for network in engine.networks.all():
        if network.name == "bridge" or network.name in used or not wanted(network):
            continue
        try:
            engine.networks.remove(network.name)
        except VelociError:  # somebody uses it
            continue
        gone.append(network.name)
    pruned(engine, "network")
    return gone


def images(engine: Engine, wanted: Callable[[Listed], bool], *, all: bool) -> tuple[list[tuple[str, str]], int]:
    """Remove the images without a name, or (all) those that no container has, as far as they are `wanted`.

    What refers to an image that is here, a signature say, stays with it. Returns what was done as Images.remove does,
    and the bytes freed: also those of what killed commands left.
    """
    from veloci.engine.garbage import collect, needed
    from veloci.engine.image_removal import remove, users

    done: list[tuple[str, str]] = []
    kept = needed(engine).blobs
    for listed in engine.images.all():
        if (listed.names and not all) or users(engine, listed.id) or not wanted(listed):
            continue
        if not listed.names and _refers(engine, listed.descriptor, kept):
            continue
        try:
            done += remove(engine, listed.descriptor, None, force=True, prune=False)
        except VelociError:  # a container was made of it just now, or it is gone
            continue
    freed = collect(engine, older=0)
    pruned(engine, "image", freed)
    return done, freed


def _refers(engine: Engine, descriptor: Descriptor, kept: set[Digest]) -> bool:
    """Whether a manifest has a subject that is kept."""
    from veloci.registry.referrers import referring

    try:
        found = referring(engine.store.read(descriptor), descriptor.media_type, descriptor.digest)
    except VelociError:
        return False  # damaged, it refers to nothing
    return found is not None and found[0] in kept


def cache(
    engine: Engine, wanted: Callable[[CacheUse], bool], *, all: bool, keep: int | None = None
) -> tuple[list[str], int]:
    """Drop from the build cache what no image needs, or (all) everything, as far as it is `wanted`.

    keep: bytes that may stay; the least recently used goes first until no more is there. What a running
    build uses stays. Returns the names of what went, and the bytes freed.
    """
    from veloci.build.cache import Cache
    from veloci.build.cache_mounts import CacheMounts
    from veloci.engine.garbage import collect
    from veloci.engine.usage import Usage

    root = f"{engine.root}/build"
    entries, mounts = Cache(root), CacheMounts(root)
    engine.builds.sweep()
    found = Usage(engine).cache()
    left = sum(each.size for each in found)
    gone, freed = [], 0
    for each in found:
        if keep is not None and left <= keep:
            break
        if (each.shared and not all) or not wanted(each):
            continue
        if each.kind == "exec.cachemount":
            if not mounts.remove(each.name):
                continue  # a build has it
            freed += each.size
        else:
            entries.forget(each.name)
        left -= each.size
        gone.append(each.name)
    freed += collect(engine, older=0)
    pruned(engine, "builder", freed)
    return gone, freed

"""Removing an image: its names first, then what nothing else needs. Containers keep what they use."""

from __future__ import annotations

from veloci.engine.journal import identity, image
from veloci.errors import Conflict
from veloci.spec.reference import Reference
from veloci.transport.memory import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor


def remove(
    engine: Engine, descriptor: Descriptor, reference: Reference | None, *, force: bool, prune: bool
) -> list[tuple[str, str]]:
    """See Images.remove. reference: the one name to remove; None, as for an image given by ID, all of them."""
    image_id, labels = identity(engine, descriptor)
    found = [listed.descriptor for listed in engine.images.all() if listed.id == image_id]
    same = {each.digest for each in found}
    names = [name for name, other in engine.names.all() if other.digest in same]
    tagged = [name for name in names if name not in same]
    if reference is not None and str(reference) not in tagged:  # a digest that is there under tags
        reference = None
    if reference is None and len({name.rpartition(":")[0] for name in tagged}) > 1 and not force:
        raise Conflict(
            f"unable to delete {_short(image_id)} (must be forced) - image is referenced in multiple repositories",
            hint=f"veloci rmi -f {_short(image_id)}",
        )
    going = [str(reference)] if reference is not None else tagged
    last = len(going) == len(tagged)
    if last:
        _check_unused(engine, image_id, reference, force=force)
    for name in going:
        engine.names.remove(name)
        image(engine, "untag", image_id, labels)
    done = [("Untagged", Reference.parse(name).familiar()) for name in going]
    if last:
        for name in same.intersection(names):
            engine.names.remove(name)
        memory = Memory(engine.store.root)
        for digest in same:
            memory.forget_names(digest)
        done.append(("Deleted", image_id))
        image(engine, "delete", image_id)
        if prune:
            from veloci.engine.garbage import collect

            collect(engine)
    return done


def _check_unused(engine: Engine, image_id: Digest, reference: Reference | None, *, force: bool) -> None:
    for container, running in users(engine, image_id):
        if force and not running:
            continue
        forced = "cannot be forced" if running else "must be forced"
        if reference is not None:
            problem = (
                f"unable to remove repository reference {reference.familiar()!r} ({forced}) - container "
                f"{container[:12]} is using its referenced image {_short(image_id)}"
            )
        else:
            kind = "running" if running else "stopped"
            problem = (
                f"unable to delete {_short(image_id)} ({forced}) - image is being used by {kind} "
                f"container {container[:12]}"
            )
        raise Conflict(problem, hint=f"veloci rm {'-f ' if running else ''}{container[:12]}")


def users(engine: Engine, image_id: Digest) -> list[tuple[str, bool]]:
    """The containers made of the image: ID, and whether each runs."""
    from os.path import isdir

    if not isdir(f"{engine.root}/containers"):
        return []  # there never was one
    from veloci.engine.record import Records

    records = Records(engine.root, engine.run_root)
    mine = [record.id for record in records.all() if record.image_id == image_id]
    return [(id, records.current(id).status in ("running", "paused", "restarting")) for id in mine]


def _short(digest: Digest) -> str:
    return digest.partition(":")[2][:12]

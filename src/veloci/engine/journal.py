"""What is done to images and networks, told to the journal of events in docker's words."""

from __future__ import annotations

from veloci.monitor.events import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from veloci.engine.engine import Engine
    from veloci.network.store import Network
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference


def image(engine: Engine, action: str, id: Digest, labels: Mapping[str, str] | None = None, *, name: str = "") -> None:
    """Tell what was done to an image of ours. name: the one that it was done to; "" is the ID, as with docker."""
    note(engine.run_root, "image", action, id, {**(labels or {}), "name": name or id})


def named(engine: Engine, reference: Reference, descriptor: Descriptor) -> None:
    """Tell that an image has a name from now on."""
    id, labels = identity(engine, descriptor)
    image(engine, "tag", id, labels, name=reference.with_default_tag().familiar())


def travelled(engine: Engine, action: str, reference: Reference, descriptor: Descriptor) -> None:
    """Tell that an image was pulled or pushed: docker knows it by its name then, and calls it by its repository."""
    attributes = {**identity(engine, descriptor)[1], "name": reference.familiar_name()}
    note(engine.run_root, "image", action, reference.with_default_tag().familiar(), attributes)


def network(engine: Engine, action: str, network: Network) -> None:
    """Tell what was done to a network of ours."""
    note(engine.run_root, "network", action, network.id, {"name": network.name, "type": "bridge"})


def pruned(engine: Engine, kind: str, freed: int = 0) -> None:
    """Tell that what nobody used was removed. kind: as in `note`; freed: bytes."""
    note(engine.run_root, kind, "prune", "", {"reclaimed": str(freed)})


def identity(engine: Engine, descriptor: Descriptor) -> tuple[Digest, Mapping[str, str]]:
    """An image's ID and labels; of what cannot be read the descriptor's digest, and none."""
    from veloci.errors import VelociError
    from veloci.image.image import select

    try:
        found = select(engine.store, descriptor)
    except VelociError:
        return descriptor.digest, {}
    return found.id, found.config.config.labels

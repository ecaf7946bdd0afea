"""Layers of an image made one, or put on another base; what is not changed is not read."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.image.draft import epoch, layer_steps, step
from veloci.layer.compare import compare
from veloci.layer.diff import tree
from veloci.transport.unpacked import unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.transport.edited import Edited

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
PLATFORM = ("architecture", "os", "variant", "os.version")


def pairs(image: Edited) -> list[tuple[Descriptor, Digest]]:
    """An image's layers, each with its diff ID, base first."""
    return list(zip(image.draft.layers, image.draft.diff_ids, strict=True))


def squash(
    image: Edited,
    keep: int,
    scratch: str,
    *,
    kind: str = "gzip",
    level: int | None = None,
    created_by: str = "veloci image squash",
) -> None:
    """Make all layers but the first `keep` one. The tree stays; steps of the history that made no layer, too.

    scratch: a directory where trees are for a while. kind, level: the new layer's compression.
    Raises Corrupt, InvalidInput, HostError.
    """
    layers = pairs(image)
    added = image.add(_merged(image, layers, keep, scratch), kind, level)
    history = image.draft.history
    kept = history[: layer_steps(history, keep)]
    empty = [each for each in history[len(kept) :] if each.get("empty_layer")]
    made = step(created_by, f"{len(layers) - keep} layers in one")
    image.draft.put_layers([*layers[:keep], added], [*kept, *empty, made])


def _merged(image: Edited, layers: list[tuple[Descriptor, Digest]], keep: int, scratch: str) -> Iterator[bytes]:
    """What the layers above the first `keep` say together."""
    with unpacked(image.base, layers, scratch) as whole:
        if not keep:
            yield from tree(whole, epoch=epoch())
            return
        with unpacked(image.base, layers[:keep], scratch) as below:
            yield from compare(whole, below, epoch=epoch())


def shared(image: Edited, base: Edited) -> int:
    """How many layers `base` has, all of which the image has too. Raises InvalidInput if it is not based on it."""
    count = len(base.draft.diff_ids)
    if image.draft.diff_ids[:count] != base.draft.diff_ids:
        hint = "veloci image stat shows an image's layers"
        raise InvalidInput(f"it is not based on {base.name}", where=image.name, hint=hint)
    return count


def rebase(image: Edited, old: Edited, new: Edited, name: str = "") -> None:
    """Put the layers that the image has beyond `old` on `new`, which is closed together with the image.

    name: the new base's at its registry; it and its digest are noted where the annotations named the old one.
    Raises InvalidInput for an image that is not based on `old`, or a base for another platform.
    """
    image.keep(new)
    draft, count = image.draft, shared(image, old)
    steps = len(old.draft.history)
    if draft.history[:steps] != old.draft.history:
        steps = layer_steps(draft.history, count)
    for key in PLATFORM:
        if draft.config.get(key) != new.draft.config.get(key):
            raise InvalidInput(f"{new.name} is for another platform ({key})", where=image.name)
    for layer in new.draft.layers:
        image.borrow(layer, new.base)
    draft.put_layers([*pairs(new), *pairs(image)[count:]], [*new.draft.history, *draft.history[steps:]])
    notes = draft.manifest.get("annotations") or {}
    if draft.format == "oci" and BASE_DIGEST in notes:
        named = {BASE_NAME: name} if name else {}
        draft.manifest["annotations"] = {**notes, **named, BASE_DIGEST: new.manifest()[0].digest}

"""An image's own layers on another base: what `veloci image rebase` does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.cli.surgery import Way
    from veloci.transport.edited import Edited

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"


def rebased(edited: Edited, old: str | None, new: str | None, platform: str | None, way: Way) -> None:
    """Change the layers, history and base annotations of an image.

    old, new: the bases, in any place; None is what the image's annotations say. Raises InvalidInput for an image
    that is not based on `old`, NotFound.
    """
    from veloci.errors import InvalidInput
    from veloci.image.draft import layer_steps

    notes = edited.draft.manifest.get("annotations") or {}
    new = new or (f"docker://{notes[BASE_NAME]}" if BASE_NAME in notes else None)
    if new is None:
        raise InvalidInput("its annotations name no base", where=edited.name, hint="--new-base IMAGE")
    if old is None and BASE_DIGEST in notes and BASE_NAME in notes:
        old = f"docker://{_repository(notes[BASE_NAME])}@{notes[BASE_DIGEST]}"
    if old is None:
        raise InvalidInput("its annotations name no base", where=edited.name, hint="--old-base IMAGE")
    draft = edited.draft
    pairs = list(zip(draft.layers, draft.diff_ids, strict=True))
    with way.opened(old, platform) as below:
        before = len(below.draft.diff_ids)
        if draft.diff_ids[:before] != below.draft.diff_ids:
            raise InvalidInput(f"it is not based on {old}", where=edited.name, hint="veloci history shows its layers")
        steps = len(below.draft.history)
        if draft.history[:steps] != below.draft.history:
            steps = layer_steps(draft.history, before)
    base = way.opened(new, platform)  # read from until the image is written
    edited.keep(base)
    added = list(zip(base.draft.layers, base.draft.diff_ids, strict=True))
    for layer, _ in added:
        edited.borrow(layer, base.base)
    draft.put_layers([*added, *pairs[before:]], [*base.draft.history, *draft.history[steps:]])
    for key in ("architecture", "os", "variant", "os.version"):
        if draft.config.get(key) != base.draft.config.get(key):
            raise InvalidInput(f"{new} is for another platform ({key})", where=edited.name)
    if draft.format == "oci" and BASE_DIGEST in notes:
        digest = base.manifest()[0].digest
        name = new.removeprefix("docker://") if new.startswith("docker://") else notes.get(BASE_NAME, new)
        draft.manifest["annotations"] = {**notes, BASE_NAME: name, BASE_DIGEST: digest}


def _repository(name: str) -> str:
    """A name without tag and digest."""
    from veloci.spec.reference import Reference

    found = Reference.parse(name)
    return f"{found.registry}/{found.repository}"

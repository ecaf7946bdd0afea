"""What a container has written: listed (`diff`), and kept as an image (`commit`)."""

from __future__ import annotations

import os

from veloci.engine.control import pause, unpause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from veloci.engine.engine import Engine
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference

# What a start makes for its mounts in every root file system: no change, and in no image.
MOUNT_POINTS = frozenset(
    b"dev proc sys etc etc/hosts etc/hostname etc/resolv.conf sbin sbin/docker-init".split()
)  # fmt: skip
_WHITEOUT, _OPAQUE = b".wh.", b".wh..wh..opq"


def changes(engine: Engine, word: str) -> Iterator[tuple[str, str]]:
    """The paths that a container added ("A"), changed ("C") and deleted ("D"), by path. Raises NotFound."""
    from veloci.layer.tar import Reader

    id = engine.containers.records.find(word)
    below = engine.snapshots.view(engine.snapshots.parent(id))
    try:
        reader = Reader(engine.snapshots.changes(id, mount_points=MOUNT_POINTS))
        for entry in reader:
            path = b"/" + entry.name.removeprefix(b"./").rstrip(b"/")
            head, _, name = path.rpartition(b"/")
            if not name or name == _OPAQUE:
                continue
            if name.startswith(_WHITEOUT):
                yield "D", os.fsdecode(head + b"/" + name[len(_WHITEOUT) :])
            else:
                yield "C" if _there(below, path) else "A", os.fsdecode(path)
    finally:
        os.close(below)


def commit(
    engine: Engine,
    word: str,
    reference: Reference | None = None,
    *,
    author: str = "",
    message: str = "",
    edits: Sequence[str] = (),
    hold: bool = True,
) -> Descriptor:
    """Keep a container as an image: what it wrote as a layer upon its image's. Returns the manifest's descriptor.

    edits: Dockerfile instructions on the configuration (`ENV A=1`). hold: one that runs is paused meanwhile.
    Raises NotFound, InvalidInput.
    """
    from veloci.engine.image_import import configuration

    records = engine.containers.records
    id = records.find(word)
    config = configuration(tuple(edits), _config(engine, id))
    held = hold and records.current(id).status == "running"
    if held:
        pause(engine, id)
    try:
        return _committed(engine, id, reference, config, author=author, message=message)
    finally:
        if held:
            unpause(engine, id)


def _committed(
    engine: Engine, id: str, reference: Reference | None, config: dict[str, Any], *, author: str, message: str
) -> Descriptor:
    from veloci.engine.journal import identity
    from veloci.engine.tasks import spread
    from veloci.image.assemble import assemble
    from veloci.layer.stream import Hashed, compressed
    from veloci.spec import media
    from veloci.spec.document import loads

    image = engine.images.resolve(engine.containers.records.load(id).image_id)
    document: dict[str, Any] = loads(image.config_raw)
    with engine.store.leased():
        tar = Hashed(engine.snapshots.changes(id, mount_points=MOUNT_POINTS))
        layer = engine.store.adopt(compressed(tar, spread=spread), media.LAYER_GZIP)
        created = _now()
        step = {"created": created, "created_by": " ".join(engine.containers.records.load(id).command)}
        step |= {**({"author": author} if author else {}), **({"comment": message} if message else {})}
        document |= {"created": created, "author": author, "config": config}
        document["rootfs"]["diff_ids"] = [*image.diff_ids, tar.digest]
        document["history"] = [*(document.get("history") or ()), step]
        if not author:
            del document["author"]
        format = "docker" if image.descriptor.media_type == media.DOCKER_MANIFEST else "oci"
        descriptor = assemble(engine.store, document, [*image.layers, layer], format=format)
        engine.images.name(reference, descriptor)
    made = {"imageID": identity(engine, descriptor)[0], "imageRef": reference.familiar() if reference else ""}
    engine.containers.tell(id, "commit", comment=message, **made)
    return descriptor


def _config(engine: Engine, id: str) -> dict[str, Any]:
    """The container's configuration as an image's: what its next container is to do."""
    from veloci.engine.description import described

    known = described(engine, engine.containers.records.load(id))["Config"]
    keys = (
        "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir OnBuild Labels StopSignal Healthcheck Shell"
    ).split()
    return {key: known[key] for key in keys if known.get(key)}


def _there(root: int, path: bytes) -> bool:
    """Whether there is something at `path` beneath the directory `root`."""
    from veloci.kernel.files import open_in_root

    try:
        os.close(open_in_root(root, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW))
    except OSError:
        return False
    return True


def _now() -> str:
    from time import time_ns

    from veloci.monitor.logs import timestamp

    return timestamp(time_ns())

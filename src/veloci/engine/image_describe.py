"""Images as docker describes them: its API's image object (1.47), and the steps of an image's history.

Sizes are those of the layers' uncompressed tars as far as that is cheap to know: a gzip file ends with it
(RFC 1952, ISIZE). Where it does not say, the compressed size stands.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.content.store import Store
    from veloci.engine.engine import Engine
    from veloci.image.image import Image
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference

# The order of the fields of docker's config object.
_ORDER = (
    "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty OpenStdin StdinOnce Env Cmd "
    "Healthcheck ArgsEscaped Image Volumes WorkingDir Entrypoint NetworkDisabled MacAddress OnBuild Labels StopSignal "
    "StopTimeout Shell"
).split()
# What it says of an image that does not say it; from API 1.47.
_CONFIG = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def document(engine: Engine, image: Image, names: list[Reference], descriptor: Descriptor) -> dict[str, Any]:
    """The image, and the names it has here. descriptor: what the names stand for."""
    from veloci.spec.document import loads

    config = image.config
    said: dict[str, Any] = loads(image.config_raw)  # with the fields that we do not know
    return {
        "Id": image.id,
        "RepoTags": [name.familiar() for name in names if name.tag and not name.digest],
        "RepoDigests": repo_digests(engine.store, names, descriptor),
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or "0001-01-01T00:00:00Z",
        "DockerVersion": str(said.get("docker_version") or ""),
        "Author": config.author,
        "Config": _ordered({**_CONFIG, **(said.get("config") or {})}),
        "Architecture": config.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": config.os,
        "Size": size(engine.store, image),
        "GraphDriver": {"Data": _directories(engine, image), "Name": "overlay"},
        "RootFS": {"Type": "layers", **({"Layers": list(image.diff_ids)} if image.diff_ids else {})},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size},
    }


def created(image: Image | None) -> str:
    """When it says that it was made, in UTC: such texts sort as times. "" where it does not say."""
    text = (image.config.created or "") if image else ""
    if not text or text.endswith("Z"):
        return text
    from datetime import UTC, datetime

    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return ""


def repo_digests(store: Store, names: list[Reference], descriptor: Descriptor) -> list[str]:
    """REPOSITORY@DIGEST where it was pulled from or pushed to, of the repositories it has a name of here."""
    from veloci.transport.memory import Memory

    here = {(name.registry, name.repository) for name in names}
    known = Memory(store.root).names(descriptor.digest)
    return sorted(name.familiar() for name in known if (name.registry, name.repository) in here)


def _ordered(config: dict[str, Any]) -> dict[str, Any]:
    """As docker writes it: known fields in their order, then what else there is."""
    return {key: config[key] for key in _ORDER if key in config} | config


def _directories(engine: Engine, image: Image) -> dict[str, str] | None:
    """Where the layers are unpacked; None before they are."""
    from veloci.spec.digest import chain_ids

    chain = chain_ids(image.diff_ids)
    if not chain or not engine.snapshots.has(chain[-1]):
        return None
    paths = [f"{engine.snapshots.layer(chain_id)}/fs" for chain_id in reversed(chain)]
    below = {"LowerDir": ":".join(paths[1:])} if paths[1:] else {}
    return {**below, "UpperDir": paths[0]}


def history(store: Store, image: Image) -> list[dict[str, Any]]:
    """The steps that made the image, the latest first: docker's API objects.

    Id (of the latest the image's, of the others `<missing>`), Created (RFC 3339 or ""), CreatedBy,
    Tags, Size (bytes), Comment. Layers of which the history does not tell come as steps without words.
    """
    layers = list(image.layers)
    steps: list[dict[str, Any]] = []
    for entry in image.config.history:
        layer = layers.pop(0) if layers and not entry.empty_layer else None
        steps.append(
            _step(entry.created or "", entry.created_by, entry.comment, layer_size(store, layer) if layer else 0)
        )
    steps += [_step(image.config.created or "", "", "", layer_size(store, layer)) for layer in layers]
    steps.reverse()
    if steps:
        steps[0]["Id"] = image.id
    return steps


def _step(created: str, created_by: str, comment: str, size: int) -> dict[str, Any]:
    step = {"Id": "<missing>", "Created": created, "CreatedBy": created_by, "Tags": None, "Size": size}
    return {**step, "Comment": comment}


def size(store: Store, image: Image) -> int:
    """Bytes of all the layers' uncompressed tars, as far as it is cheap to know."""
    return sum(layer_size(store, layer) for layer in image.layers)


def layer_size(store: Store, layer: Descriptor) -> int:
    """Bytes of the layer's uncompressed tar if its last bytes tell, else of what is stored."""
    import os

    try:
        file = os.open(store.path(layer.digest), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return layer.size
    try:
        head = os.pread(file, 4, 0)
        if head[:2] != b"\x1f\x8b":
            return _zstd_size(os.pread(file, 18, 0)) or layer.size
        tail = int.from_bytes(os.pread(file, 4, max(layer.size - 4, 0)), "little")
    finally:
        os.close(file)
    # Of several members the last tells of itself alone, and 4 GiB are told as none: both are less than what is stored.
    return max(tail, layer.size)


def _zstd_size(head: bytes) -> int:
    """What the frame's header says (RFC 8878, 3.1.1.1), 0 if nothing."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 18:
        return 0
    descriptor = head[4]
    single, flag = descriptor & 0x20, descriptor >> 6
    width = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    return int.from_bytes(head[start : start + width], "little") + (256 if flag == 1 else 0) if width else 0

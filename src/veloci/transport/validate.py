"""Whether what a place names is what it says, to the last byte: every rule of the image specification that can be seen.

https://github.com/opencontainers/image-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

from veloci.errors import Corrupt, InvalidInput, NotFound, VelociError
from veloci.image.settings import is_time
from veloci.layer.directories import components
from veloci.layer.stream import Verified, decompressed, detect
from veloci.layer.tar import Reader
from veloci.layer.whiteout import PREFIX
from veloci.spec import media
from veloci.spec.image import ImageConfig, Index, Manifest
from veloci.spec.platform import Platform
from veloci.transport.place import drain
from veloci.transport.select import DEPTH, small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Source


def problems(source: Source, *, layers: bool = True) -> Iterator[str]:
    """What is wrong with all that a place names, each in one line; nothing if it is whole.

    layers: whether layers are read too: their digests, what they unpack to, and their tars.
    """
    try:
        descriptor, raw = source.manifest()
        yield from _document(source, descriptor, raw, layers, DEPTH)
    except VelociError as error:
        yield str(error)


def _document(source: Source, descriptor: Descriptor, raw: bytes, layers: bool, depth: int) -> Iterator[str]:
    if not media.is_index(descriptor.media_type):
        yield from _image(source, descriptor, raw, layers)
        return
    if not depth:
        yield f"index {descriptor.digest}: more than {DEPTH} indexes within each other"
        return
    index = Index.decode(raw, name=f"index {descriptor.digest}")
    for entry in index.manifests:
        if not (media.is_manifest(entry.media_type) or media.is_index(entry.media_type)):
            continue  # what is unknown is no error: image-index.md
        try:
            inner, inner_raw = source.manifest(entry)
        except VelociError as error:
            yield f"index {descriptor.digest}: {entry.digest}: {error}"
            continue
        try:
            yield from _document(source, inner, inner_raw, layers, depth - 1)
            yield from _platform(source, entry, inner_raw)
        except VelociError as error:
            yield str(error)


def _platform(source: Source, entry: Descriptor, raw: bytes) -> Iterator[str]:
    """What an index says of an image's platform, and its config otherwise."""
    if entry.platform is None or not media.is_manifest(entry.media_type) or entry.platform.os == "unknown":
        return
    manifest = Manifest.decode(raw, name=f"manifest {entry.digest}")
    if manifest.config.media_type not in media.CONFIGS:
        return
    config = ImageConfig.decode(small(source, manifest.config), name=f"config {manifest.config.digest}")
    own = Platform(architecture=config.architecture, os=config.os)
    said = Platform(architecture=entry.platform.architecture, os=entry.platform.os)
    if own != said:
        yield f"manifest {entry.digest}: the index says it is for {said}, its config for {own}"


def _image(source: Source, descriptor: Descriptor, raw: bytes, layers: bool) -> Iterator[str]:
    name = f"manifest {descriptor.digest}"
    manifest = Manifest.decode(raw, name=name)
    if manifest.config.media_type == media.EMPTY and not manifest.artifact_type:
        yield f"{name}: its config is empty, and it has no artifactType"
    diff_ids: tuple[Digest, ...] = ()
    if manifest.config.media_type in media.CONFIGS:
        config = ImageConfig.decode(small(source, manifest.config), name=f"config {manifest.config.digest}")
        diff_ids = config.rootfs.diff_ids
        yield from (f"config {manifest.config.digest}: {each}" for each in _config(config))
        if len(diff_ids) != len(manifest.layers):
            yield f"{name}: {len(manifest.layers)} layers, but {len(diff_ids)} diff IDs"
            return
    else:
        yield from _blob(source, manifest.config)
    if layers:
        for number, layer in enumerate(manifest.layers):
            if layer.urls:
                continue  # kept elsewhere
            yield from _blob(source, layer, diff_ids[number] if diff_ids and media.is_layer(layer.media_type) else None)


def _config(config: ImageConfig) -> Iterator[str]:
    steps = sum(not step.empty_layer for step in config.history)
    if config.history and steps != len(config.rootfs.diff_ids):
        yield f"its history tells of {steps} layers, there are {len(config.rootfs.diff_ids)}"
    for entry in config.config.env:
        if "=" not in entry[1:]:
            yield f"the variable {entry!r:.100} has no value"
    for field, value in (("architecture", config.architecture), ("os", config.os)):
        if not value:
            yield f"$.{field}: is empty"
    times = [("created", config.created), *((f"history[{n}].created", s.created) for n, s in enumerate(config.history))]
    for where, text in times:
        if text and not is_time(text):
            yield f"$.{where}: {text!r:.100} is no time of RFC 3339"


def _blob(source: Source, blob: Descriptor, diff_id: Digest | None = None) -> Iterator[str]:
    """What is wrong with a blob's bytes, and, of a layer, with its tar."""
    what = f"layer {blob.digest}" if diff_id else f"blob {blob.digest}"
    try:
        with source.blob(blob) as chunks, Verified(chunks, blob.digest, blob.size) as whole:
            if diff_id is None:
                drain(whole)
                return
            head = next(whole, b"")
            kind, said = detect(head), media.compression(blob.media_type)
            if kind != said and media.is_layer(blob.media_type):
                yield f"{what}: it is {kind or 'not compressed'}, its media type says {said or 'not compressed'}"
            with Verified(decompressed(_after(head, whole)), diff_id) as tar:
                yield from (f"{what}: {each}" for each in _tar(tar))
    except (Corrupt, InvalidInput, NotFound) as error:
        yield f"{what}: {error}"


def _after(head: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _tar(tar: Iterable[bytes]) -> Iterator[str]:
    """layer.md: a path MUST NOT stand twice; whiteouts name something."""
    seen: set[bytes] = set()
    for entry in Reader(tar):
        path = components(entry.name)
        shown = entry.name.decode(errors="backslashreplace")
        if path in seen:
            yield f"{shown} stands twice"
        seen.add(path)
        if path.rpartition(b"/")[2] == PREFIX:
            yield f"{shown} removes nothing that could be there"

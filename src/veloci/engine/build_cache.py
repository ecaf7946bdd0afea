"""A build cache elsewhere: --cache-to and --cache-from.

It is an artifact whose config says by which keys which layers are found, and whose layers are theirs, in a
registry or an OCI layout; or (inline) the image itself, whose config says so of its own layers. A step's layer
is fetched when a build finds its key there, and only then.
"""

from __future__ import annotations

from veloci.errors import InvalidInput, Unsupported, VelociError
from veloci.spec import media
from veloci.spec.document import Document, Json, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from veloci.build.cache import Layer
    from veloci.build.execute import Build
    from veloci.engine.engine import Engine
    from veloci.transport.place import Destination, Source

INLINE = "veloci.cache.v1"  # the field of an image's config
KIND = "application/vnd.veloci.buildcache.v1+json"


class Remote(Document):
    """Where a cache is. kind: registry, local or inline (in the image itself).

    whole: the steps of all stages, not of the last alone (mode=max).
    """

    kind: str
    place: str
    tag: str = ""
    whole: bool = False


class Contents(Document):
    """The artifact's config: cache records by key, as build.cache keeps them."""

    layers: dict[str, Json] = {}
    sources: dict[str, Json] = {}


def parse(text: str, where: str) -> Remote:
    """`type=registry,ref=NAME`, `type=local,src=DIR` (dest=DIR for --cache-to), or a NAME. Raises InvalidInput."""
    if "=" not in text:
        return Remote(kind="registry", place=text)
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    kind = fields.get("type", "registry")
    if kind == "inline" and where == "--cache-to":
        return Remote(kind=kind, place="")
    if kind not in ("registry", "local"):
        raise Unsupported(f"no cache of type {kind!r}", where=where, hint="type=registry or type=local")
    place = fields.get("ref", "") if kind == "registry" else fields.get("dest") or fields.get("src", "")
    if not place:
        missing = "ref=NAME" if kind == "registry" else "dest=DIRECTORY" if where == "--cache-to" else "src=DIRECTORY"
        raise InvalidInput(f"{text!r} says no place", where=where, hint=f"type={kind},{missing}")
    mode = fields.get("mode", "min")
    if mode not in ("min", "max"):
        raise InvalidInput(f"unknown mode {mode!r}", where=where, hint="min or max")
    return Remote(kind=kind, place=place, tag=fields.get("tag", "latest"), whole=mode == "max")


def inline(build: Build) -> dict[str, Any]:
    """What the config of a build's image says of its layers' keys."""
    last = {descriptor.digest for descriptor, _ in build.target().layers}
    layers = {name: layer.plain() for name, layer in build.used.items() if layer.descriptor.digest in last}
    return Contents(layers=layers, sources=dict(build.sources)).plain()


def export(engine: Engine, builds: list[Build], remote: Remote) -> None:
    """Send what the builds used. Raises what writing there raises."""
    from veloci.transport.copy import copy
    from veloci.transport.store import StorePlace

    last = {descriptor.digest for build in builds for descriptor, _ in build.target().layers}
    used = {
        name: layer
        for build in builds
        for name, layer in build.used.items()
        if remote.whole or layer.descriptor.digest in last
    }
    sources = {name: found for build in builds for name, found in build.sources.items()}
    contents = Contents(layers={name: layer.plain() for name, layer in used.items()}, sources=sources)
    config = engine.store.put(dumps(contents.plain()), KIND)
    blobs = {layer.descriptor.digest: layer.descriptor for layer in used.values()}
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": KIND,
        "config": config.plain(),
        "layers": [descriptor.plain() for descriptor in blobs.values()],
    }
    descriptor = engine.store.put(dumps(manifest), media.MANIFEST)
    copy(StorePlace(engine.store, engine.names, None, descriptor), _destination(remote))


def _destination(remote: Remote) -> Destination:
    if remote.kind == "local":
        from veloci.transport.layout import LayoutFolder

        return LayoutFolder(remote.place, remote.tag)
    from veloci.spec.reference import Reference
    from veloci.transport.registry import RegistryPlace

    return RegistryPlace(Reference.parse(remote.place).with_default_tag())


def _source(remote: Remote) -> Source:
    if remote.kind == "local":
        from veloci.transport import layout

        return layout.folder(remote.place, remote.tag)
    from veloci.spec.reference import Reference
    from veloci.transport.registry import RegistryPlace

    return RegistryPlace(Reference.parse(remote.place).with_default_tag())


class Imported:
    """Caches elsewhere, to look for keys in."""

    def __init__(self, engine: Engine, remotes: tuple[Remote, ...], warn: Callable[[str], None]) -> None:
        """warn: told of those that cannot be read, which is no failure."""
        self._engine = engine
        self._found: list[tuple[Source, Contents]] = []
        for remote in remotes:
            try:
                source = _source(remote)
                self._found.append((source, self._contents(source)))
            except VelociError as error:
                warn(f"no cache from {remote.place}: {error}")

    def _contents(self, source: Source) -> Contents:
        from veloci.content.store import DOCUMENT
        from veloci.spec.image import Manifest

        descriptor, raw = source.manifest()
        manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
        image = manifest.config.media_type in media.CONFIGS
        if not (image or manifest.config.media_type == KIND) or manifest.config.size > 4 * DOCUMENT:
            raise InvalidInput("it is no build cache of ours", where=source.name)
        with source.blob(manifest.config) as chunks:
            self._engine.store.ingest(manifest.config, chunks)
        with self._engine.store.open(manifest.config) as blob:
            raw, name = b"".join(blob), f"config {manifest.config.digest}"
        if not image:
            return Contents.decode(raw, name=name)
        found = loads(raw).get(INLINE)
        if found is None:
            hint = "build it with --cache-to type=inline"
            raise InvalidInput("the image says nothing of its cache", where=source.name, hint=hint)
        return Contents.decode(dumps(found), name=name)

    def layer(self, name: str) -> Layer | None:
        """The layer under a key, its blob in our store now; None if no cache has it or it does not come."""
        from veloci.build.cache import Layer

        for source, contents in self._found:
            if name not in contents.layers:
                continue
            try:
                layer = Layer.decode(dumps(contents.layers[name]), name=name)
                if not self._engine.store.has(layer.descriptor):
                    with source.blob(layer.descriptor) as chunks:
                        self._engine.store.ingest(layer.descriptor, chunks)
            except VelociError:
                continue
            return layer
        return None

    def source(self, name: str) -> Any:
        """What a COPY from a stage reads, under its key; None if no cache has it."""
        return next((contents.sources[name] for _, contents in self._found if name in contents.sources), None)

    def close(self) -> None:
        """Let the places go."""
        for source, _ in self._found:
            source.__exit__(None, None, None)

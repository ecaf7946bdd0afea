"""From any place to any place: only what is missing travels, and bytes change only where they must."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from veloci.errors import InvalidInput, NotFound
from veloci.image.convert import FORMATS, family, reindexed, rewritten
from veloci.layer.stream import Verified, compressed, decompressed
from veloci.spec import digest as digests
from veloci.spec import media, platform
from veloci.spec.image import Descriptor, ImageConfig, Index, Manifest
from veloci.transport.place import Silent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from veloci.spec.digest import Digest
    from veloci.spec.platform import Platform
    from veloci.transport.place import Destination, Opened, Progress, Source

DEPTH = 8  # indexes within indexes
CONFIG = 4 << 20  # bytes of a config, at most


def copy(
    source: Source,
    destination: Destination,
    *,
    format: str | None = None,
    all: bool = False,
    platform: Platform | None = None,
    progress: Progress | None = None,
    parallel: Callable[..., Iterable[Descriptor]] = map,
    stay_open: bool = False,
) -> Descriptor:
    """Copy an image. Returns what the destination now names. The places are closed, unless they are to `stay_open`.

    format: "oci" or "docker"; None keeps what it is, as far as the destination can hold it. all: every image
    of an index; else the one for `platform` (None: this machine's). parallel: a map for the layers.
    Raises what the places raise; InvalidInput for a format or artifact that cannot be.
    """
    with ExitStack() as places:
        if not stay_open:
            places.enter_context(source)
            places.enter_context(destination)
        return _copy(_job(source, destination, format, progress, parallel), all=all, wanted=platform)


def _job(
    source: Source,
    destination: Destination,
    format: str | None,
    progress: Progress | None,
    parallel: Callable[..., Iterable[Descriptor]],
) -> _Job:
    if format is not None and format not in destination.formats:
        allowed = " or ".join(destination.formats if format in FORMATS else FORMATS)
        raise InvalidInput(f"{destination.name} cannot hold the format {format!r}", where="--format", hint=allowed)
    return _Job(source, destination, format, progress or Silent(), map if destination.serial else parallel)


def _copy(job: _Job, *, all: bool, wanted: Platform | None) -> Descriptor:
    descriptor, raw = job.source.manifest()
    if media.is_index(descriptor.media_type) and all:
        descriptor, raw = job.index(descriptor, raw, DEPTH)
    else:
        descriptor, raw = job.image(*select(job.source, descriptor, raw, wanted))
    job.destination.finish(descriptor, raw)
    return descriptor


def select(source: Source, descriptor: Descriptor, raw: bytes, wanted: Platform | None) -> tuple[Descriptor, bytes]:
    """The manifest of the image for a platform (None: this machine's): itself, or the first in an index that fits.

    An image that stands alone is taken whatever it is for, unless a platform is given. Raises NotFound.
    """
    if not media.is_index(descriptor.media_type):
        if wanted is not None:
            _check_platform(source, descriptor, raw, wanted)
        return descriptor, raw
    offered: list[str] = []
    found = _fitting(source, descriptor, raw, wanted or platform.host(), offered, DEPTH)
    if found is None:
        there = ", ".join(dict.fromkeys(offered))
        raise NotFound(
            f"no image for {wanted or platform.host()}",
            where=source.name,
            hint=f"--platform {offered[0]} (there is {there})" if offered else "",
        )
    return found


def _fitting(
    source: Source, descriptor: Descriptor, raw: bytes, wanted: Platform, offered: list[str], depth: int
) -> tuple[Descriptor, bytes] | None:
    if not depth:
        raise InvalidInput(f"more than {DEPTH} indexes within each other", where=source.name)
    for entry in Index.decode(raw, name=f"index {descriptor.digest}").manifests:
        if entry.platform and not platform.matches(wanted, entry.platform):
            if entry.platform.os != "unknown":  # an attestation
                offered.append(str(entry.platform))
        elif media.is_manifest(entry.media_type):
            return source.manifest(entry)
        elif media.is_index(entry.media_type):
            inner, inner_raw = source.manifest(entry)
            found = _fitting(source, inner, inner_raw, wanted, offered, depth - 1)
            if found is not None:
                return found
    return None


def _check_platform(source: Source, descriptor: Descriptor, raw: bytes, wanted: Platform) -> None:
    manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
    config = ImageConfig.decode(_small(source, manifest.config), name=f"config {manifest.config.digest}")
    offered = platform.Platform(architecture=config.architecture, os=config.os, variant=config.variant or None)
    if not platform.matches(wanted, offered):
        raise NotFound(f"the image is for {offered}, not for {wanted}", where=source.name, hint=f"--platform {offered}")


def _small(source: Source, descriptor: Descriptor) -> bytes:
    if descriptor.size > CONFIG:
        raise InvalidInput(f"config {descriptor.digest} has more than {CONFIG} bytes", where=source.name)
    with source.blob(descriptor) as chunks, Verified(chunks, descriptor.digest, descriptor.size) as checked:
        return b"".join(checked)


class _Job:
    """One copy: what all its images share."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        format: str | None,
        progress: Progress,
        parallel: Callable[..., Iterable[Descriptor]],
    ) -> None:
        self.source, self.destination, self.format = source, destination, format
        self.progress, self.parallel = progress, parallel
        self.origin = source.origin()

    def index(self, descriptor: Descriptor, raw: bytes, depth: int) -> tuple[Descriptor, bytes]:
        """Copy all that an index holds. Returns the index as the destination gets it."""
        if not depth:
            raise InvalidInput(f"more than {DEPTH} indexes within each other", where=self.source.name)
        index = Index.decode(raw, name=f"index {descriptor.digest}")
        now: dict[Digest, Descriptor] = {}
        for entry in index.manifests:
            inner, inner_raw = self.source.manifest(entry)
            if media.is_index(entry.media_type):
                inner, inner_raw = self.index(inner, inner_raw, depth - 1)
            elif media.is_manifest(entry.media_type):
                inner, inner_raw = self.image(inner, inner_raw)
            else:
                raise InvalidInput(f"{entry.digest} in the index is {entry.media_type}", where=self.source.name)
            self.destination.put_manifest(inner, inner_raw)
            now[entry.digest] = inner
        to = self._family(descriptor)
        if to == family(descriptor.media_type) and all(digest == new.digest for digest, new in now.items()):
            return descriptor, raw
        return _described(*reindexed(index, to, now))

    def image(self, descriptor: Descriptor, raw: bytes) -> tuple[Descriptor, bytes]:
        """Copy an image's config and layers. Returns its manifest as the destination gets it."""
        manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
        if manifest.config.media_type in media.CONFIGS and manifest.config.size > CONFIG:
            raise InvalidInput(f"its config has more than {CONFIG} bytes", where=self.source.name)
        to = self._family(descriptor)
        self._config(manifest.config)
        layers = list({layer.digest: layer for layer in manifest.layers}.values())
        now = dict(zip((layer.digest for layer in layers), self.parallel(self.layer, layers), strict=True))
        changed = any(digest != new.digest for digest, new in now.items())
        if to == family(descriptor.media_type) and not changed:
            return descriptor, raw
        found = _described(*rewritten(manifest, to, now if changed else None))
        return found[0].replace(platform=descriptor.platform), found[1]

    def layer(self, layer: Descriptor) -> Descriptor:
        """Copy one layer. Returns what it is at the destination."""
        key = layer.digest.partition(":")[2][:12]
        began, ended, needless = self.destination.words
        if layer.urls and layer.media_type in (media.DOCKER_FOREIGN, media.LAYER_FOREIGN, media.LAYER_FOREIGN_GZIP):
            self.progress.done(key, "Skipped foreign layer")
            return layer
        if self.source.made_up and self.destination.packed and not media.compression(layer.media_type):
            return self._packed(layer, key)
        if self.destination.has(layer):
            self.progress.done(key, needless)
            return layer
        self.progress.start(key, began, layer.size)
        said = self.destination.put(layer, self._counted(layer, key), self.origin)
        self.progress.done(key, said or ended)
        return layer

    def _packed(self, layer: Descriptor, key: str) -> Descriptor:
        """Copy a plain layer of an image whose manifest is ours to make, compressed. Its diff ID is checked."""
        self.progress.start(key, self.destination.words[0], layer.size)
        with self._counted(layer, key)(0) as chunks, Verified(decompressed(chunks), layer.digest, layer.size) as plain:
            found = self.destination.adopt(
                _whole(compressed(plain), plain), layer.media_type.removesuffix(".tar") + _GZIP[layer.media_type]
            )
        self.progress.done(key, self.destination.words[1])
        return found

    def _config(self, config: Descriptor) -> None:
        """Copy the config, or an artifact's, which may be of any kind."""
        if not self.destination.has(config):
            self.destination.put(config, lambda start: self.source.blob(config, start), self.origin)

    def _family(self, descriptor: Descriptor) -> str:
        own = family(descriptor.media_type)
        return self.format or (own if own in self.destination.formats else self.destination.formats[0])

    def _counted(self, layer: Descriptor, key: str) -> Opened:
        """The layer's chunks from a byte on, each counted once however often a copy begins anew."""
        counted = 0

        def chunks(source: Iterable[bytes], at: int) -> Iterator[bytes]:
            nonlocal counted
            for chunk in source:
                at += len(chunk)
                if at > counted:
                    self.progress.advance(key, at - counted)
                    counted = at
                yield chunk

        @contextmanager
        def opened(start: int) -> Generator[Iterator[bytes]]:
            nonlocal counted
            if start > counted:
                self.progress.advance(key, start - counted)
                counted = start
            with self.source.blob(layer, start) as source:
                yield chunks(source, start)

        return opened


_GZIP = {media.LAYER: ".tar+gzip", media.DOCKER_LAYER_TAR: ".tar.gzip"}


def _whole(chunks: Iterable[bytes], checked: Verified) -> Iterator[bytes]:
    """`chunks`, and before their end is told, the check of what they were made of."""
    yield from chunks
    checked.finish()


def _described(raw: bytes, media_type: str) -> tuple[Descriptor, bytes]:
    return Descriptor(media_type=media_type, digest=digests.of(raw), size=len(raw)), raw

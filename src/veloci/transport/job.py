"""The work of one copy: indexes, images, layers."""

from __future__ import annotations

from veloci.blocks import contextmanager, suppress
from veloci.errors import InvalidInput, NotFound
from veloci.image.convert import family, reindexed, rewritten
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.image import Descriptor, ImageConfig, Index, Manifest
from veloci.transport.place import reading
from veloci.transport.select import CONFIG, DEPTH, small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from veloci.layer.stream import Verified
    from veloci.spec.digest import Digest
    from veloci.transport.place import Destination, Opened, Progress, Source

FOREIGN = (media.DOCKER_FOREIGN, media.DOCKER_FOREIGN_TAR, media.LAYER_FOREIGN, media.LAYER_FOREIGN_GZIP)


class Job:
    """One copy: what all its images share. The parameters are `copy`'s."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        *,
        format: str | None,
        compress: tuple[str, int | None] | None,
        preserve: bool,
        progress: Progress,
        parallel: Callable[..., Iterable[Descriptor]],
        spread: Callable[..., Iterable[bytes]],
    ) -> None:
        self.source, self.destination, self.format = source, destination, format
        self.compress, self.preserve = compress, preserve
        self.progress, self.parallel, self.spread = progress, parallel, spread
        self.signed = False  # whether signatures go along: then, too, no digest may change
        self._diff_ids: dict[Digest, Digest] = {}  # a layer's digest -> its diff ID
        if preserve and not destination.exact:
            self._refuse("it cannot hold the image as it is")

    def index(self, descriptor: Descriptor, raw: bytes, depth: int) -> tuple[Descriptor, bytes]:
        """Copy all that an index holds. Returns the index as the destination gets it."""
        if not depth:
            raise InvalidInput(f"more than {DEPTH} indexes within each other", where=self.source.name)
        index = Index.decode(raw, name=f"index {descriptor.digest}")
        now: dict[Digest, Descriptor] = {}
        to = self._family(descriptor)
        for entry in index.manifests:
            if not (media.is_index(entry.media_type) or media.is_manifest(entry.media_type)):
                self._unknown(entry)
                continue
            inner, inner_raw = self.source.manifest(entry)
            if media.is_index(entry.media_type):
                inner, inner_raw = self.index(inner, inner_raw, depth - 1)
            else:
                inner, inner_raw = self.image(inner, inner_raw)
            self.destination.put_manifest(inner, inner_raw)
            now[entry.digest] = inner
        if to == family(descriptor.media_type) and all(digest == new.digest for digest, new in now.items()):
            return descriptor, raw
        return _described(*reindexed(index, to, now))

    def image(self, descriptor: Descriptor, raw: bytes) -> tuple[Descriptor, bytes]:
        """Copy an image's config and layers. Returns its manifest as the destination gets it."""
        manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
        if manifest.config.media_type in media.CONFIGS and manifest.config.size > CONFIG:
            raise InvalidInput(f"its config has more than {CONFIG} bytes", where=self.source.name)
        to = self._family(descriptor)
        layers = list({layer.digest: layer for layer in manifest.layers}.values())
        anew = any(self._kind(layer) is not None for layer in layers)
        if to == "docker" and self.destination.exact and (anew or to != family(descriptor.media_type)):
            self._held(layers)
        if anew:
            if self.preserve or self.signed:
                self._refuse("its layers would be compressed otherwise")
            self._learn(manifest)
        now = self._parts(manifest.config, layers)
        changed = any(digest != new.digest for digest, new in now.items())
        if to == family(descriptor.media_type) and not changed:
            return descriptor, raw
        found = _described(*rewritten(manifest, to, now if changed else None))
        return found[0].replace(platform=descriptor.platform), found[1]

    def _parts(self, config: Descriptor, layers: Sequence[Descriptor]) -> dict[Digest, Descriptor]:
        """Copy the config and the layers, side by side. Returns what each is at the destination, by its digest."""

        def part(descriptor: Descriptor) -> Descriptor:
            if descriptor is not config:
                return self.layer(descriptor)
            self._config(config)
            return config

        first = self.destination.at_hand(config) or any(layer.digest == config.digest for layer in layers)
        if first:
            part(config)
        now = {layer.digest: self.layer(layer) for layer in layers if self._is_needless(layer)}
        rest = [layer for layer in layers if layer.digest not in now]
        if not first:
            rest.insert(0, config)
        return now | dict(zip((each.digest for each in rest), self.parallel(part, rest), strict=True))

    def layer(self, layer: Descriptor) -> Descriptor:
        """Copy one layer. Returns what it is at the destination."""
        key = layer.digest.partition(":")[2][:12]
        began, ended, needless = self.destination.words
        if layer.urls and layer.media_type in FOREIGN and self.destination.exact:
            self.progress.done(key, "Skipped foreign layer")
            return layer
        kind = self._kind(layer)
        if kind is not None:
            return self._packed(layer, key, kind)
        origins = self.source.origins(layer)
        if self.destination.has(layer):
            self.progress.done(key, needless)
        else:
            self.progress.start(key, began, layer.size)
            said = self.destination.put(layer, self._counted(layer, key), origins)
            self.progress.done(key, said or ended)
        for origin in origins:
            self.destination.noted(layer, origin)
        for origin in self.destination.origins(layer):
            self.source.noted(layer, origin)
        return layer

    def _is_needless(self, layer: Descriptor) -> bool:
        """Whether there is nothing to do for a layer but to say so, for which no thread is needed."""
        return self._kind(layer) is None and self.destination.at_hand(layer)

    def _kind(self, layer: Descriptor) -> str | None:
        """How the layer shall be compressed, "" for not at all; None: as it is."""
        if not media.is_layer(layer.media_type) or layer.media_type in FOREIGN:
            return None
        is_now = media.compression(layer.media_type)
        if self.compress:
            kind, level = self.compress
            return kind if kind != is_now or level is not None else None
        return "gzip" if self.source.made_up and self.destination.packed and not is_now else None

    def _packed(self, layer: Descriptor, key: str, kind: str) -> Descriptor:
        """Copy a layer in another compression. Its digest is checked, and what it unpacks to."""
        from veloci.layer.stream import Verified, compressed, decompressed

        level = self.compress[1] if self.compress else None
        media_type = media.packed(layer.media_type, kind)
        diff_id = self._diff_ids.get(layer.digest, "")
        known = self.destination.known(diff_id, media_type) if diff_id and level is None else None
        if known:
            self.progress.done(key, self.destination.words[2])
            return known.replace(annotations=_lasting(layer.annotations))
        self.progress.start(key, self.destination.words[0], layer.size)
        with self._counted(layer, key)(0) as chunks:
            checked = Verified(chunks, layer.digest, layer.size)
            plain: Iterator[bytes] = decompressed(checked)
            tests = [checked]
            if diff_id and diff_id != layer.digest:  # a plain layer is checked already
                plain = Verified(plain, diff_id)
                tests.insert(0, plain)
            packed = compressed(plain, kind, level, spread=self.spread)
            found = self.destination.adopt(_whole(packed, tests), media_type)
        self.progress.done(key, self.destination.words[1])
        return found.replace(annotations=_lasting(layer.annotations))

    def _learn(self, manifest: Manifest) -> None:
        """Read what the layers unpack to."""
        if manifest.config.media_type not in media.CONFIGS:
            return
        config = ImageConfig.decode(small(self.source, manifest.config), name=f"config {manifest.config.digest}")
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise InvalidInput(f"{len(manifest.layers)} layers, but {len(diff_ids)} diff IDs", where=self.source.name)
        self._diff_ids.update(zip((layer.digest for layer in manifest.layers), diff_ids, strict=True))

    def _unknown(self, entry: Descriptor) -> None:
        """Copy what an index lists and nobody here can read, as bytes; a type that is unknown is no error."""
        with suppress(NotFound):
            self._config(entry)

    def _config(self, config: Descriptor) -> None:
        """Copy the config, or an artifact's, which may be of any kind."""
        if not self.destination.has(config):
            self.destination.put(config, lambda start: self.source.blob(config, start), self.source.origins(config))

    def _held(self, layers: Iterable[Descriptor]) -> None:
        """Refuse layers that Docker's family cannot hold, before any is copied."""
        for layer in layers:
            kind = self._kind(layer)
            media_type = layer.media_type if kind is None else media.packed(layer.media_type, kind)
            if not media.docker_holds(media_type):
                zstd = media.compression(media_type) == "zstd"
                raise InvalidInput(
                    f"Docker's format holds no layer of type {media_type}",
                    where=self.destination.name,
                    hint="--compress gzip, or --format oci" if zstd else "--format oci",
                )

    def _family(self, descriptor: Descriptor) -> str:
        own = family(descriptor.media_type)
        to = self.format or (own if own in self.destination.formats else self.destination.formats[0])
        if self.compress and self.compress[0] == "zstd" and not self.format and "oci" in self.destination.formats:
            to = "oci"  # as skopeo: Docker reads no zstd in its own family
        if (self.preserve or self.signed) and to != own:
            self._refuse(f"its documents would be {'Docker' if to == 'docker' else 'OCI'}'s")
        return to

    def _refuse(self, why: str) -> None:
        what, hint = "the digests cannot stay", "leave out --preserve-digests"
        if self.signed:
            what, hint = "its signatures would be of another image", "--remove-signatures of copy and sync"
        raise InvalidInput(f"{what}: {why}", where=self.destination.name, hint=hint)

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
            with reading(self.source, layer, start) as source:
                yield chunks(source, start)

        return opened


def _lasting(annotations: dict[str, str]) -> dict[str, str]:
    """What of a layer's annotations is still so when it is compressed otherwise: not where in its bytes things are."""
    return {key: text for key, text in annotations.items() if not key.startswith(media.OF_BYTES)}


def _whole(chunks: Iterable[bytes], checked: Iterable[Verified]) -> Iterator[bytes]:
    """`chunks`, and before their end is told, the checks of what they were made of."""
    yield from chunks
    for each in checked:
        each.finish()


def _described(raw: bytes, media_type: str) -> tuple[Descriptor, bytes]:
    return Descriptor(media_type=media_type, digest=digests.of(raw), size=len(raw)), raw

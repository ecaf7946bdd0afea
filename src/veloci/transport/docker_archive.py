"""docker-archive:file[:name]: what `docker save` writes and `docker load` reads.

Written as docker 25 and later do: an OCI layout with uncompressed layers, and beside it manifest.json
and repositories, so that every docker, podman and skopeo reads it, and every reader of layouts. Read:
that form and all older ones, whatever their files are called, compressed or not.

https://github.com/moby/docker-image-spec/blob/main/spec.md
"""

from __future__ import annotations

from contextlib import contextmanager

from veloci.errors import Corrupt, InvalidInput, NotFound, VelociError
from veloci.layer.stream import Hashed, Verified, decompressed, detect
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.docker import ArchiveEntry
from veloci.spec.document import Wrong, dumps, loads
from veloci.spec.image import Descriptor, ImageConfig, Manifest
from veloci.spec.reference import Reference
from veloci.transport.files import Archive, opened, read
from veloci.transport.layout import CONTAINERD_NAME, LAYOUT, finished, indexed
from veloci.transport.place import Place
from veloci.transport.tar import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from typing import Any

    from veloci.spec.digest import Digest
    from veloci.transport.place import Chunks, Opened
    from veloci.transport.tar import Sink


def entries(archive: Archive) -> list[ArchiveEntry]:
    """The images that an archive's manifest.json lists. Raises NotFound, InvalidInput."""
    where = f"{archive.name}: manifest.json"
    try:
        listed = loads(read(archive, "manifest.json"))
        if not isinstance(listed, list):
            raise InvalidInput("expected an array", where=where)
        return [ArchiveEntry.convert(item) for item in listed]
    except Wrong as error:
        raise InvalidInput(str(error), where=f"{where}: $[]{error.path}") from None
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}", where=where) from None


class DockerArchiveSource(Place):
    """One image of an archive.

    name: a tag as manifest.json has it, in any spelling, or "@N", the N-th from 0; "" is the only one there.
    """

    made_up = True

    def __init__(self, archive: Archive, name: str = "") -> None:
        """Raises NotFound, InvalidInput, Corrupt for a config that is not what its name says."""
        self.archive, self.name = archive, f"docker-archive:{archive.name}"
        self.entry = _chosen(archive, name)
        self._config = read(archive, self.entry.config)
        config = ImageConfig.decode(self._config, name=f"{archive.name}: {self.entry.config}")
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(self.entry.layers):
            raise InvalidInput(f"{len(self.entry.layers)} layers, but {len(diff_ids)} diff IDs", where=self.name)
        self._files: dict[Digest, str] = {digests.of(self._config): self.entry.config}
        self._unpack: set[Digest] = set()
        layers = [self._layer(name, diff_id) for name, diff_id in zip(self.entry.layers, diff_ids, strict=True)]
        own = Descriptor(media_type=media.DOCKER_CONFIG, digest=digests.of(self._config), size=len(self._config))
        self._raw = dumps(
            {
                "schemaVersion": 2,
                "mediaType": media.DOCKER_MANIFEST,
                "config": own.plain(),
                "layers": [layer.plain() for layer in layers],
            }
        )

    def __exit__(self, *_: object) -> None:
        self.archive.close()

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source. An archive has no manifest of Docker's registry form: this is made from its files."""
        del descriptor
        digest = digests.of(self._raw)
        return Descriptor(media_type=media.DOCKER_MANIFEST, digest=digest, size=len(self._raw)), self._raw

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        name = self._files.get(descriptor.digest)
        if name is None:
            raise NotFound(f"it has no {descriptor.digest}", where=self.name)
        if descriptor.digest in self._unpack:
            return self._unpacked(name, start)
        return opened(self.archive, name, start)

    @contextmanager
    def _unpacked(self, name: str, start: int) -> Generator[Iterator[bytes]]:
        with opened(self.archive, name) as packed:
            yield _after(decompressed(packed), start)

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        """A layer as it is in the archive; one that is packed as no registry takes it (xz) is unpacked on the way."""
        with opened(self.archive, name) as chunks:
            kind = detect(next(chunks, b""))
        size, digest, media_type = self.archive.size(name), diff_id, media.DOCKER_LAYER_TAR
        if kind in ("gzip", "zstd"):
            with opened(self.archive, name) as chunks:
                hashed = Hashed(chunks)
                for _chunk in hashed:
                    pass
            digest = hashed.digest
            media_type = media.DOCKER_LAYER if kind == "gzip" else media.DOCKER_LAYER_ZSTD
        elif kind:
            with opened(self.archive, name) as chunks:
                size = sum(len(chunk) for chunk in decompressed(chunks))
            self._unpack.add(digest)
        self._files[digest] = name
        return Descriptor(media_type=media_type, digest=digest, size=size)


class DockerArchive(Place):
    """An archive as the place images go to: `tags` are the names of the next one; `close` makes it whole.

    path: a file's, the descriptor to write to, or what takes the archive's bytes.
    """

    packed = False
    serial = True
    exact = False

    def __init__(self, path: str | int | Sink, tags: Sequence[Reference] = ()) -> None:
        self._tar = Writer(path)
        self.tags = list(tags)
        self.name = f"docker-archive:{path}"
        self._diff_ids: dict[Digest, Descriptor] = {}  # a blob's digest -> the plain layer
        self._entries: list[dict[str, Any]] = []
        self._repositories: dict[str, dict[str, str]] = {}
        self._index: dict[str, Any] = {}
        self._config = b""

    def __exit__(self, *failure: object) -> None:
        try:
            if self._entries and not any(failure):
                self._done()
        finally:
            self._tar.close()

    def has(self, descriptor: Descriptor) -> bool:
        """See Destination. The config is asked for again with each image."""
        return descriptor.digest in self._diff_ids

    def put(self, descriptor: Descriptor, opened: Opened, origins: Sequence[Reference]) -> str:
        """See Destination. Layers are unpacked."""
        del origins
        with opened(0) as chunks, Verified(chunks, descriptor.digest, descriptor.size) as checked:
            if descriptor.media_type in media.CONFIGS:
                self._config = b"".join(checked)
                self._tar.add(_path(descriptor.digest), self._config)
            else:
                plain = Hashed(decompressed(checked))
                self._tar.stream(lambda: _path(finished(checked, plain.digest)), plain)
                self._diff_ids[descriptor.digest] = Descriptor(
                    media_type=media.LAYER, digest=plain.digest, size=plain.size
                )
        return ""

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """See Destination. Plain whatever it was, as every layer here."""
        plain = Hashed(decompressed(chunks))
        self._tar.stream(lambda: _path(plain.digest), plain)
        found = Descriptor(media_type=media.packed(media_type, ""), digest=plain.digest, size=plain.size)
        self._diff_ids[found.digest] = found.replace(media_type=media.LAYER)
        return found

    def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        del descriptor, raw
        hint = "leave out --all, or copy to oci-archive:"
        raise InvalidInput("Docker's archive holds no index", where=self.name, hint=hint)

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination. More images may follow.

        Raises Corrupt for layers that are not what the config says, InvalidInput for an index or an artifact.
        """
        if media.is_index(descriptor.media_type):
            self.put_manifest(descriptor, raw)
        manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
        if manifest.config.media_type not in media.CONFIGS:
            what = manifest.artifact_type or manifest.config.media_type
            hint = "copy to oci-archive:"
            raise InvalidInput(f"Docker's archive holds no artifact ({what})", where=self.name, hint=hint)
        config = ImageConfig.decode(self._config, name=f"config {manifest.config.digest}")
        layers = [self._diff_ids[layer.digest] for layer in manifest.layers]
        if tuple(layer.digest for layer in layers) != config.rootfs.diff_ids:
            want, got = ", ".join(config.rootfs.diff_ids), ", ".join(layer.digest for layer in layers)
            raise Corrupt(f"the layers of {manifest.config.digest}", want=want, got=got)
        own = manifest.config.replace(media_type=media.CONFIG, annotations={}, urls=())
        document = {
            "schemaVersion": 2,
            "mediaType": media.MANIFEST,
            "config": own.plain(),
            "layers": [layer.plain() for layer in layers],
        }
        self._name(self._documented(dumps(document)), own, layers)

    def _documented(self, raw: bytes) -> Descriptor:
        found = Descriptor(media_type=media.MANIFEST, digest=digests.of(raw), size=len(raw))
        self._tar.add(_path(found.digest), raw)
        return found

    def _name(self, manifest: Descriptor, config: Descriptor, layers: list[Descriptor]) -> None:
        """Enter the image in the archive's four lists."""
        if not self.tags:
            self._index = indexed(self._index, manifest, "")
        for tag in self.tags:
            self._index = indexed(self._index, manifest, tag.tag or "", {CONTAINERD_NAME: str(tag)})
            if tag.tag and layers:
                top = layers[-1].digest.partition(":")[2]
                self._repositories.setdefault(tag.familiar_name(), {})[tag.tag] = top
        self._entries.append(
            {
                "Config": _path(config.digest),
                "RepoTags": [tag.familiar() for tag in self.tags if tag.tag] or None,
                "Layers": [_path(layer.digest) for layer in layers],
                "LayerSources": {layer.digest: layer.plain() for layer in layers},
            }
        )

    def _done(self) -> None:
        self._tar.add("index.json", dumps(self._index))
        self._tar.add("manifest.json", dumps(self._entries))
        self._tar.add("oci-layout", LAYOUT)
        if self._repositories:
            self._tar.add("repositories", dumps(self._repositories))
        self._tar.done()


def normal(text: str) -> Reference:
    """A tag of an archive as a reference, in docker's reading. Raises InvalidInput."""
    return Reference.parse(text).with_default_tag()


def _chosen(archive: Archive, name: str) -> ArchiveEntry:
    listed = entries(archive)
    if name.startswith("@"):
        if not name[1:].isdecimal() or int(name[1:]) >= len(listed):
            raise NotFound(f"there is no image {name}: it has {len(listed)}", where=archive.name)
        return listed[int(name[1:])]
    if name:
        wanted = normal(name)
        found = [entry for entry in listed if any(_same(tag, wanted) for tag in entry.repo_tags)]
    else:
        found = listed
    tags = ", ".join(tag for entry in listed for tag in entry.repo_tags) or "no names"
    if not found:
        raise NotFound(f"no image is named {name!r}" if name else "it has no image", where=archive.name, hint=tags)
    if len(found) > 1:
        raise InvalidInput(f"it has {len(found)} images", where=archive.name, hint=f"name one of them: {tags}")
    return found[0]


def _same(tag: str, wanted: Reference) -> bool:
    try:
        return normal(tag) == wanted
    except VelociError:
        return False


def _after(chunks: Iterable[bytes], start: int) -> Iterator[bytes]:
    for chunk in chunks:
        if start < len(chunk):
            yield chunk[start:]
        start = max(0, start - len(chunk))


def _path(digest: Digest) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"

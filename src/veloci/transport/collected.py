"""An index made of images from several places, as a source to copy: its documents ours, all else where it is."""

from __future__ import annotations

from veloci.errors import InvalidInput, NotFound
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.document import dumps, loads
from veloci.spec.image import Descriptor, ImageConfig, Index, Manifest
from veloci.spec.platform import Platform
from veloci.transport.place import Place
from veloci.transport.select import small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.spec.digest import Digest
    from veloci.spec.reference import Reference
    from veloci.transport.place import Chunks, Source


class Collected(Place):
    """An index as a JSON object, `document`, and where its images are.

    Fields that we do not know stay.
    """

    def __init__(self, name: str, format: str = "oci") -> None:
        """format: "oci" or "docker"."""
        self.name = name
        kind = media.converted(media.INDEX, format)
        self.document: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind, "manifests": []}
        self._homes: dict[Digest, Source] = {}
        self._sources: list[Source] = []

    def __exit__(self, *_: object) -> None:
        for source in self._sources:
            source.__exit__(*_)
        self._sources.clear()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The descriptors in the index."""
        found: list[dict[str, Any]] = self.document["manifests"]
        return found

    def start(self, source: Source) -> None:
        """Begin with the index that a place names; with an image, begin with an index of it alone."""
        self._sources.append(source)
        descriptor, raw = source.manifest()
        if not media.is_index(descriptor.media_type):
            self.add(source)
            return
        Index.decode(raw, name=f"index {descriptor.digest}")
        self.document = {**loads(raw), "mediaType": descriptor.media_type}
        self.document["manifests"] = list(self.document["manifests"] or ())
        for entry in self.entries:
            self._homes[str(entry["digest"])] = source

    def add(self, source: Source, annotations: dict[str, str] | None = None) -> None:
        """List the image that a place names, or all that its index lists. One that is listed already stays once.

        Raises InvalidInput for what is neither, NotFound.
        """
        if source not in self._sources:
            self._sources.append(source)
        descriptor, raw = source.manifest()
        if media.is_index(descriptor.media_type):
            for entry in Index.decode(raw, name=f"index {descriptor.digest}").manifests:
                self._list(entry.plain(), source)
            return
        if not media.is_manifest(descriptor.media_type):
            raise InvalidInput(f"it is neither image nor index, but {descriptor.media_type}", where=source.name)
        entry = Descriptor(
            media_type=descriptor.media_type,
            digest=descriptor.digest,
            size=descriptor.size,
            platform=platform_of(source, raw, descriptor.digest),
            annotations=annotations or {},
        )
        self._list(entry.plain(), source)

    def _list(self, entry: dict[str, Any], source: Source) -> None:
        self._homes[str(entry["digest"])] = source
        self.document["manifests"] = [*(e for e in self.entries if e["digest"] != entry["digest"]), entry]

    def chosen(self, text: str) -> list[dict[str, Any]]:
        """The entries of a digest, the beginning of one, or a platform. Raises NotFound, InvalidInput."""
        if text.startswith("sha256:") or (len(text) > 3 and not text.strip("0123456789abcdef")):
            start = text.removeprefix("sha256:")
            found = [entry for entry in self.entries if str(entry["digest"]).removeprefix("sha256:").startswith(start)]
        else:
            from veloci.spec.platform import parse

            wanted = parse(text)
            found = [entry for entry in self.entries if _is_for(entry, wanted)]
        if not found:
            there = ", ".join(_shown(entry) for entry in self.entries)
            raise NotFound(f"it lists no {text}", where=self.name, hint=f"it has {there}" if there else "")
        return found

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        if descriptor is None:
            raw, kind = dumps(self.document), str(self.document["mediaType"])
            Index.decode(raw, name=self.name)
            return Descriptor(media_type=kind, digest=digests.of(raw), size=len(raw)), raw
        source = self._home(descriptor)
        found, raw = source.manifest(descriptor)
        if media.is_index(found.media_type):
            for entry in Index.decode(raw, name=f"index {found.digest}").manifests:
                self._homes[entry.digest] = source
        elif media.is_manifest(found.media_type):
            manifest = Manifest.decode(raw, name=f"manifest {found.digest}")
            for blob in (manifest.config, *manifest.layers):
                self._homes[blob.digest] = source
        return found, raw

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        return self._home(descriptor).blob(descriptor, start)

    def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
        """See Source."""
        return self._home(descriptor).origins(descriptor)

    def _home(self, descriptor: Descriptor) -> Source:
        try:
            return self._homes[descriptor.digest]
        except KeyError:
            raise NotFound(f"nobody has {descriptor.digest}", where=self.name) from None


def platform_of(source: Source, raw: bytes, digest: Digest) -> Platform | None:
    """What an image is for, by its config; None for an artifact. Raises InvalidInput, NotFound."""
    manifest = Manifest.decode(raw, name=f"manifest {digest}")
    if manifest.config.media_type not in media.CONFIGS:
        return None
    config = ImageConfig.decode(small(source, manifest.config), name=f"config {manifest.config.digest}")
    return Platform(
        architecture=config.architecture,
        os=config.os,
        variant=config.variant or None,
        os_version=config.os_version or None,
        os_features=config.os_features,
    )


def _is_for(entry: dict[str, Any], wanted: Platform) -> bool:
    there = entry.get("platform") or {}
    same = (there.get("os"), there.get("architecture")) == (wanted.os, wanted.architecture)
    return same and (wanted.variant is None or there.get("variant") == wanted.variant)


def _shown(entry: dict[str, Any]) -> str:
    platform = entry.get("platform") or {}
    words = "/".join(filter(None, (platform.get("os"), platform.get("architecture"), platform.get("variant"))))
    return words or str(entry["digest"])

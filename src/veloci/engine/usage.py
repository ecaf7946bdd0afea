"""What takes how much of the disk: `veloci system df`. Sizes are bytes that the files occupy, not what they hold.

An image is its blobs and, where they are unpacked, its layers; the build cache what only it needs.
"""

from __future__ import annotations

import os

from veloci.engine.garbage import Needed
from veloci.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from veloci.build.cache import Entry
    from veloci.engine.engine import Engine
    from veloci.engine.images import Listed
    from veloci.engine.record import Record
    from veloci.engine.volumes import Volume
    from veloci.spec.digest import Digest


class ImageUse:
    """An image, the parts it is made of, and how many containers have it."""

    def __init__(self, listed: Listed, parts: set[Digest], containers: int) -> None:
        self.listed, self.parts, self.containers = listed, parts, containers


class CacheUse:
    """A part of the build cache. kind: regular, source.local or exec.cachemount. shared: an image needs it too."""

    def __init__(self, name: str, kind: str, about: str, size: int, used: float, *, shared: bool) -> None:
        self.name, self.kind, self.about, self.size, self.used, self.shared = name, kind, about, size, used, shared


class Usage:
    """The disk of an engine, looked at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sizes: dict[Digest, int] = {}

    def size(self, parts: Iterable[Digest]) -> int:
        """Bytes of blobs and unpacked layers; a layer is known by `layer ` and its chain ID."""
        return sum(self._size(part) for part in parts)

    def _size(self, part: Digest) -> int:
        if part not in self._sizes:
            layer = part.removeprefix("layer ")
            if layer != part:
                self._sizes[part] = self.engine.snapshots.size(layer)
            else:
                try:
                    self._sizes[part] = os.lstat(self.engine.store.path(part)).st_size
                except FileNotFoundError:
                    self._sizes[part] = 0
        return self._sizes[part]

    def images(self) -> list[ImageUse]:
        """Every image, the newest first."""
        counts: dict[Digest, int] = {}
        for record in self._records():
            counts[record.image_id] = counts.get(record.image_id, 0) + 1
        return [ImageUse(listed, self._parts(listed), counts.get(listed.id, 0)) for listed in self.engine.images.all()]

    def _parts(self, listed: Listed) -> set[Digest]:
        found = Needed()
        found.image(self.engine.store, listed.descriptor)
        return found.blobs.union(*(self.layers(chain) for chain in found.chains))

    def layers(self, chain_id: Digest) -> set[Digest]:
        """A layer and those below it, as parts; none if it is not unpacked."""
        try:
            return {f"layer {one}" for one in self.engine.snapshots.below(chain_id)}
        except NotFound:
            return set()

    def containers(self) -> list[tuple[Record, bool, int]]:
        """Every container, whether it is alive, and the bytes that it wrote."""
        found = []
        for record in self._records():
            alive = self._status(record) in ("running", "paused", "restarting")
            try:
                size = self.engine.snapshots.usage(record.id)
            except NotFound:
                size = 0
            found.append((record, alive, size))
        return found

    def _status(self, record: Record) -> str:
        from veloci.engine.record import Records

        return Records(self.engine.root, self.engine.run_root).current(record.id).status

    def _records(self) -> list[Record]:
        from veloci.engine.record import Records

        return list(Records(self.engine.root, self.engine.run_root).all())

    def volumes(self) -> list[tuple[Volume, int, int]]:
        """Every volume, how many containers have it, and its bytes."""
        volumes = self.engine.volumes
        return [(each, len(volumes.users(each.name)), volumes.size(each)) for each in volumes.all()]

    def cache(self) -> list[CacheUse]:
        """Everything in the build cache, the least recently used first. What images need too has no size here."""
        from veloci.build.cache import Cache
        from veloci.build.cache_mounts import CacheMounts

        root = f"{self.engine.root}/build"
        needed = set().union(*(each.parts for each in self.images()))
        found = [self._entry(entry, needed) for entry in Cache(root).entries()]
        mounts = CacheMounts(root)
        found += [
            CacheUse(name, "exec.cachemount", f"cached mount {identity}", mounts.size(name), used, shared=False)
            for name, identity, used in mounts.all()
        ]
        return sorted(found, key=lambda each: each.used)

    def _entry(self, entry: Entry, needed: set[Digest]) -> CacheUse:
        layer = entry.layer
        if layer is None:
            return CacheUse(entry.name, "source.local", "what a COPY reads", entry.size, entry.used, shared=False)
        parts = {layer.descriptor.digest} | ({f"layer {layer.chain_id}"} if layer.chain_id else set())
        shared = layer.descriptor.digest in needed
        size = entry.size + self.size(parts - needed)
        return CacheUse(entry.name, "regular", layer.step, size, entry.used, shared=shared)

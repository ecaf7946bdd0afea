"""Whether all that lasts is whole: `veloci system check`. Every byte is read; nothing is locked, so all others go on.

What is damaged is taken away on request, so that the next pull or build brings it again; what is whole never is.
"""

from __future__ import annotations

from veloci.content.check import Held, foreign, layout, named, remove
from veloci.errors import Corrupt, InvalidInput, NotFound, VelociError
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.image import Descriptor, ImageConfig, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from veloci.engine.engine import Engine
    from veloci.spec.digest import Digest

REPAIR = "veloci system check --repair"


class Damage:
    """Something that is not whole.

    what: the thing, with its digest or name. problem: in words that go on from it. hint: what to do. repair: takes it
    away and returns what was done, in words; None where that is for people to decide.
    """

    def __init__(self, what: str, problem: str, hint: str, repair: Callable[[], str] | None = None) -> None:
        self.what, self.problem, self.hint, self.repair = what, problem, hint, repair

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}"


class Need:
    """A blob that something needs. users: names of images, in order; diff_id: what it unpacks to, "" if unknown."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.users: list[str] = []
        self.diff_id: Digest = ""

    @property
    def hint(self) -> str:
        """What brings it again."""
        name = next((user for user in self.users if not digests.valid(user)), "")
        return f"veloci pull {name}" if name else "veloci system prune"


class Layered:
    """A layer that may be unpacked: where its blob and its diff ID are known, and what is below."""

    def __init__(self, layers: list[tuple[Descriptor, Digest]]) -> None:
        self.layers = layers  # base first, itself last

    @property
    def descriptor(self) -> Descriptor:
        """Its blob."""
        return self.layers[-1][0]


class Check:
    """One look at everything below an engine's root; `damages` finds what is wrong."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.names: dict[str, Descriptor] = {}
        self.needs: dict[Digest, Need] = {}
        self.chains: dict[Digest, Layered] = {}
        self.damaged: set[Digest] = set()  # blobs
        self.blobs = self.layers = self.containers = 0  # how many were looked at
        self._unread: list[tuple[str, Descriptor, str]] = []

    def damages(self) -> Iterator[Damage]:
        """Everything that is not whole, as it is found. Raises HostError where something cannot be looked at."""
        from veloci.engine import check_layers

        self.names, unreadable = named(self.engine.names)
        for path, problem in unreadable:
            yield Damage(f"name {path}", problem, REPAIR, lambda path=path: self._unname(path))  # type: ignore[misc]
        for name, descriptor in self.names.items():
            self._walk(name, descriptor, set())
        self._cached()
        yield from self._every_blob()
        yield from self._missing()
        yield from self._documents()
        yield from self._layout()
        yield from check_layers.damages(self)

    def _walk(self, name: str, descriptor: Descriptor, seen: set[Digest]) -> None:
        """Note what a name needs."""
        if descriptor.digest in seen:
            return
        seen.add(descriptor.digest)
        self._need(name, descriptor)
        store = self.engine.store
        try:
            if media.is_index(descriptor.media_type):
                for entry in Index.decode(store.read(descriptor), name="the index").manifests:
                    if store.has(entry):  # not every platform's image was brought
                        self._walk(name, entry, seen)
            elif media.is_manifest(descriptor.media_type):
                self._image(name, Manifest.decode(store.read(descriptor), name="the manifest"))
        except (Corrupt, InvalidInput) as error:
            self._unread.append((name, descriptor, str(error)))
        except NotFound:
            return  # told of as a missing blob

    def _image(self, name: str, manifest: Manifest) -> None:
        parts = [layer for layer in manifest.layers if not layer.urls]
        for part in (manifest.config, *parts):
            self._need(name, part)
        if manifest.config.media_type not in media.CONFIGS:
            return
        try:
            config = ImageConfig.decode(self.engine.store.read(manifest.config), name="the config")
        except (Corrupt, InvalidInput) as error:
            self._unread.append((name, manifest.config, str(error)))
            return
        except NotFound:
            return
        diff_ids = config.rootfs.diff_ids
        layers = list(zip(manifest.layers, diff_ids, strict=False))
        for count, chain_id in enumerate(digests.chain_ids(diff_ids[: len(layers)]), 1):
            self.chains.setdefault(chain_id, Layered(layers[:count]))
        for layer, diff_id in layers:
            if layer.digest in self.needs and media.is_layer(layer.media_type):
                self.needs[layer.digest].diff_id = diff_id

    def _need(self, name: str, descriptor: Descriptor) -> None:
        need = self.needs.setdefault(descriptor.digest, Need(descriptor))
        if name not in need.users:
            need.users.append(name)

    def _cached(self) -> None:
        """Note what the build cache knows of the blobs that it has: it needs none that is gone."""
        from os.path import isdir

        from veloci.build.cache import Cache

        if not isdir(f"{self.engine.root}/build/steps"):
            return
        for entry in Cache(f"{self.engine.root}/build").entries():
            if entry.layer is not None and self.engine.store.has(entry.layer.descriptor):
                need = self.needs.setdefault(entry.layer.descriptor.digest, Need(entry.layer.descriptor))
                need.diff_id = entry.layer.diff_id

    def _every_blob(self) -> Iterator[Damage]:
        from veloci.engine.tasks import parallel

        store = self.engine.store
        for path in foreign(store):
            yield Damage(path, "is no blob", f"remove it: rm -r {path}")
        for found in parallel(self._blob, list(store.digests()), limit=2):
            if found is not None:
                yield found

    def _blob(self, digest: Digest) -> Damage | None:
        store, need = self.engine.store, self.needs.get(digest)
        try:
            held = Held(store, digest)
        except FileNotFoundError:
            return None  # collected meanwhile
        except OSError as error:
            return Damage(f"blob {store.path(digest)}", f"cannot be opened: {error.strerror}", "look at it")
        try:
            problem = held.problem()
            if not problem and need and need.diff_id:
                wrong = self._unpacks(held, need.diff_id)
                if wrong:
                    return Damage(f"blob {digest}", wrong, f"it was made so; veloci rmi {' '.join(need.users)}")
        finally:
            held.close()
        self.blobs += 1
        if not problem:
            return None
        self.damaged.add(digest)
        hint = need.hint if need else "veloci system prune"

        def away() -> str:
            return "removed" if remove(store, held.path, held.status) else "is whole by now"

        return Damage(f"blob {held.path}", problem, f"{REPAIR}, then {hint}", away)

    @staticmethod
    def _unpacks(held: Held, diff_id: Digest) -> str:
        """What is wrong with the layer's tar, "" if it is what the image promises."""
        from veloci.layer.stream import Verified, decompressed

        try:
            with Verified(decompressed(held.chunks()), diff_id) as tar:
                for _chunk in tar:
                    pass
        except Corrupt as error:
            return f"does not unpack to {diff_id}: {error}"
        return ""

    def _missing(self) -> Iterator[Damage]:
        """What an image needs and is not here, or is of another size than it says."""
        from os import lstat

        store = self.engine.store
        for digest, need in self.needs.items():
            if digest in self.damaged or not need.users:
                continue
            try:
                size = lstat(store.path(digest)).st_size
            except FileNotFoundError:
                size = -1
            users = [user for user in need.users if self._still(user)]
            if size == need.descriptor.size or not users:
                continue
            problem = "is not here" if size < 0 else f"has {size} bytes, not the {need.descriptor.size} that are said"
            yield Damage(f"blob {digest}", f"{problem}; {', '.join(users)} needs it", need.hint)

    def _still(self, name: str) -> bool:
        """Whether a name stands for what it did at first."""
        try:
            return self.engine.names.get(name).digest == self.names[name].digest
        except VelociError:
            return False

    def _documents(self) -> Iterator[Damage]:
        """Whole documents that make no sense; of damaged ones is told as blobs."""
        for name, descriptor, problem in self._unread:
            if descriptor.digest not in self.damaged and self._still(name):
                yield Damage(f"{name}, {descriptor.digest}", problem, f"veloci rmi {name}")

    def _layout(self) -> Iterator[Damage]:
        names, problem = self.engine.names, ""
        for _try in range(3):  # one that changes a name right now is done soon
            problem = "" if names.is_stale() else layout(names.root, named(names)[0])
            if not problem:
                return
        yield Damage(names.root, problem, REPAIR, self._laid_out)

    def _laid_out(self) -> str:
        self.engine.names.refresh()
        return "written anew"

    def _unname(self, path: str) -> str:
        from os import unlink

        unlink(path)
        self.engine.names.refresh()
        return "removed"

"""The local images: found by name or ID, brought, named, described, removed.

An image without a name is named by its manifest's digest, so that it is kept until somebody removes it.
"""

from __future__ import annotations

from veloci.engine import journal
from veloci.errors import Conflict, Corrupt, InvalidInput, NotFound
from veloci.image.image import Image, select
from veloci.spec import digest as digests
from veloci.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from veloci.engine.engine import Engine
    from veloci.registry.session import Session
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.platform import Platform
    from veloci.transport.exchange import Pulled
    from veloci.transport.place import Progress

SHORTEST = 4  # characters of an ID's beginning that may stand for it


class Listed:
    """An image and all its names here.

    descriptor: what the names stand for, a manifest or an index. image: None if a part of it is missing
    or damaged. id: the image's ID, or in that case the descriptor's digest.
    """

    def __init__(self, descriptor: Descriptor, image: Image | None, names: list[Reference]) -> None:
        self.descriptor, self.image, self.names = descriptor, image, names
        self.id = image.id if image else descriptor.digest


class Images:
    """The images of an engine's store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, name: str) -> Descriptor:
        """What a name, an ID or the beginning of an ID stands for: the descriptor of a manifest or an index.

        Raises NotFound, InvalidInput for what cannot be either, Conflict for a beginning that several IDs have.
        """
        return self._find(name)[0]

    def resolve(self, name: str, platform: Platform | str | None = None) -> Image:
        """The image of a name, an ID or the beginning of an ID, for a platform (None: this machine's).

        Raises what `find` raises, and Corrupt.
        """
        return select(self._engine.store, self.find(name), _platform(platform))

    def _find(self, name: str) -> tuple[Descriptor, Reference | None]:
        """As `find`, and the name under which it was found, None for an ID."""
        text = name.removeprefix("sha256:")
        identity = not text.strip("0123456789abcdef") and bool(text)
        exact = identity and len(text) == 64
        problem = None
        if not exact and not name.startswith("sha256:"):
            try:
                reference = Reference.parse(name).with_default_tag()
                return self._named(reference), reference
            except NotFound as error:
                problem = error
                if other := self._other(name):
                    return other
            except InvalidInput:
                if not identity:
                    raise
        if identity and len(text) >= SHORTEST:
            found = self._by_identity(text, name)
            if found:
                return found, None
        raise problem or _missing(name)

    def _other(self, name: str) -> tuple[Descriptor, Reference] | None:
        """What a short name stands for besides docker.io's image: an alias or a registry of registries.conf."""
        from veloci.registry.configuration import load

        for other in load().candidates(name):
            try:
                reference = other.with_default_tag()
                return self._named(reference), reference
            except NotFound:
                continue
        return None

    def _named(self, reference: Reference) -> Descriptor:
        """The descriptor under a name; one with a digest is also found under any tag of its repository."""
        names = self._engine.names
        try:
            return names.get(str(reference))
        except NotFound:
            for name, descriptor in names.all() if reference.digest else ():
                there = _reference(name)
                same = there and there.repository == reference.repository and there.registry == reference.registry
                if same and reference.digest in (descriptor.digest, *self._elsewhere(descriptor)):
                    return descriptor
        raise _missing(reference.familiar())

    def _elsewhere(self, descriptor: Descriptor) -> list[Digest]:
        """The digests by which registries know the image."""
        from veloci.transport.memory import Memory

        return [name.digest for name in Memory(self._engine.store.root).names(descriptor.digest) if name.digest]

    def _by_identity(self, start: str, name: str) -> Descriptor | None:
        found: dict[Digest, Descriptor] = {}
        for listed in self.all():
            for identity in (listed.id, listed.descriptor.digest):
                if identity.partition(":")[2].startswith(start):
                    found.setdefault(listed.id, listed.descriptor)
        if len(found) > 1:
            raise Conflict(f"multiple images have IDs that start with {name}", hint="give more characters of the ID")
        return next(iter(found.values()), None)

    def get(
        self,
        name: str,
        pull: str = "missing",
        platform: Platform | str | None = None,
        progress: Progress | None = None,
        session: Session | None = None,
    ) -> Image:
        """The image, from its registry if need be. pull: "missing", "always" or "never".

        Raises what `resolve` and a pull raise; InvalidInput for another policy.
        """
        if pull not in ("missing", "always", "never"):
            raise InvalidInput(f"invalid pull option: {pull!r}", where="--pull", hint="always, missing or never")
        if pull != "always":
            try:
                return self.resolve(name, platform)
            except NotFound:
                if pull == "never" or name.startswith("sha256:"):
                    raise
        self.pull(name, platform=platform, progress=progress, session=session)
        return self.resolve(name, platform)

    def pull(
        self,
        name: str,
        *,
        platform: Platform | str | None = None,
        progress: Progress | None = None,
        session: Session | None = None,
    ) -> Pulled:
        """Bring an image from its registry, and, for root, unpack its layers while they come.

        Raises NotFound, Denied, Unavailable, Corrupt, HostError.
        """
        from os import geteuid

        from veloci.engine.tasks import ahead, parallel
        from veloci.registry.configuration import first
        from veloci.registry.session import Session
        from veloci.transport.exchange import pull

        engine = self._engine
        session = session or Session(warn=engine.warn)
        pulled = first(
            session.configuration.candidates(name),
            lambda reference: pull(
                engine.store,
                engine.names,
                reference,
                session=session,
                platform=_platform(platform),
                progress=progress,
                parallel=parallel,
                ahead=ahead,
                snapshots=engine.snapshots if geteuid() == 0 else None,
            ),
        )
        journal.travelled(engine, "pull", pulled.reference, pulled.descriptor)
        return pulled

    def push(
        self,
        name: str,
        *,
        format: str | None = None,
        progress: Progress | None = None,
        session: Session | None = None,
    ) -> Descriptor:
        """Send an image to the registry in its name. format: "oci", "docker" or as it is. Returns what is there now."""
        from veloci.engine.tasks import parallel
        from veloci.transport.exchange import push

        engine, reference = self._engine, Reference.parse(name).with_default_tag()
        descriptor = self._named(reference)
        sent = push(
            engine.store,
            engine.names,
            descriptor,
            reference,
            session=session,
            format=format,
            progress=progress,
            parallel=parallel,
        )
        journal.travelled(engine, "push", reference, descriptor)
        return sent

    def save(self, names: Iterable[str], file: str | int, *, progress: Progress | None = None) -> None:
        """Write Docker's archive, an OCI layout as well, of these images under the names that they are called by.

        file: a path, where it appears when it is whole, or a descriptor. Raises NotFound, HostError, Corrupt.
        """
        from veloci.transport.archives import save

        chosen: dict[Digest, tuple[Descriptor, list[Reference]]] = {}
        for name in names:
            descriptor, reference = self._find(name)
            references = chosen.setdefault(descriptor.digest, (descriptor, []))[1]
            if reference and reference.tag and reference not in references:
                references.append(reference)
        save(self._engine.store, self._engine.names, list(chosen.values()), file, progress=progress)
        for descriptor, _ in chosen.values():
            journal.image(self._engine, "save", *journal.identity(self._engine, descriptor))

    def load(self, file: str | int, *, progress: Progress | None = None) -> Iterator[tuple[Reference | None, Image]]:
        """Take the images of an archive, or of an OCI layout: each with a name, None for one that has none.

        file: a path of either, "-" or a descriptor. Raises NotFound, InvalidInput, Corrupt, HostError.
        """
        from veloci.engine.tasks import parallel
        from veloci.transport.archives import load

        store, told = self._engine.store, set()
        for name, descriptor in load(store, self._engine.names, file, progress=progress, parallel=parallel):
            if not name:
                self.name(None, descriptor)
            image = self._read(descriptor) or select(store, descriptor)
            if image.id not in told:
                told.add(image.id)
                journal.image(self._engine, "load", image.id, image.config.config.labels)
            yield _reference(name) if name else None, image

    def all(self, repository: str = "", tag: str = "") -> list[Listed]:
        """Every image and its names, the newest first.

        repository: registry/path, of which alone the names count. tag: of them this one alone.
        """
        from veloci.engine.image_describe import created

        found: dict[Digest, Listed] = {}
        for name, descriptor in self._engine.names.all(repository, tag):
            listed = found.get(descriptor.digest)
            if listed is None:
                listed = found[descriptor.digest] = Listed(descriptor, self._read(descriptor), [])
            reference = _reference(name)
            if reference:
                listed.names.append(reference)
        # By what it says itself: RFC 3339 in UTC sorts as text.
        return sorted(found.values(), key=lambda listed: created(listed.image), reverse=True)

    def _read(self, descriptor: Descriptor) -> Image | None:
        """The image; for an index without one for this machine the first that is here."""
        from veloci.image.image import platform_of
        from veloci.spec import media
        from veloci.spec.image import Index

        store = self._engine.store
        try:
            return select(store, descriptor)
        except (NotFound, Corrupt, InvalidInput):
            if not media.is_index(descriptor.media_type):
                return None
        try:
            entries = Index.decode(store.read(descriptor), name=f"index {descriptor.digest}").manifests
        except (NotFound, Corrupt, InvalidInput):
            return None
        for entry in entries:
            try:
                image = Image(store, entry)
            except (NotFound, Corrupt, InvalidInput):
                continue
            if platform_of(image.config).os != "unknown":
                return image
        return None

    def name(self, reference: Reference | None, descriptor: Descriptor) -> None:
        """Let a name stand for an image. What it stood for stays here, without that name; None is no name."""
        names = self._engine.names
        if reference is None:
            if not names.standing(descriptor.digest):
                names.set(descriptor.digest, descriptor)
            return
        text = str(reference.with_default_tag())
        try:
            before = names.get(text)
        except NotFound:
            before = descriptor
        names.set(text, descriptor)
        if before.digest != descriptor.digest:
            self.name(None, before)
        self._forget(descriptor.digest)
        journal.named(self._engine, reference, descriptor)

    def _forget(self, digest: Digest) -> bool:
        """Drop the name that an image without names has; whether it had one."""
        try:
            self._engine.names.remove(digest)
        except NotFound:
            return False
        return True

    def tag(self, source: str, target: str) -> None:
        """Give an image another name. Raises NotFound, InvalidInput."""
        reference = Reference.parse(target)
        if reference.digest:
            raise InvalidInput(
                "refusing to create a tag with a digest reference", where=target, hint=reference.familiar_name()
            )
        self.name(reference, self.find(source))

    def remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[tuple[str, str]]:
        """Remove a name, and with the last the image. Returns what was done: ("Untagged", name), ("Deleted", digest).

        force: also all names of an image given by its ID, and images of stopped containers. prune: free
        what nothing needs any more. Raises NotFound, Conflict.
        """
        from veloci.engine.image_removal import remove

        descriptor, reference = self._find(name)
        return remove(self._engine, descriptor, reference, force=force, prune=prune)

    def import_(
        self,
        file: str | Iterable[bytes],
        reference: Reference | None = None,
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
    ) -> Image:
        """Make an image of one layer from the tar of a root file system; see image_import. Raises InvalidInput."""
        from veloci.engine.image_import import import_

        descriptor = import_(self._engine.store, file, changes=tuple(changes), message=message, platform=platform)
        self.name(reference, descriptor)
        image = select(self._engine.store, descriptor)
        journal.image(self._engine, "import", image.id, image.config.config.labels)
        return image

    def history(self, name: str) -> list[dict[str, Any]]:
        """The steps that made the image, the latest first; see image_describe."""
        from veloci.engine.image_describe import history

        return history(self._engine.store, self.resolve(name))

    def inspect(self, name: str) -> dict[str, Any]:
        """The image in the shape of docker's API. Raises NotFound."""
        from veloci.engine.image_describe import document

        descriptor = self.find(name)
        image = self._read(descriptor) or select(self._engine.store, descriptor)
        names = map(_reference, self._engine.names.standing(descriptor.digest))
        return document(self._engine, image, [name for name in names if name], descriptor)

    def unpacked(self, image: Image, progress: Progress | None = None) -> Digest:
        """The chain ID of the image's layers, all of them unpacked. Raises Corrupt, HostError."""
        if self._engine.snapshots.has(image.chain_id):
            return image.chain_id
        from veloci.engine.tasks import ahead, parallel  # its imports cost more than the container's start

        layers = list(zip(image.layers, image.diff_ids, strict=True))
        snapshots, store = self._engine.snapshots, self._engine.store
        return snapshots.unpack(store, layers, parallel=parallel, ahead=ahead, progress=progress)


def _reference(name: str) -> Reference | None:
    """A name of the store; None for the digest that an image without a name has."""
    return None if digests.valid(name) else Reference.parse(name)


def _platform(platform: Platform | str | None) -> Platform | None:
    if isinstance(platform, str):
        from veloci.spec.platform import parse

        return parse(platform)
    return platform


def _missing(name: str) -> NotFound:
    return NotFound(f"no such image: {name}", hint=f"veloci pull {name}" if "sha256:" not in name else "veloci images")

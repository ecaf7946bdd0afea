"""What refers to an image or artifact, wherever it is, and the way to put more beside it.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
"""

from __future__ import annotations

from itertools import chain

from veloci.errors import InvalidInput, VelociError
from veloci.registry.referrers import referring
from veloci.spec import media
from veloci.spec.image import Index
from veloci.transport.copy import copy
from veloci.transport.layout import LayoutSource
from veloci.transport.place import Place
from veloci.transport.registry import RegistryPlace
from veloci.transport.store import StorePlace
from veloci.transport.tagged import tagged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import NoReturn, Protocol

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.names import Places
    from veloci.transport.place import Chunks, Destination, Progress, Source

    class Beside(Protocol):
        """What `beside` gives."""

        def __call__(self, descriptor: Descriptor, tag: str = "", /) -> Destination: ...


DEPTH = 8  # referrers of referrers


def referrers(source: Source, digest: Digest, artifact_type: str | None = None) -> list[Descriptor]:
    """What refers to the manifest `digest` where `source` is: of one artifact type, or all.

    Raises InvalidInput for a place that cannot tell, and what reading it raises.
    """
    if isinstance(source, RegistryPlace):
        return source.repository.referrers(digest, artifact_type)
    found = [entry for entry in _listed(source, digest) if artifact_type in (None, entry.artifact_type)]
    return list({entry.digest: entry for entry in found}.values())


def _listed(source: Source, digest: Digest) -> Iterator[Descriptor]:
    if isinstance(source, LayoutSource):
        there: Iterable[Descriptor] = source.index.manifests
    elif isinstance(source, StorePlace):
        there = [descriptor for _, descriptor in source.names.all()]
    else:
        silent(source.name)
    for entry in there:
        if not (media.is_manifest(entry.media_type) or media.is_index(entry.media_type)):
            continue
        try:
            raw = source.manifest(entry)[1]
        except VelociError:
            continue  # one that is damaged refers to nothing
        found = referring(raw, entry.media_type, entry.digest)
        if found and found[0] == digest:
            yield found[1]


def silent(name: str) -> NoReturn:
    """Raise InvalidInput for a place that holds one image alone."""
    raise InvalidInput("nothing tells there what refers to it", where=name, hint="docker://, oci:, NAME")


def telling(text: str) -> None:
    """See to it that a place, as the user writes it, can tell what refers to an image. Raises InvalidInput."""
    from veloci.transport.names import split

    if split(text)[0] not in ("docker://", "oci:", "oci-archive:", "veloci:"):
        silent(text)


class One(Place):
    """A manifest of a source, by its descriptor, as a source of its own."""

    def __init__(self, source: Source, descriptor: Descriptor) -> None:
        self.source, self.descriptor, self.name = source, descriptor, source.name

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        return self.source.manifest(descriptor or self.descriptor)

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        return self.source.blob(descriptor, start)

    def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
        """See Source."""
        return self.source.origins(descriptor)


def copy_referrers(
    source: Source,
    subject: Descriptor,
    beside: Beside,
    *,
    artifact_type: str | None = None,
    progress: Progress | None = None,
    parallel: Callable[..., Iterable[Descriptor]] = map,
) -> list[Descriptor]:
    """Copy what refers to a manifest, or to an index and what it lists, and what refers to that.

    So what does it by a tag (`tagged`), unless one `artifact_type` is wanted. Returns the descriptors of all.

    beside: the place for a manifest with a tag or none, beside the copy. Raises what the places raise.
    """
    done: dict[tuple[str, Digest], Descriptor] = {}
    top = {subject.digest, *_inside(source, subject, DEPTH)}
    waiting = [(digest, DEPTH) for digest in sorted(top)]
    while waiting:
        digest, depth = waiting.pop()
        wanted = artifact_type if digest in top else None
        found = [("", entry) for entry in referrers(source, digest, wanted)]
        for tag, entry in chain(found, () if wanted else tagged(source, digest)):
            if (tag, entry.digest) in done or not depth:
                continue
            bare = entry.replace(annotations={}, artifact_type=None)
            with beside(bare, tag) as destination:
                one = One(source, bare)
                copy(one, destination, all=True, progress=progress, parallel=parallel, preserve=True, stay_open=True)
            done[tag, entry.digest] = entry
            waiting.append((entry.digest, depth - 1))
    return list({entry.digest: entry for entry in done.values()}.values())


def _inside(source: Source, subject: Descriptor, depth: int) -> Iterator[Digest]:
    """The digests of what an index lists: each may be referred to."""
    if not media.is_index(subject.media_type) or not depth:
        return
    for entry in Index.decode(source.manifest(subject)[1], name=f"index {subject.digest}").manifests:
        yield entry.digest
        yield from _inside(source, entry, depth - 1)


def beside(places: Places, text: str, session: object = None) -> Beside:
    """A function that gives the place for a manifest with a tag, or with "" for none, where the place `text` is.

    Raises InvalidInput for a place that holds one image alone.
    """
    from veloci.spec.reference import Reference
    from veloci.transport.layout import LayoutFolder
    from veloci.transport.names import split

    kind, rest = split(text)
    if kind == "oci:":
        return lambda _descriptor, tag="": LayoutFolder(rest.partition(":")[0], tag, blobs=places.blobs)
    if kind == "veloci:":
        return lambda _descriptor, tag="": _stored(places, rest, tag)
    if kind != "docker://":
        raise InvalidInput("holds one image, and nothing that refers to it", where=text, hint="docker://, oci:, NAME")
    reference = Reference.parse(rest)

    def at(descriptor: Descriptor, tag: str = "") -> Destination:
        whole = reference.replace(tag=tag or None, digest=None if tag else descriptor.digest)
        return RegistryPlace(whole, session)  # type: ignore[arg-type]

    return at


def _stored(places: Places, name: str, tag: str) -> StorePlace:
    from veloci.spec.reference import Reference

    if not tag:
        return Nameless(places.home.store, places.home.names, None)
    return StorePlace(places.home.store, places.home.names, Reference.parse(name).replace(tag=tag, digest=None))


class Nameless(StorePlace):
    """The local store, for what has no name but its digest, so that it is kept."""

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        super().finish(descriptor, raw)
        self.names.set(descriptor.digest, descriptor)

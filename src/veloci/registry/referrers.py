"""What refers to a manifest: signatures, SBOMs, attestations. From the registry's list, or a tag where it has none.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema
"""

from __future__ import annotations

from veloci.errors import InvalidInput, NotFound, Unsupported
from veloci.registry import listing, urls
from veloci.spec import media
from veloci.spec.image import Descriptor, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.registry.client import Repository
    from veloci.spec.digest import Digest

TRIES = 3  # at writing the index that others write too
_ALGORITHM, _ENCODED = 32, 64  # characters of a digest's parts in a tag, at most


def tag(digest: Digest) -> str:
    """The tag of the index of what refers to `digest`, where the registry keeps no list: `sha256-…`."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:_ALGORITHM]}-{encoded[:_ENCODED]}"


def found(repository: Repository, digest: Digest, artifact_type: str | None) -> list[Descriptor]:
    """See Repository.referrers."""
    listed = _listed(repository, digest, artifact_type)
    if listed is None:
        listed = list(_tagged(repository, digest).manifests)
    once = {descriptor.digest: descriptor for descriptor in listed}.values()
    return [descriptor for descriptor in once if artifact_type in (None, descriptor.artifact_type)]


def _listed(repository: Repository, digest: Digest, artifact_type: str | None) -> list[Descriptor] | None:
    """What the registry's list holds; None if it keeps none."""
    own = repository.own
    query = f"?{urls.query([('artifactType', artifact_type)])}" if artifact_type else ""
    entries: list[Descriptor] = []
    try:
        for response, raw in listing.pages(own, f"{own.base}/referrers/{digest}{query}"):
            if response.headers.get("Content-Type", "").partition(";")[0].strip() != media.INDEX:
                return None
            entries += Index.decode(raw, name=f"{own.where}: referrers").manifests
    except (NotFound, Unsupported):
        return None
    return entries


def _tagged(repository: Repository, digest: Digest) -> Index:
    """The index that the tag names; an empty one if there is none. Raises InvalidInput if it names something else."""
    try:
        descriptor, raw = repository.manifest(tag(digest))
    except NotFound:
        return Index(schema_version=2)
    if descriptor.media_type != media.INDEX:
        raise InvalidInput(f"the tag {tag(digest)} is no index of referrers", where=repository.own.where)
    return Index.decode(raw, name=f"{repository.own.where}: {tag(digest)}")


def referring(raw: bytes, media_type: str, digest: Digest) -> tuple[Digest, Descriptor] | None:
    """The subject of a manifest and the manifest's entry among its referrers; None if it has no subject."""
    if b'"subject"' not in raw:
        return None
    document: Manifest | Index
    if media.is_manifest(media_type):
        document = Manifest.decode(raw, name=f"manifest {digest}")
        kind: str | None = document.artifact_type or document.config.media_type
    elif media.is_index(media_type):
        document = Index.decode(raw, name=f"index {digest}")
        kind = document.artifact_type
    else:
        return None
    if document.subject is None:
        return None
    return document.subject.digest, Descriptor(
        media_type=media_type, digest=digest, size=len(raw), artifact_type=kind, annotations=document.annotations
    )


def add(repository: Repository, subject: Digest, entry: Descriptor) -> None:
    """Put a manifest into the tag's index, where the registry did not say that it took note itself."""

    def change(entries: list[Descriptor]) -> list[Descriptor]:
        return entries if any(e.digest == entry.digest for e in entries) else [*entries, entry]

    _change(repository, subject, change)


def forget(repository: Repository, subject: Digest, digest: Digest) -> None:
    """Take a deleted manifest out of the tag's index, where the registry keeps no list."""
    if _listed(repository, subject, None) is None:
        _change(repository, subject, lambda entries: [entry for entry in entries if entry.digest != digest])


def _change(repository: Repository, subject: Digest, change: Callable[[list[Descriptor]], list[Descriptor]]) -> None:
    """Write the index anew until it stays: others may write it at the same time, and no registry has a lock."""
    from veloci.spec.document import dumps

    for _attempt in range(TRIES):
        index = _tagged(repository, subject)
        before = list(index.manifests)
        after = change(before)
        if after == before:
            return
        whole = {**index.replace(media_type=media.INDEX, manifests=tuple(after)).plain(), "mediaType": media.INDEX}
        repository.put_manifest(dumps(whole), media.INDEX, tag(subject))

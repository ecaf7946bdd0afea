"""Signatures, attestations and SBOMs that stand beside an image under a tag made of its digest, as cosign puts them.

https://github.com/sigstore/cosign/blob/v2.4.1/specs/SIGNATURE_SPEC.md#tag-based-discovery
"""

from __future__ import annotations

from veloci.errors import NotFound
from veloci.spec.image import REF_NAME
from veloci.transport.layout import LayoutSource
from veloci.transport.registry import RegistryPlace
from veloci.transport.store import StorePlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Source

KINDS = ("sig", "att", "sbom")
_LONGEST = 128  # characters of a tag: no registry has a longer one


def tagged(source: Source, digest: Digest) -> Iterator[tuple[str, Descriptor]]:
    """The tags of what belongs to the manifest `digest`, and what they name, where `source` is.

    Nothing for a place without tags. Raises what reading it raises.
    """
    for kind in KINDS:
        tag = f"{digest.replace(':', '-')}.{kind}"
        if len(tag) > _LONGEST:
            return
        try:
            found = _find(source, tag)
        except NotFound:
            continue
        if found is not None:
            yield tag, found


def _find(source: Source, tag: str) -> Descriptor | None:
    if isinstance(source, RegistryPlace):
        return source.repository.manifest(tag)[0]
    if isinstance(source, LayoutSource):
        return next((entry for entry in source.index.manifests if entry.annotations.get(REF_NAME) == tag), None)
    if isinstance(source, StorePlace) and source.reference:
        return source.names.get(str(source.reference.replace(tag=tag, digest=None)))
    return None

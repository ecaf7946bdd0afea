"""What a registry may give for a manifest: checked before anybody believes it."""

from __future__ import annotations

from veloci.errors import Corrupt, InvalidInput, Unsupported
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.registry.wire import Response
    from veloci.spec.digest import Digest

ACCEPT = f"{media.MANIFEST}, {media.INDEX}, {media.DOCKER_MANIFEST}, {media.DOCKER_LIST}"
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"


def described(response: Response) -> Descriptor | None:
    """The descriptor in an answer to HEAD; None where the registry does not say all of it."""
    digest = response.headers.get("Docker-Content-Digest", "")
    size = response.headers.get("Content-Length", "")
    media_type = _media_type(response)
    if digests.valid(digest) and size.isascii() and size.isdecimal() and media_type:
        return Descriptor(media_type=media_type, digest=digest, size=int(size))
    return None


def received(response: Response, raw: bytes, wanted: str, where: str) -> Descriptor:
    """The descriptor of what a registry gave for `wanted`, a tag or digest.

    Raises Corrupt for another digest, Unsupported for Docker's schema 1, InvalidInput for what is no manifest.
    """
    media_type = _media_type(response)
    if media_type.startswith(_SCHEMA1) or b'"schemaVersion": 1' in raw[:64]:
        raise Unsupported("it is in Docker's schema 1, which ended in 2017", where=where, hint="push it again")
    said = response.headers.get("Docker-Content-Digest", "")
    promised = wanted if ":" in wanted else said if digests.valid(said) else ""
    got = hashed(promised or "sha256:", raw)
    if promised and got != promised:
        raise Corrupt(f"manifest of {where}", want=promised, got=got)
    return Descriptor(media_type=_checked(raw, media_type, where), digest=got, size=len(raw))


def hashed(algorithm: str, raw: bytes) -> Digest:
    """The digest of `raw`; algorithm: a digest or its beginning, `sha512:`. Raises InvalidInput."""
    hasher = digests.hasher(algorithm)
    hasher.update(raw)
    return f"{hasher.name}:{hasher.hexdigest()}"


def _media_type(response: Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip()


def _checked(raw: bytes, media_type: str, where: str) -> str:
    """The media type of a manifest that is one thing only. Raises InvalidInput."""
    from veloci.spec.document import loads

    try:
        value = loads(raw)
    except ValueError as error:
        raise InvalidInput(f"its manifest is not JSON: {error}", where=where) from None
    if not isinstance(value, dict):
        raise InvalidInput("its manifest is not a JSON object", where=where)
    said = value.get("mediaType")
    known = media.is_manifest(media_type) or media.is_index(media_type)
    if isinstance(said, str) and said and known and said != media_type:
        raise InvalidInput(f"its manifest says it is {said!r}, the registry {media_type!r}", where=where)
    if isinstance(value.get("manifests"), list) and isinstance(value.get("layers"), list):  # CVE-2021-41190
        raise InvalidInput("its manifest has layers and manifests, so it is two things", where=where)
    found = media_type if known else str(said or "")
    if not (media.is_manifest(found) or media.is_index(found)):
        raise InvalidInput(f"{media_type or 'nothing'!r} is no manifest's media type", where=where)
    return found

"""Lists that come in pages: tags, repositories, referrers.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags
"""

from __future__ import annotations

from veloci.errors import Denied, InvalidInput
from veloci.registry import protocol, urls
from veloci.registry.access import Access
from veloci.registry.answers import joined, same_origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.registry.session import Session
    from veloci.registry.wire import Response

PAGES = 1000  # of a list, at most; and entries in a page that we ask for
LIST = 16 * protocol.DOCUMENT  # bytes of all its pages, at most: who reads it keeps it


def pages(access: Access, url: str, *, scope: str = "") -> Iterator[tuple[Response, bytes]]:
    """Every page of the list at `url`. Raises InvalidInput for one without end, Denied for one elsewhere."""
    seen: set[str] = set()
    size = 0
    while url not in seen and len(seen) < PAGES:
        seen.add(url)
        response, raw = access.document(url, scope=scope)
        size += len(raw)
        if size > LIST:
            raise InvalidInput(f"the registry's list is longer than {LIST} bytes", where=access.where)
        yield response, raw
        link = protocol.next_page(response.headers.get("Link"))
        if not link:
            return
        url = joined(url, link, access.where)
        if not same_origin(url, access.origin):
            raise Denied(f"the registry's next page is at {urls.split(url).netloc[:200]!r}", where=access.where)
    raise InvalidInput("the registry's list does not end", where=access.where)


def names(access: Access, url: str, key: str, *, scope: str = "") -> Iterator[str]:
    """The texts below `key` on every page, each once. Raises InvalidInput for an answer that is no such list."""
    given: set[str] = set()
    for _response, raw in pages(access, url, scope=scope):
        for name in _strings(raw, key, access.where):
            if name not in given:
                given.add(name)
                yield name


def _strings(raw: bytes, key: str, where: str) -> list[str]:
    from veloci.spec.document import loads

    try:
        value = loads(raw)
        found = value.get(key) or []
    except (ValueError, AttributeError) as error:
        raise InvalidInput(f"the registry's list is no JSON object: {error}", where=where) from None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidInput(f"expected an array of strings, got {found!r:.80}", where=f"{where}: $.{key}")
    return found


def catalog(session: Session, registry: str) -> Iterator[str]:
    """The repositories of a registry, HOST[:PORT], as far as it tells. Raises NotFound, Denied, InvalidInput.

    https://distribution.github.io/distribution/spec/api/#catalog
    """
    access = Access(session, session.endpoint(registry), registry)
    yield from names(access, f"{access.origin}/v2/_catalog?n={PAGES}", "repositories", scope="registry:catalog:*")

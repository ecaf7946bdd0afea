"""One repository at a registry: its manifests, blobs, tags.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
"""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError

from veloci.errors import Corrupt, Denied, InvalidInput, NotFound, Unavailable, Unsupported
from veloci.layer.stream import CHUNK
from veloci.registry import protocol
from veloci.registry.session import TRIES, Session, document, joined, passing, unreachable
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from urllib3 import BaseHTTPResponse

    from veloci.registry.upload import Opened
    from veloci.spec.digest import Digest
    from veloci.spec.reference import Reference

PAGES = 1000  # of a list, at most
SLOW_BYTES, SLOW_TIME = 1024, 30.0  # less than so many bytes in so many seconds is a stall
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
_ACCEPT = f"{media.MANIFEST}, {media.INDEX}, {media.DOCKER_MANIFEST}, {media.DOCKER_LIST}"


class Repository:
    """The repository that `reference` names, reached through `session` (its own if None)."""

    def __init__(self, reference: Reference, *, session: Session | None = None) -> None:
        self.reference = reference
        self.session = session or Session()

    @property
    def name(self) -> str:
        """The repository's name at its registry."""
        return self.reference.repository

    @property
    def base(self) -> str:
        """The address below which everything of the repository is."""
        return f"{self.session.origin(self.reference.registry)}/v2/{self.name}"

    def scope(self, actions: str = "pull") -> str:
        """The scope of a token for some actions: "pull", "pull,push", "delete"."""
        return f"repository:{self.name}:{actions}"

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        scope: str = "",
        ok: tuple[int, ...] = (200,),
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        where: str = "",
    ) -> Generator[BaseHTTPResponse]:
        """`Session.request` as this repository."""
        auth = self.session.auth(self.reference.registry, self.name)
        with self.session.request(
            method,
            url,
            auth=auth,
            scope=scope or self.scope(),
            ok=ok,
            headers=headers,
            body=body,
            where=where or str(self.reference),
        ) as response:
            yield response

    # -- manifests

    def resolve(self, tag: str | None = None) -> Descriptor | None:
        """What a tag or digest (default: the reference's) names, without fetching it; None if there is no such.

        Registries that do not say the digest in answer to HEAD are asked for the whole. Raises Denied, Unavailable.
        """
        wanted = self._wanted(tag)
        try:
            with self.request("HEAD", f"{self.base}/manifests/{wanted}", headers={"Accept": _ACCEPT}) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                size = response.headers.get("Content-Length", "")
                media_type = _media_type(response)
        except NotFound:
            return None
        if digests.valid(digest) and size.isdecimal() and media_type:
            return Descriptor(media_type=media_type, digest=digest, size=int(size))
        return self.manifest(wanted)[0]

    def manifest(self, tag: str | None = None) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest (default: the reference's): its descriptor and its bytes, verified.

        Raises NotFound, Denied, Unavailable, Corrupt, Unsupported for Docker's schema 1, InvalidInput.
        """
        wanted = self._wanted(tag)
        where = str(self.reference)
        response, raw = self._document(f"{self.base}/manifests/{wanted}", {"Accept": _ACCEPT}, where)
        media_type = _media_type(response)
        if media_type.startswith(_SCHEMA1) or b'"schemaVersion": 1' in raw[:64]:
            raise Unsupported("it is in Docker's schema 1, which ended in 2017", where=where, hint="push it again")
        said = response.headers.get("Docker-Content-Digest", "")
        promised = wanted if ":" in wanted else said if digests.valid(said) else ""
        got = _hash(promised or "sha256:", raw)
        if promised and got != promised:
            raise Corrupt(f"manifest of {where}", want=promised, got=got)
        return Descriptor(media_type=_checked(raw, media_type, where), digest=got, size=len(raw)), raw

    def put_manifest(self, raw: bytes, media_type: str, tag: str) -> Digest:
        """Upload a manifest under a tag or its digest. Returns its digest. Raises Denied, InvalidInput, Unavailable."""
        with self.request(
            "PUT",
            f"{self.base}/manifests/{tag}",
            scope=self.scope("pull,push"),
            ok=(200, 201, 202),
            headers={"Content-Type": media_type},
            body=raw,
        ) as response:
            said = response.headers.get("Docker-Content-Digest", "")
        digest = _hash(tag if ":" in tag else "sha256:", raw)
        if said.startswith(digest.partition(":")[0]) and said != digest:
            raise Corrupt(f"manifest at {self.reference.registry}", want=digest, got=said)
        return digest

    def delete(self, reference: str) -> None:
        """Delete a manifest by digest, or a tag where the registry can. Raises NotFound, Denied, Unsupported."""
        url = f"{self.base}/manifests/{reference}"
        with self.request("DELETE", url, scope=self.scope("delete,pull"), ok=(200, 202)):
            pass

    def tags(self) -> Iterator[str]:
        """All tags, page by page. Raises NotFound, InvalidInput for an answer that is no list or never ends."""
        url = f"{self.base}/tags/list?n={PAGES}"
        for names, link in self._pages(url, "tags"):
            yield from names
            if not link:
                return

    def _pages(self, url: str, key: str) -> Iterator[tuple[list[str], str | None]]:
        seen: set[str] = set()
        where = str(self.reference)
        while url not in seen and len(seen) < PAGES:
            seen.add(url)
            response, raw = self._document(url, {}, where)
            names = _strings(raw, key, where)
            link = protocol.next_page(response.headers.get("Link"))
            yield names, link
            url = joined(url, link or "", where)
            if urlsplit(url).netloc != urlsplit(self.base).netloc:
                raise Denied(f"the registry's next page is at {urlsplit(url).netloc}", where=where)
        raise InvalidInput("the registry's list does not end", where=where)

    # -- blobs

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the blob."""
        try:
            with self.request("HEAD", f"{self.base}/blobs/{descriptor.digest}"):
                return True
        except NotFound:
            return False

    @contextmanager
    def blob(self, descriptor: Descriptor, start: int = 0) -> Generator[Iterator[bytes]]:
        """A blob's bytes from `start` on, in chunks; where the connection is cut it goes on by Range.

        Not verified (a Verified does that), but never more than one chunk longer than promised.
        Raises NotFound, Denied, Unavailable, Corrupt.
        """
        chunks = self._resuming(descriptor, start)
        try:
            yield chunks
        finally:
            chunks.close()

    def _resuming(self, descriptor: Descriptor, at: int) -> Generator[bytes]:
        failures = 0
        while at < descriptor.size:
            try:
                for chunk in self._part(descriptor, at):
                    yield chunk
                    at += len(chunk)
                    failures = 0
                return
            except HTTPError as error:
                failures += 1
                if failures >= TRIES or not passing(error):
                    raise unreachable(error, self.reference.registry, descriptor.digest) from None
            except Stalled as error:
                failures += 1
                if failures >= TRIES:
                    raise Unavailable(str(error), where=descriptor.digest, hint="try again later") from None
            self.session.pause(failures, None)

    def _part(self, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        """What one answer gives of the blob from `start` on."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = f"{self.base}/blobs/{descriptor.digest}"
        with self.request("GET", url, ok=(200, 206), headers=headers, where=descriptor.digest) as response:
            skip = _skip(response, descriptor, start)
            since, counted = monotonic(), 0
            left = descriptor.size - start + skip
            while chunk := response.read1(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got="more")
                counted += len(chunk)
                if (now := monotonic()) - since > SLOW_TIME:
                    if counted < SLOW_BYTES:
                        raise Stalled(
                            f"{self.reference.registry} sends less than {SLOW_BYTES} bytes in {SLOW_TIME:.0f} s"
                        )
                    since, counted = now, 0
                if skip:
                    chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                if chunk:
                    yield chunk

    def upload(self, descriptor: Descriptor, opened: Opened) -> None:
        """Send a blob; `opened(start)` is a context manager that gives its chunks from byte `start` on.

        A cut upload goes on where the registry says it stopped. Raises Denied, Unavailable, InvalidInput.
        """
        from veloci.registry.upload import upload

        upload(self, descriptor, opened)

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Send a blob whose digest is not known beforehand; it cannot resume. Returns its descriptor."""
        from veloci.registry.upload import adopt

        return adopt(self, chunks, media_type)

    def mount(self, descriptor: Descriptor, source: str) -> bool:
        """Let the registry take the blob from its repository `source`. False if it will not."""
        from veloci.registry.upload import mount

        return mount(self, descriptor, source)

    # -- documents

    def _wanted(self, tag: str | None) -> str:
        return tag or self.reference.digest or self.reference.tag or "latest"

    def _document(self, url: str, headers: dict[str, str], where: str) -> tuple[BaseHTTPResponse, bytes]:
        """An answer and its whole, small body; tried again when the connection is cut."""
        for attempt in range(1, TRIES + 1):
            with self.request("GET", url, headers=headers, where=where) as response:
                try:
                    return response, document(response, where)
                except HTTPError as error:
                    if attempt == TRIES or not passing(error):
                        raise unreachable(error, self.reference.registry, where) from None
            self.session.pause(attempt, None)
        raise AssertionError("unreachable")


class Stalled(Exception):
    """The other side sends too little to wait for."""


def _media_type(response: BaseHTTPResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()


def _hash(algorithm: str, raw: bytes) -> Digest:
    hasher = digests.hasher(algorithm)
    hasher.update(raw)
    return f"{hasher.name}:{hasher.hexdigest()}"


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


def _skip(response: BaseHTTPResponse, descriptor: Descriptor, start: int) -> int:
    """How many bytes of the answer we have already. Raises Corrupt for an answer of another length or place."""
    total: int | None = None
    if response.status == 206:
        found = protocol.byte_range(response.headers.get("Content-Range", ""))
        if found is None or found[0] != start or found[2] not in (None, descriptor.size):
            said = response.headers.get("Content-Range", "none")
            raise Corrupt(descriptor.digest, want=f"bytes {start}-/{descriptor.size}", got=said)
        total = start
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) + (total or 0) != descriptor.size:
        raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got=str(int(length) + (total or 0)))
    return 0 if total is not None else start


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

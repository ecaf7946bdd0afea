"""One repository at a registry: its manifests, blobs, tags, referrers.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
"""

from __future__ import annotations

from veloci.blocks import contextmanager
from veloci.errors import Corrupt, NotFound, VelociError
from veloci.registry import manifests
from veloci.registry.access import Access
from veloci.registry.session import Session
from veloci.spec import media
from veloci.spec.image import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import TypeVar

    from veloci.registry.upload import Opened
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference

    Found = TypeVar("Found")


class Repository:
    """The repository that `reference` names, reached through `session` (its own if None).

    It is read at its mirrors, as registries.conf has them, and then at the registry itself; the mirror that had
    the manifest is asked for the blobs first. It is written at the registry itself.
    """

    def __init__(self, reference: Reference, *, session: Session | None = None) -> None:
        self.reference = reference
        self.session = session or Session()
        self._accesses: list[Access] = []
        self._chosen: Access | None = None
        self._used: set[Access] = set()  # mirrors that gave bytes of blobs

    @property
    def name(self) -> str:
        """The repository's name at its registry."""
        return self.reference.repository

    @property
    def own(self) -> Access:
        """The registry itself. Raises Denied if registries.conf blocks it."""
        return self._all()[-1]

    def _all(self) -> list[Access]:
        if not self._accesses:
            endpoints = self.session.endpoints(self.reference)
            self._accesses = [Access(self.session, endpoint, str(self.reference)) for endpoint in endpoints]
        return self._accesses

    def _first(self, wanted: str, read: Callable[[Access], Found]) -> Found:
        """What the first endpoint gives that gives anything. Raises what the registry itself said."""
        kind = "digest-only" if ":" in wanted else "tag-only"
        for access in self._all()[:-1]:
            if access.endpoint.when in ("all", kind):
                try:
                    found = read(access)
                except VelociError as error:
                    self._missed(access, error)
                    continue
                self._chosen = access
                return found
        return read(self.own)

    def doubt(self) -> bool:
        """Hear that what came was wrong: mirrors that gave bytes are passed over from now on. False if none did."""
        used, self._used, self._chosen = self._used, set(), None
        for access in used:
            self._accesses.remove(access)
            self.session.warn(f"the mirror {access.host} gave wrong bytes; going on without it")
        return bool(used)

    def _missed(self, access: Access, error: VelociError) -> None:
        if not isinstance(error, NotFound):  # no mirror has everything
            self.session.warn(f"the mirror {access.host} was of no use: {error}")

    # -- manifests

    def resolve(self, tag: str | None = None) -> Descriptor | None:
        """What a tag or digest (default: the reference's) names, without fetching it; None if there is no such.

        Registries that do not say the digest in answer to HEAD are asked for the whole. Raises Denied, Unavailable.
        """
        wanted = self._wanted(tag)

        def head(access: Access) -> Descriptor | None:
            url = f"{access.base}/manifests/{wanted}"
            with access.request("HEAD", url, headers={"Accept": manifests.ACCEPT}) as response:
                return manifests.described(response)

        try:
            return self._first(wanted, head) or self.manifest(wanted)[0]
        except NotFound:
            return None

    def manifest(self, tag: str | None = None) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest (default: the reference's): its descriptor and its bytes, verified.

        Raises NotFound, Denied, Unavailable, Corrupt, Unsupported for Docker's schema 1, InvalidInput.
        """
        wanted = self._wanted(tag)

        def get(access: Access) -> tuple[Descriptor, bytes]:
            response, raw = access.document(f"{access.base}/manifests/{wanted}", {"Accept": manifests.ACCEPT})
            return manifests.received(response, raw, wanted, access.where), raw

        return self._first(wanted, get)

    def put_manifest(self, raw: bytes, media_type: str, tag: str) -> Digest:
        """Upload a manifest under a tag or its digest. Returns its digest. Raises Denied, InvalidInput, Unavailable.

        One with a subject becomes one of that one's referrers, also where the registry keeps no list of them.
        """
        own = self.own
        with own.request(
            "PUT",
            f"{own.base}/manifests/{tag}",
            scope=own.scope("pull,push"),
            ok=(200, 201, 202),
            headers={"Content-Type": media_type},
            body=raw,
        ) as response:
            said = response.headers.get("Docker-Content-Digest", "")
            noted = response.headers.get("OCI-Subject", "")
        digest = manifests.hashed(tag if ":" in tag else "sha256:", raw)
        if said.startswith(digest.partition(":")[0]) and said != digest:
            raise Corrupt(f"manifest at {self.reference.registry}", want=digest, got=said)
        if b'"subject"' in raw or b"\\u" in raw:  # the name may stand there in JSON's other way
            from veloci.registry import referrers

            referring = referrers.referring(raw, media_type, digest)
            if referring and noted != referring[0]:
                referrers.add(self, *referring)
        return digest

    def delete(self, reference: str) -> None:
        """Delete a manifest by digest, or a tag where the registry can. Raises NotFound, Denied, Unsupported.

        A manifest with a subject is also no longer one of that one's referrers.
        """
        from veloci.registry import referrers

        own, referring = self.own, None
        if ":" in reference:
            descriptor, raw = self.manifest(reference)
            referring = referrers.referring(raw, descriptor.media_type, descriptor.digest)
        url = f"{own.base}/manifests/{reference}"
        with own.request("DELETE", url, scope=own.scope("delete,pull"), ok=(200, 202)):
            pass
        if referring:
            referrers.forget(self, referring[0], reference)

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> list[Descriptor]:
        """What refers to a manifest, there or not: of one artifact type, or all. Raises Denied, InvalidInput."""
        from veloci.registry import referrers

        return referrers.found(self, digest, artifact_type)

    def tags(self) -> Iterator[str]:
        """All tags, page by page. Raises NotFound, InvalidInput for an answer that is no list or never ends."""
        from veloci.registry import listing

        own = self.own
        yield from listing.names(own, f"{own.base}/tags/list?n={listing.PAGES}", "tags")

    # -- blobs

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the registry itself has the blob in this repository."""
        own = self.own
        try:
            with own.request("HEAD", f"{own.base}/blobs/{descriptor.digest}"):
                return True
        except NotFound:
            return False

    def parts(self) -> frozenset[Digest]:
        """The blobs of the image that the registry itself has under the reference: it has them too. Of an index none.

        Registries take no manifest whose blobs they lack (spec.md#pushing-manifests), so nobody needs to ask for each.
        """
        own, wanted = self.own, self._wanted(None)
        try:
            response, raw = own.document(f"{own.base}/manifests/{wanted}", {"Accept": manifests.ACCEPT})
            found = manifests.received(response, raw, wanted, own.where)
            if not media.is_manifest(found.media_type):
                return frozenset()
            manifest = Manifest.decode(raw, name=f"manifest {found.digest}")
        except VelociError:
            return frozenset()
        return frozenset(part.digest for part in (manifest.config, *manifest.layers) if not part.urls)

    @contextmanager
    def blob(self, descriptor: Descriptor, start: int = 0) -> Generator[Iterator[bytes]]:
        """A blob's bytes from `start` on, in chunks; where the connection is cut it goes on by Range.

        Not verified (a Verified does that), but never more than one chunk longer than promised.
        Raises NotFound, Denied, Unavailable, Corrupt.
        """
        chunks = self._chunks(descriptor, start)
        try:
            yield chunks
        finally:
            chunks.close()

    def _chunks(self, descriptor: Descriptor, at: int) -> Generator[bytes]:
        """The bytes from `at` on; where a mirror fails, the next goes on."""
        from veloci.registry.download import download

        mirrors = [access for access in self._all()[:-1] if access.endpoint.when != "tag-only"]
        for access in [self._chosen] if self._chosen else mirrors:
            try:
                for chunk in download(access, descriptor, at):
                    self._used.add(access)
                    at += len(chunk)
                    yield chunk
            except VelociError as error:
                self._missed(access, error)
                continue
            return
        yield from download(self.own, descriptor, at)

    def upload(self, descriptor: Descriptor, opened: Opened) -> None:
        """Send a blob; `opened(start)` is a context manager that gives its chunks from byte `start` on.

        A cut upload goes on where the registry says it stopped. Raises Denied, Unavailable, InvalidInput.
        """
        from veloci.registry.upload import upload

        upload(self.own, descriptor, opened)

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Send a blob whose digest is not known beforehand. Returns its descriptor. Raises as `upload`, HostError."""
        from veloci.registry.upload import adopt

        return adopt(self.own, chunks, media_type)

    def mount(self, descriptor: Descriptor, source: str) -> bool:
        """Let the registry take the blob from its repository `source`. False if it will not."""
        from veloci.registry.upload import mount

        return mount(self.own, descriptor, source)

    def _wanted(self, tag: str | None) -> str:
        return tag or self.reference.digest or self.reference.tag or "latest"

"""A blob sent to a registry: mounted from another repository, or streamed, and resumed where it stopped.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs
"""

from __future__ import annotations

import os

from veloci.blocks import contextmanager, suppress
from veloci.errors import Corrupt, HostError, InvalidInput, NotFound, Unsupported, VelociError
from veloci.registry import protocol, urls
from veloci.registry.answers import check_target, joined, passing, refused, unreachable
from veloci.registry.failures import Failure
from veloci.registry.session import TRIES
from veloci.registry.wire import SLOW_BYTES
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import IO, TypeAlias

    from veloci.registry.access import Access
    from veloci.registry.wire import Response

    Opened: TypeAlias = Callable[[int], AbstractContextManager[Iterable[bytes]]]

CHUNK = 1 << 20  # bytes that are read at once
TINY = 16 << 10  # bytes of a blob that goes with the request that begins its upload
SMALL = 256 << 10  # bytes of a blob that goes with the request that ends its upload
PART = 32 << 20  # bytes of a part, where the registry refuses the whole at once; half as many the next time
LEAST = 1 << 20
_AGAIN = (408, 429, 500, 502, 503, 504)


def mount(access: Access, descriptor: Descriptor, source: str) -> bool:
    """See Repository.mount."""
    query = urls.query([("mount", descriptor.digest), ("from", source)])
    url = f"{access.base}/blobs/uploads/?{query}"
    scope = f"{access.scope('pull,push')} repository:{source}:pull"
    headers = {"Content-Length": "0"}
    with access.request("POST", url, scope=scope, ok=(201, 202), headers=headers, where=descriptor.digest) as response:
        if response.status == 201:
            return True
        address = _location(access, response, url)
    with suppress(VelociError), access.request("DELETE", address, scope=scope, ok=(200, 202, 204)):
        pass  # it began an upload instead
    return False


def upload(access: Access, descriptor: Descriptor, opened: Opened) -> None:
    """See Repository.upload."""
    if descriptor.size <= SMALL:
        with opened(0) as chunks:
            data = b"".join(_exactly(chunks, descriptor, 0, descriptor.size))
        if not _at_once(access, descriptor, data):
            _finish(access, _Upload(access, descriptor).begin(), descriptor, data)
        return
    from veloci.registry.unfinished import Unfinished

    with Unfinished(access.session.uploads, f"{access.base} {descriptor.digest}") as record:
        sent = _Upload(access, descriptor, record.address)
        if record.address:
            with suppress(VelociError):
                check_target(record.address, access.origin, access.where)
                sent.ask()
        if not sent.at:
            sent.begin()
        record.note(sent.address)
        sent.send(opened)
        _finish(access, sent.address, descriptor)
        record.done()


def _at_once(access: Access, descriptor: Descriptor, data: bytes) -> bool:
    """Send a tiny blob with the request that begins its upload. False where the registry does not take it so.

    spec.md#single-post: one that does not take it begins an upload instead, to which it is then sent.
    """
    if len(data) > TINY or access.origin in access.session.stepwise:
        return False
    url = f"{access.base}/blobs/uploads/?{urls.query([('digest', descriptor.digest)])}"
    headers = {"Content-Length": str(len(data)), "Content-Type": "application/octet-stream"}
    try:
        with access.request(
            "POST",
            url,
            scope=access.scope("pull,push"),
            ok=(201, 202),
            headers=headers,
            body=data,
            where=descriptor.digest,
        ) as response:
            if response.status == 201:
                return True
            access.session.stepwise.add(access.origin)
            address, have = _location(access, response, url), protocol.byte_range(response.headers.get("Range", ""))
    except (InvalidInput, NotFound, Unsupported):  # it may not expect a body there
        access.session.stepwise.add(access.origin)
        return False
    if have and have[1]:  # it took the body for a part
        return False
    _finish(access, address, descriptor, data)
    return True


def adopt(access: Access, chunks: Iterable[bytes], media_type: str) -> Descriptor:
    """See Repository.adopt. What is sent is kept aside meanwhile: it is made once, and the connection may be cut."""
    from tempfile import TemporaryFile

    from veloci.layer.stream import Hashed

    hashed = Hashed(chunks)
    with TemporaryFile(buffering=0, dir=os.environ.get("TMPDIR") or "/var/tmp") as kept:  # noqa: S108 -- no name there
        sent = _Upload(access, None)
        sent.begin()
        try:
            sent.patch({}, _keeping(hashed, kept))
            cut = False
        except (Failure, _Refused) as error:
            sent.pause(error, 1)
            cut = True
            for _chunk in _keeping(hashed, kept):
                pass
        descriptor = Descriptor(media_type=media_type, digest=hashed.digest, size=hashed.size)
        if cut:
            sent = _Upload(access, descriptor, sent.address)
            sent.ask()
            sent.send(lambda at: _kept(kept, at))
    _finish(access, sent.address, descriptor)
    return descriptor


def _keeping(chunks: Iterable[bytes], file: IO[bytes]) -> Iterator[bytes]:
    """Pass chunks through, and write them to `file`. Raises HostError: an OSError would pass for the connection's."""
    from veloci.content.files import write

    for chunk in chunks:
        try:
            write(file.fileno(), chunk, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise HostError("keep a blob aside", error, hint="set TMPDIR to where there is room") from error
        yield chunk


@contextmanager
def _kept(file: IO[bytes], at: int) -> Generator[Iterator[bytes]]:
    file.seek(at)
    yield iter(lambda: file.read(CHUNK), b"")


class _Refused(Exception):
    """A part that the registry did not take this time. reason: what to say of it; wait: seconds it asked for."""

    def __init__(self, reason: VelociError, wait: float | None) -> None:
        super().__init__(str(reason))
        self.reason, self.wait = reason, wait


class _Upload:
    """A blob on its way. address: where it goes on; at: bytes that the registry has."""

    def __init__(self, access: Access, descriptor: Descriptor | None, address: str = "") -> None:
        self._access, self._descriptor = access, descriptor
        self._where = descriptor.digest if descriptor else access.where
        self._scope = access.scope("pull,push")
        self._part = 0  # bytes in one request; 0: all that is left
        self._least = LEAST
        self.address, self.at = address, 0

    def begin(self) -> str:
        """Begin anew. Returns the address."""
        url = f"{self._access.base}/blobs/uploads/"
        headers = {"Content-Length": "0"}
        with self._access.request(
            "POST", url, scope=self._scope, ok=(202,), headers=headers, where=self._where
        ) as response:
            self.address, self.at = _location(self._access, response, url), 0
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            if least.isascii() and least.isdecimal():
                self._least = min(int(least[:12]), PART)
        return self.address

    def ask(self) -> None:
        """Learn where a cut upload goes on: from its start, in a new one, if the registry lost it."""
        try:
            with self._access.request(
                "GET", self.address, scope=self._scope, ok=(200, 202, 204), where=self._where
            ) as response:
                found = protocol.byte_range(response.headers.get("Range", ""))
                size = self._descriptor.size if self._descriptor else 0
                if found and found[0] == 0 and found[1] and found[1] < size:  # "0-0" may be nothing, or one byte
                    self.address, self.at = _location(self._access, response, self.address), found[1] + 1
                    return
        except NotFound:
            pass
        self.begin()

    def send(self, opened: Opened) -> None:
        """Send the blob from where it is to its end, however often the connection is cut."""
        descriptor, failures = self._descriptor, 0
        enough = self.at + SLOW_BYTES  # a registry that loses the upload again and again gets nowhere
        assert descriptor
        while self.at < descriptor.size:
            before = self.at
            end = min(descriptor.size, before + self._part) if self._part else descriptor.size
            try:
                with opened(before) as chunks:
                    headers = {"Content-Length": str(end - before)}
                    if before or self._part:
                        headers["Content-Range"] = f"{before}-{end - 1}"
                    if self.patch(headers, _exactly(chunks, descriptor, before, end)):
                        self.at = end
                    else:
                        self.ask()
            except (Failure, _Refused) as error:
                failures += 1
                self.pause(error, failures)
                if failures > 1 and not self._part:  # somebody on the way may not let so much pass at once
                    self._part = max(PART, self._least)
                self.ask()
            if self.at >= enough:
                failures, enough = 0, self.at + SLOW_BYTES

    def pause(self, error: Failure | _Refused, failures: int) -> None:
        """Wait before the next try. Raises the error as ours if there is none."""
        access, wait = self._access, None
        if isinstance(error, _Refused):
            wait = error.wait
            if failures >= TRIES:
                raise error.reason from None
        elif failures >= TRIES or not passing(error):
            raise unreachable(error, access.host, self._where) from None
        access.session.pause(failures, wait, access.host, self._where)

    def patch(self, headers: dict[str, str], body: Iterable[bytes]) -> bool:
        """Send a part. False if it was too much at once. Raises Failure or _Refused if another try may help."""
        access = self._access
        headers = {"Content-Type": "application/octet-stream", **headers}
        response, used = access.session.send(
            "PATCH", self.address, auth=access.auth, scope=self._scope, headers=headers, body=body
        )
        try:
            if response.status == 413 and self._part != self._least:
                self._part = max(self._part // 2 or PART, self._least)
                return False
            if response.status in _AGAIN or response.status in (411, 416):  # it wants a length, or another offset
                wait = protocol.retry_after(response.headers.get("Retry-After"))
                raise _Refused(refused(response, self._where, access.host), wait)
            if response.status == 401 and access.auth.learn(
                response.headers.get("WWW-Authenticate"), self._scope, used
            ):
                raise _Refused(refused(response, self._where, access.host), 0.0)
            if response.status not in (201, 202, 204):
                raise refused(response, self._where, access.host)
            self.address = _location(access, response, self.address)
        finally:
            response.close()
        return True


def _exactly(chunks: Iterable[bytes], descriptor: Descriptor, at: int, end: int) -> Iterator[bytes]:
    """`chunks` of the blob from `at` to `end`; it must be as long as was announced: else the connection is lost."""
    for chunk in chunks:
        whole = at + len(chunk)
        if whole > descriptor.size:
            raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got="more")
        yield chunk[: end - at]
        at = min(whole, end)
        if at == end < descriptor.size:
            return
    if at != end:
        raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got=str(at))


def _finish(access: Access, address: str, descriptor: Descriptor, data: bytes = b"") -> None:
    url = f"{address}{'&' if '?' in address else '?'}{urls.query([('digest', descriptor.digest)])}"
    with access.request(
        "PUT",
        url,
        scope=access.scope("pull,push"),
        ok=(201, 204),
        headers={"Content-Length": str(len(data)), "Content-Type": "application/octet-stream"},
        body=data,
        where=descriptor.digest,
    ):
        pass


def _location(access: Access, response: Response, url: str) -> str:
    """The absolute address in Location; the present one if there is none."""
    address = joined(url, response.headers.get("Location", ""), access.where)
    check_target(address, access.origin, access.where)
    return address

"""A blob sent to a registry: mounted from another repository, or streamed, and resumed where it stopped.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

from urllib3.exceptions import HTTPError

from veloci.errors import Corrupt, NotFound, VelociError
from veloci.layer.stream import Hashed
from veloci.registry import protocol
from veloci.registry.session import TRIES, check_target, joined, passing, refused, release, unreachable
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from urllib3 import BaseHTTPResponse

    from veloci.registry.client import Repository

    Opened: TypeAlias = Callable[[int], AbstractContextManager[Iterable[bytes]]]

_AGAIN = (408, 429, 500, 502, 503, 504)


def mount(repository: Repository, descriptor: Descriptor, source: str) -> bool:
    """See Repository.mount."""
    query = urlencode({"mount": descriptor.digest, "from": source})
    url = f"{repository.base}/blobs/uploads/?{query}"
    scope = f"{repository.scope('pull,push')} repository:{source}:pull"
    with repository.request("POST", url, scope=scope, ok=(201, 202), where=descriptor.digest) as response:
        if response.status == 201:
            return True
        address = _location(repository, response, url)
    with suppress(VelociError), repository.request("DELETE", address, scope=scope, ok=(200, 202, 204)):
        pass  # it began an upload instead
    return False


def upload(repository: Repository, descriptor: Descriptor, opened: Opened) -> None:
    """See Repository.upload."""
    address = _begin(repository, descriptor.digest)
    failures = at = 0
    while at < descriptor.size:
        try:
            with opened(at) as chunks:
                address, at = _send(repository, address, descriptor, chunks, at)
        except HTTPError as error:
            failures += 1
            if failures >= TRIES or not passing(error):
                raise unreachable(error, repository.reference.registry, descriptor.digest) from None
            repository.session.pause(failures, None)
            before = at
            address, at = _status(repository, address, descriptor)
            failures = 0 if at > before else failures
    _finish(repository, address, descriptor)


def adopt(repository: Repository, chunks: Iterable[bytes], media_type: str) -> Descriptor:
    """See Repository.adopt."""
    address = _begin(repository, "")
    hashed = Hashed(chunks)
    try:
        response = _patch(repository, address, {}, hashed)
    except HTTPError as error:
        raise unreachable(error, repository.reference.registry, str(repository.reference)) from None
    address = _taken(repository, response, address, "")
    descriptor = Descriptor(media_type=media_type, digest=hashed.digest, size=hashed.size)
    _finish(repository, address, descriptor)
    return descriptor


def _begin(repository: Repository, where: str) -> str:
    url = f"{repository.base}/blobs/uploads/"
    with repository.request(
        "POST", url, scope=repository.scope("pull,push"), ok=(202,), headers={"Content-Length": "0"}, where=where
    ) as response:
        return _location(repository, response, url)


def _send(
    repository: Repository, address: str, descriptor: Descriptor, chunks: Iterable[bytes], at: int
) -> tuple[str, int]:
    """Send the blob from byte `at` to its end. Returns where to go on, and the size sent."""
    headers = {"Content-Length": str(descriptor.size - at)}
    if at:
        headers["Content-Range"] = f"{at}-{descriptor.size - 1}"
    response = _patch(repository, address, headers, _exactly(chunks, descriptor, at))
    return _taken(repository, response, address, descriptor.digest), descriptor.size


def _exactly(chunks: Iterable[bytes], descriptor: Descriptor, at: int) -> Iterator[bytes]:
    """`chunks`, which must be as long as was announced: else the connection would be out of step."""
    for chunk in chunks:
        at += len(chunk)
        if at > descriptor.size:
            raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got="more")
        yield chunk
    if at != descriptor.size:
        raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got=str(at))


def _patch(repository: Repository, address: str, headers: dict[str, str], body: Iterable[bytes]) -> BaseHTTPResponse:
    auth = repository.session.auth(repository.reference.registry, repository.name)
    headers = {"Content-Type": "application/octet-stream", **headers}
    return repository.session.send(
        "PATCH", address, auth=auth, scope=repository.scope("pull,push"), headers=headers, body=body
    )


def _taken(repository: Repository, response: BaseHTTPResponse, address: str, where: str) -> str:
    """Where to go on after a part was sent. Raises HTTPError if another try may help."""
    try:
        if response.status in _AGAIN or response.status == 401:
            auth = repository.session.auth(repository.reference.registry, repository.name)
            if response.status == 401 and not auth.learn(
                response.headers.get("WWW-Authenticate"), repository.scope("pull,push")
            ):
                raise refused(response, where, repository.reference.registry)
            from urllib3.exceptions import ProtocolError

            raise ProtocolError(f"the registry answered {response.status}")
        if response.status not in (201, 202, 204):
            raise refused(response, where, repository.reference.registry)
        return _location(repository, response, address)
    finally:
        release(response)


def _status(repository: Repository, address: str, descriptor: Descriptor) -> tuple[str, int]:
    """Where an upload that was cut goes on: from its start, in a new one, if the registry lost it."""
    try:
        with repository.request(
            "GET", address, scope=repository.scope("pull,push"), ok=(202, 204), where=descriptor.digest
        ) as response:
            found = protocol.byte_range(response.headers.get("Range", ""))
            if found and found[1] and found[1] < descriptor.size:  # "0-0" may be nothing, or one byte
                return _location(repository, response, address), found[1] + 1
    except NotFound:
        pass
    return _begin(repository, descriptor.digest), 0


def _finish(repository: Repository, address: str, descriptor: Descriptor) -> None:
    url = f"{address}{'&' if '?' in address else '?'}{urlencode({'digest': descriptor.digest})}"
    with repository.request(
        "PUT",
        url,
        scope=repository.scope("pull,push"),
        ok=(201, 204),
        headers={"Content-Length": "0", "Content-Type": "application/octet-stream"},
        where=descriptor.digest,
    ):
        pass


def _location(repository: Repository, response: BaseHTTPResponse, url: str) -> str:
    """The absolute address in Location; the present one if there is none."""
    address = joined(url, response.headers.get("Location", ""), str(repository.reference))
    check_target(address, repository.session.origin(repository.reference.registry), str(repository.reference))
    return address

"""A blob read from a registry: what is cut goes on by Range, what never ends is cut.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-blobs
"""

from __future__ import annotations

from veloci.errors import Corrupt
from veloci.registry import protocol
from veloci.registry.answers import passing, unreachable
from veloci.registry.failures import Failure
from veloci.registry.session import TRIES
from veloci.registry.wire import SLOW_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from veloci.registry.access import Access
    from veloci.registry.wire import Response
    from veloci.spec.image import Descriptor

CHUNK = 1 << 20  # bytes that are read at once


def download(access: Access, descriptor: Descriptor, at: int) -> Generator[bytes]:
    """The blob's bytes from `at` on. Raises NotFound, Denied, Unavailable, Corrupt."""
    failures = 0
    enough = at + SLOW_BYTES  # whoever gives a byte a try gives nothing
    while at < descriptor.size:
        try:
            for chunk in _part(access, descriptor, at):
                yield chunk
                at += len(chunk)
                if at >= enough:
                    failures, enough = 0, at + SLOW_BYTES
            return
        except Failure as error:
            failures += 1
            if failures >= TRIES or not passing(error):
                raise unreachable(error, access.host, descriptor.digest) from None
        access.session.pause(failures, None)


def _part(access: Access, descriptor: Descriptor, start: int) -> Iterator[bytes]:
    """What one answer gives of the blob from `start` on."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    url = f"{access.base}/blobs/{descriptor.digest}"
    with access.request("GET", url, ok=(200, 206), headers=headers, where=descriptor.digest) as response:
        skip = _skip(response, descriptor, start)
        left = descriptor.size - start + skip
        while chunk := response.read1(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got="more")
            if skip:
                chunk, skip = chunk[skip:], max(0, skip - len(chunk))
            if chunk:
                yield chunk


def _skip(response: Response, descriptor: Descriptor, start: int) -> int:
    """How many bytes of the answer we have already. Raises Corrupt for an answer of another length or place."""
    total: int | None = None
    if response.status == 206:
        found = protocol.byte_range(response.headers.get("Content-Range", ""))
        if found is None or found[0] != start or found[2] not in (None, descriptor.size):
            said = response.headers.get("Content-Range", "none")
            raise Corrupt(descriptor.digest, want=f"bytes {start}-/{descriptor.size}", got=said[:200])
        total = start
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdecimal() and int(length) + (total or 0) != descriptor.size:
        raise Corrupt(descriptor.digest, want=f"{descriptor.size} bytes", got=str(int(length) + (total or 0)))
    return 0 if total is not None else start

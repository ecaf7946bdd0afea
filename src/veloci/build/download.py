"""What ADD and a build's context read from HTTP servers.

A download is kept below the build cache, and asked for again with what the server said of it
(RFC 9110, If-None-Match, If-Modified-Since), so that an unchanged one does not travel twice.

    http/<hash of the address>.json   what the server said of it, and its digest
    http/<digest>                     the bytes
"""

from __future__ import annotations

import os
from posixpath import basename
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from veloci.build.cache import key
from veloci.errors import Corrupt, InvalidInput, NotFound, Unavailable, VelociError
from veloci.spec import digest as digests
from veloci.spec.document import Document, dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.build.parts import Transfers
    from veloci.registry.wire import Response
    from veloci.spec.digest import Digest

_CHUNK = 1 << 20  # bytes
_REDIRECTS = 10


class Download(Document):
    """A file from a server. modified: its Last-Modified in seconds since 1970, 0 when it was not told."""

    digest: str
    name: str
    modified: int = 0
    etag: str = ""
    last: str = ""  # Last-Modified as the server spells it


class Downloads:
    """The downloads below a build cache's `root`."""

    def __init__(self, root: str) -> None:
        self.root = f"{root}/http"

    def path(self, digest: Digest) -> str:
        """Where the bytes are."""
        return f"{self.root}/{digest.replace(':', '-')}"

    def get(self, url: str, transfers: Transfers, checksum: Digest = "") -> Download:
        """The file at `url`. checksum: what it must be; if it is here already nobody is asked.

        Raises NotFound, Unavailable, InvalidInput for what is no address, Corrupt for another digest.
        """
        about = f"{self.root}/{key(url)}.json"
        known = self._known(about)
        if known is not None and checksum and known.digest == checksum:
            return known
        response = _opened(url, known)
        try:
            found = known if known is not None and response.status == 304 else self._kept(url, response, transfers)
        finally:
            response.close()
        if checksum and (got := self._digest(found, checksum)) != checksum:
            raise Corrupt(url, want=checksum, got=got)
        temporary = f"{about}.{os.getpid()}-{os.urandom(6).hex()}"
        with open(temporary, "wb") as file:
            file.write(dumps(found.plain()))
        os.rename(temporary, about)
        return found

    def _digest(self, found: Download, like: Digest) -> Digest:
        """The digest of what was downloaded, by the algorithm of `like`."""
        if like.startswith("sha256:"):
            return found.digest
        hasher = digests.hasher(like)
        with open(self.path(found.digest), "rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
        return f"{hasher.name}:{hasher.hexdigest()}"

    def _known(self, about: str) -> Download | None:
        try:
            with open(about, "rb") as file:
                found = Download.convert(loads(file.read()))
            return found if os.path.exists(self.path(found.digest)) else None
        except (OSError, ValueError, StopIteration, VelociError):
            return None

    def _kept(self, url: str, response: Response, transfers: Transfers) -> Download:
        import hashlib

        os.makedirs(self.root, 0o700, exist_ok=True)
        total = hashlib.sha256()
        temporary = f"{self.root}/.{os.getpid()}-{os.urandom(6).hex()}"
        try:
            with open(temporary, "xb") as file:
                for chunk in _told(response, url, transfers):
                    total.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fdatasync(file.fileno())  # nobody looks at the bytes again
            digest = f"sha256:{total.hexdigest()}"
            os.rename(temporary, self.path(digest))
        except BaseException:
            os.unlink(temporary)
            raise
        last = response.headers.get("Last-Modified") or ""
        return Download(
            digest=digest,
            name=_name(url, response.headers.get("Content-Disposition") or ""),
            modified=_moment(last),
            etag=response.headers.get("ETag") or "",
            last=last,
        )


def _opened(url: str, known: Download | None) -> Response:
    """The answer, redirects followed; 200, or 304 for what is `known`."""
    from veloci.registry.connections import Connections
    from veloci.registry.failures import Failure

    headers: dict[str, str] = {}
    if known is not None and known.etag:
        headers["If-None-Match"] = known.etag
    if known is not None and known.last:
        headers["If-Modified-Since"] = known.last
    connections, here = Connections(), url
    for _ in range(_REDIRECTS):
        try:
            response = connections.request("GET", here, headers=headers)
        except Failure as error:
            raise Unavailable(f"{url}: {error}") from None
        if response.status in (200, 304):
            return response
        target = response.headers.get("Location")
        response.close()
        if response.status in (301, 302, 303, 307, 308) and target:
            here = urljoin(here, target)
            if urlsplit(here).scheme not in ("http", "https"):
                raise InvalidInput(f"{url}: a redirect to {here}")
        elif response.status in (404, 410):
            raise NotFound(f"{url}: {response.status} {response.reason}")
        else:
            raise Unavailable(f"{url}: {response.status} {response.reason}")
    raise Unavailable(f"{url}: more than {_REDIRECTS} redirects")


def _told(response: Response, url: str, transfers: Transfers) -> Iterator[bytes]:
    """The body, its bytes on show. Raises Unavailable for one that ends early."""
    from veloci.registry.failures import Failure

    length = response.headers.get("Content-Length") or ""
    transfers.start(url, "downloading", int(length) if length.isdecimal() else None)
    try:
        while chunk := response.read(_CHUNK):
            transfers.advance(url, len(chunk))
            yield chunk
    except Failure as error:
        raise Unavailable(f"{url}: {error}", hint="try again") from None
    transfers.done(url, "")


def _name(url: str, disposition: str) -> str:
    """What the file is called: as the server says, else by the end of the address."""
    from email.message import Message

    message = Message()
    message["Content-Disposition"] = disposition
    name = basename((message.get_filename() or "").replace("\\", "/")) if disposition else ""
    name = name or basename(unquote(urlsplit(url).path))
    return name if name not in ("", ".", "..") and "\0" not in name else "download"


def _moment(text: str) -> int:
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else 0
    except (ValueError, OverflowError):
        return 0

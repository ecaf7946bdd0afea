"""docker-daemon:name[:tag] or docker-daemon:sha256:…: an image in a docker engine, through its API.

The engine gives and takes Docker's archives: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image
"""

from __future__ import annotations

import os
import socket
from http.client import HTTPConnection, HTTPException
from tempfile import TemporaryFile
from urllib.parse import quote, urlsplit

from veloci.errors import Denied, HostError, InvalidInput, NotFound, Unavailable
from veloci.spec.document import loads
from veloci.transport.docker_archive import DockerArchive, DockerArchiveSource, normal
from veloci.transport.files import Archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from http.client import HTTPResponse

    from veloci.errors import VelociError
    from veloci.spec.reference import Reference

SOCKET = "unix:///var/run/docker.sock"
CHUNK = 1 << 20  # bytes
ANSWER = 4 << 20  # bytes of an answer that is read, at most
PATIENCE = 600.0  # seconds of silence: the engine packs an image before it sends the first byte


def source(text: str, host: str | None = None) -> DockerArchiveSource:
    """The image `text` (a name, or sha256: and its ID) of the engine at `host`.

    host: unix:///path or tcp://host:port; None is DOCKER_HOST, else the usual socket.
    Raises NotFound, Unavailable, InvalidInput.
    """
    name = text if _is_id(text) else _name(text).familiar()
    with TemporaryFile("wb", buffering=0, prefix="veloci-") as spool:
        engine = Engine(host)
        for chunk in engine.get(f"/images/{quote(name, safe='/:@')}/get", name):
            rest = memoryview(chunk)
            while rest:
                rest = rest[spool.write(rest) :]
        spool.seek(0)
        archive = Archive(spool.fileno())
    archive.name = f"docker-daemon:{text}"
    return DockerArchiveSource(archive, "" if _is_id(text) else name)


def destination(text: str, host: str | None = None, *, more: Sequence[Reference] = ()) -> DockerArchive:
    """The engine at `host` as the place an image goes to, named `text`. Raises InvalidInput; later Unavailable."""
    if _is_id(text):
        raise InvalidInput("an image's ID is what it is", where=f"docker-daemon:{text}", hint="docker-daemon:NAME:TAG")
    place = DockerArchive(Engine(host).load, [_name(text), *more])
    place.name = f"docker-daemon:{text}"
    return place


class Engine:
    """A docker engine's API, of which this needs two calls."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or SOCKET

    def get(self, path: str, what: str) -> Iterator[bytes]:
        """The body of an answer. what: asked for, in errors. Raises NotFound, Unavailable, Denied."""
        connection = self._connection()
        try:
            response = self._asked(connection, "GET", path)
            if response.status != 200:
                raise _failure(response, what)
            while chunk := response.read(CHUNK):
                yield chunk
        except HTTPException as error:
            raise Unavailable(f"the engine's answer was cut: {error!r}", where=self.host) from None
        finally:
            connection.close()

    def load(self, chunks: Iterator[bytes], size: int) -> None:
        """Let the engine load an archive of `size` bytes. Raises Unavailable, InvalidInput in the engine's words."""
        connection = self._connection()
        try:
            headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
            response = self._asked(connection, "POST", "/images/load?quiet=1", chunks, headers)
            if response.status != 200:
                raise _failure(response, "the image")
            for line in response.read(ANSWER).splitlines():
                said = loads(line) if line.strip() else {}
                if isinstance(said, dict) and (said.get("error") or said.get("errorDetail")):
                    raise InvalidInput(f"the engine refuses the image: {said.get('error')}", where=self.host)
        except (HTTPException, ValueError) as error:
            raise Unavailable(f"the engine's answer is none: {error!r}", where=self.host) from None
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        """Raises InvalidInput, Unavailable."""
        parts = urlsplit(self.host)
        if parts.scheme in ("tcp", "http") and parts.hostname:
            return HTTPConnection(parts.hostname, parts.port or 2375, timeout=PATIENCE)
        if parts.scheme != "unix" or not parts.path:
            hint = "unix:///var/run/docker.sock, or tcp://HOST:PORT"
            raise InvalidInput(f"{self.host!r} is no engine's address", where="docker-daemon:", hint=hint)
        connection = HTTPConnection("localhost", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(parts.path)
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from None
        return connection

    def _asked(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> HTTPResponse:
        try:
            connection.request(method, path, body, headers or {})
            return connection.getresponse()
        except OSError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: OSError) -> Unavailable | HostError:
        if isinstance(error, (FileNotFoundError, ConnectionError, TimeoutError)):
            reason = (error.strerror or str(error)).lower()
            return Unavailable(f"cannot reach the docker engine: {reason}", where=self.host, hint="is dockerd running?")
        return HostError("reach the docker engine", error, where=self.host)


def _failure(response: HTTPResponse, what: str) -> VelociError:
    try:
        said = str(loads(response.read(ANSWER))["message"])
    except (ValueError, TypeError, KeyError, HTTPException):
        said = f"status {response.status}"
    kind: type[VelociError] = {404: NotFound, 401: Denied, 403: Denied}.get(response.status, Unavailable)
    return kind(f"the docker engine says: {said}", where=what)


def _is_id(text: str) -> bool:
    return text.startswith("sha256:")


def _name(text: str) -> Reference:
    if not text:
        raise InvalidInput("names no image", where="docker-daemon:", hint="docker-daemon:NAME[:TAG]")
    return normal(text)

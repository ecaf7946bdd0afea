"""What an answer or a failed connection is: a document, or one of our errors."""

from __future__ import annotations

from ssl import SSLEOFError
from urllib.parse import urljoin, urlsplit

from urllib3.exceptions import (
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as SilentError,
)

from veloci.errors import Denied, InvalidInput, Unavailable, VelociError
from veloci.registry import protocol
from veloci.registry.connections import Handshake
from veloci.registry.inner import is_inner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

SMALL = 64 << 10  # bytes of an unread body that are read, so that the connection can serve again


def check_target(url: str, origin: str, where: str) -> None:
    """Refuse a redirect or upload address that leaves encryption, or reaches inside from outside. Raises Denied."""
    try:
        target, registry = urlsplit(url), urlsplit(origin)
        _ = target.port
    except ValueError:
        raise InvalidInput(f"the registry points to {url[:200]!r}", where=where) from None
    if target.scheme not in ("http", "https") or not target.hostname:
        raise InvalidInput(f"the registry points to {url[:200]!r}", where=where)
    if registry.scheme == "https" and target.scheme == "http":
        raise Denied(f"the registry points to {target.netloc} without encryption", where=where)
    if target.hostname != registry.hostname and is_inner(target.hostname) and not is_inner(registry.hostname or ""):
        raise Denied(f"the registry points to the inner address {target.netloc}", where=where)


def joined(url: str, target: str, where: str) -> str:
    """Where `target`, found at `url`, leads. Raises InvalidInput for what is no address."""
    try:
        return urljoin(url, target)
    except ValueError:
        raise InvalidInput(f"the registry points to {target[:200]!r}", where=where) from None


def same_origin(url: str, origin: str) -> bool:
    """Whether credentials for `origin` may go to `url`: the same scheme, host and port."""
    return url == origin or url.startswith(origin + "/")


def document(response: BaseHTTPResponse, where: str) -> bytes:
    """The whole body, of at most 4 MiB. Raises InvalidInput for more, urllib3's HTTPError for a cut one."""
    data = bytearray()
    while chunk := response.read1(protocol.DOCUMENT):
        data += chunk
        if len(data) > protocol.DOCUMENT:
            raise InvalidInput(f"the answer is longer than {protocol.DOCUMENT} bytes", where=where)
    return bytes(data)


def refused(response: BaseHTTPResponse, where: str, host: str) -> VelociError:
    """The error an answer stands for, in the words of the registry at `host`. where: what was asked for."""
    try:
        body = document(response, where)
    except (HTTPError, InvalidInput):
        body = b""
    return protocol.failure(response.status, body, response.headers, where=where, host=host)


def release(response: BaseHTTPResponse) -> None:
    """Give the connection back if little of the body is left, else close it: an endless body is not drained."""
    left = getattr(response, "length_remaining", None)
    try:
        if left is not None and left <= SMALL:
            response.read()
    except HTTPError:
        pass
    response.close()
    response.release_conn()


def passing(error: HTTPError) -> bool:
    """Whether another try may help: the connection was cut or silent, not refused."""
    return isinstance(error, (ProtocolError, SilentError)) and not gone(error)


def is_plain(error: HTTPError) -> bool:
    """Whether a try by TLS failed as it does where plain HTTP is spoken; a bad certificate is no such failure."""
    return isinstance(error, SSLError) and bool(error.args) and isinstance(error.args[0], Handshake)


def gone(error: HTTPError) -> bool:
    """Whether nobody was there to connect to."""
    return isinstance(error, (NewConnectionError, NameResolutionError))


def unreachable(error: HTTPError, host: str, where: str = "") -> VelociError:
    """What a connection's failure is, in one line."""
    if isinstance(error, ProxyError):
        said = _text(error.original_error) if isinstance(error.original_error, HTTPError) else ""
        reason = said or str(error.original_error)
        return Unavailable(
            f"cannot reach {host} by its proxy: {reason.lower()}", where=where, hint="check HTTP_PROXY and HTTPS_PROXY"
        )
    if isinstance(error, SSLError):
        cause = error.args[0] if error.args else error
        known = getattr(cause, "verify_message", "") or getattr(cause, "reason", "")
        reason = "it was cut" if isinstance(cause, SSLEOFError) else str(known or error).lower().replace("_", " ")
        hint = "use a trusted certificate, or --tls-verify=false if you trust the network"
        if is_plain(error):
            hint = "does it speak TLS? --tls-verify=false tries plain HTTP too"
        return Unavailable(f"no trusted connection to {host}: {reason}", where=where, hint=hint)
    return Unavailable(f"cannot reach {host}: {_text(error).lower()}", where=where, hint="is the registry up?")


def _text(error: HTTPError) -> str:
    cause = error.__cause__ or error.__context__
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    if isinstance(error, SilentError) and not text:
        text = "no answer"
        if isinstance(cause, TimeoutError) and str(cause).startswith("less than"):
            text = f"it sent {cause}"
    if not text and isinstance(error, ProtocolError):
        text = "the connection was cut"
    return text or str(error)

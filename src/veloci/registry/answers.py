"""What an answer or a failed connection is: a document, or one of our errors."""

from __future__ import annotations

from veloci.errors import Denied, InvalidInput, Unavailable, VelociError
from veloci.registry import http, protocol, urls
from veloci.registry.failures import ByProxy, Cut, Failure, Gone, Silent, Untrusted
from veloci.registry.inner import is_inner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.registry.wire import Response


def check_target(url: str, origin: str, where: str) -> None:
    """Refuse a redirect or upload address that leaves encryption, or reaches inside from outside. Raises Denied."""
    try:
        target, registry = urls.split(url), urls.split(origin)
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
    """Where `target`, found at `url`, leads. Raises InvalidInput for what is no address, or longer than a head is."""
    try:
        found = urls.join(url, target)
    except ValueError:
        found = ""
    if not found or len(found) > http.HEAD:
        raise InvalidInput(f"the registry points to {target[:200]!r}", where=where)
    return found


def same_origin(url: str, origin: str) -> bool:
    """Whether credentials for `origin` may go to `url`: the same scheme, host and port."""
    return url == origin or url.startswith(origin + "/")


def document(response: Response, where: str) -> bytes:
    """The whole body, of at most 4 MiB. Raises InvalidInput for more, Failure for a cut one."""
    data = bytearray()
    while chunk := response.read1(protocol.DOCUMENT):
        data += chunk
        if len(data) > protocol.DOCUMENT:
            raise InvalidInput(f"the answer is longer than {protocol.DOCUMENT} bytes", where=where)
    return bytes(data)


def refused(response: Response, where: str, host: str) -> VelociError:
    """The error an answer stands for, in the words of the registry at `host`. where: what was asked for."""
    try:
        body = document(response, where)
    except (Failure, InvalidInput):
        body = b""
    return protocol.failure(response.status, body, response.headers, where=where, host=host)


def passing(error: Failure) -> bool:
    """Whether another try may help: the connection was cut or silent, not refused."""
    return isinstance(error, (Cut, Silent))


def is_plain(error: Failure) -> bool:
    """Whether a try by TLS failed as it does where plain HTTP is spoken; a bad certificate is no such failure."""
    return isinstance(error, Untrusted) and error.plain


def gone(error: Failure) -> bool:
    """Whether nobody was there to connect to."""
    return isinstance(error, Gone)


def unreachable(error: Failure, host: str, where: str = "") -> VelociError:
    """What a connection's failure is, in one line."""
    if isinstance(error, ByProxy):
        hint = "check HTTP_PROXY and HTTPS_PROXY"
        return Unavailable(f"cannot reach {host} by its proxy: {error}", where=where, hint=hint)
    if isinstance(error, Untrusted):
        hint = "use a trusted certificate, or --tls-verify=false if you trust the network"
        if error.plain:
            hint = "does it speak TLS? --tls-verify=false tries plain HTTP too"
        return Unavailable(f"no trusted connection to {host}: {error}", where=where, hint=hint)
    return Unavailable(f"cannot reach {host}: {error}", where=where, hint="is the registry up?")

"""HTTP as registries need it: the only place that makes connections, so that every check is on every path.

Retries what may pass (429, 5xx, cut connections) with back-off and jitter; follows redirects
without taking credentials to another origin; bounds documents; times out on stalls, not on length.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from random import uniform
from time import sleep
from urllib.parse import urljoin, urlsplit

from urllib3 import PoolManager, Retry, Timeout, disable_warnings
from urllib3.exceptions import (
    HTTPError,
    InsecureRequestWarning,
    LocationParseError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as SilentError,
)

from veloci.errors import Denied, InvalidInput, Unavailable, VelociError
from veloci.registry import protocol
from veloci.registry.auth import Auth, is_inner, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from urllib3 import BaseHTTPResponse

    from veloci.registry.credentials import Credentials

TRIES = 5
FIRST_WAIT, LONGEST_WAIT = 0.3, 30.0  # seconds between tries
REDIRECTS = 8
CONNECT, STALL = 10.0, 60.0  # seconds to connect; of silence
SMALL = 64 << 10  # bytes of an unread body that are read, so that the connection can serve again
AGENT = "veloci"
_REDIRECT = (301, 302, 303, 307, 308)
_LATER = (429, 500, 502, 503, 504)


class Session:
    """Connections to registries, shared by all repositories that one command deals with.

    credentials: for every registry; None looks them up in the user's files. tls_verify: False
    takes any certificate, and plain HTTP where there is no TLS. wait: the first pause before a retry.
    """

    def __init__(
        self, *, credentials: Credentials | None = None, tls_verify: bool = True, wait: float = FIRST_WAIT
    ) -> None:
        self._given, self._verify, self.wait = credentials, tls_verify, wait
        self._origins: dict[str, str] = {}
        self._auths: dict[tuple[str, str], Auth] = {}
        context = ssl.create_default_context()
        if not tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            disable_warnings(InsecureRequestWarning)  # it is what the user asked for
        self._pool = PoolManager(
            maxsize=8, retries=Retry(0, redirect=False, raise_on_status=False), ssl_context=context
        )

    def origin(self, registry: str) -> str:
        """`https://HOST[:PORT]` of a registry; http only for this machine's, or without verification."""
        known = self._origins.get(registry)
        if known:
            return known
        host = "registry-1.docker.io" if registry == "docker.io" else registry
        name = urlsplit(f"//{host}").hostname or ""
        found = f"https://{host}"
        if is_loopback(name) or not self._verify:
            try:
                self._once("GET", f"{found}/v2/", None, {}, Timeout(CONNECT, read=CONNECT)).close()
            except HTTPError as error:
                if is_plain(error):
                    found = f"http://{host}"
                else:
                    raise unreachable(error, host) from None
        self._origins[registry] = found
        return found

    def auth(self, registry: str, repository: str) -> Auth:
        """What is known of us at a registry."""
        key = registry, repository
        if key not in self._auths:
            credentials = self._given
            if credentials is None:
                from veloci.registry.credentials import find

                credentials = find(registry, repository)
            self._auths[key] = Auth(self.origin(registry), credentials, self._ask)
        return self._auths[key]

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        auth: Auth,
        scope: str,
        ok: tuple[int, ...] = (200,),
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        where: str = "",
    ) -> Generator[BaseHTTPResponse]:
        """An answer whose status is one of `ok`, its body unread; closed at the block's end.

        where: what the request is for, in errors. Raises Denied, NotFound, Unavailable, InvalidInput, with the
        registry's own words.
        """
        response = self._answered(method, url, auth, scope, headers or {}, body, where)
        try:
            if response.status not in ok:
                raise refused(response, where, urlsplit(auth.origin).netloc)
            yield response
        finally:
            release(response)

    def send(
        self, method: str, url: str, *, auth: Auth, scope: str, headers: dict[str, str], body: Iterable[bytes]
    ) -> BaseHTTPResponse:
        """One try of a request with a streamed body: it cannot be repeated here. Raises urllib3's HTTPError."""
        patient = Timeout(STALL, read=5 * STALL)  # the registry may hash it all before it answers
        return self._once(method, url, body, self._signed(headers, url, auth, scope), patient)

    def _answered(
        self, method: str, url: str, auth: Auth, scope: str, headers: dict[str, str], body: bytes | None, where: str
    ) -> BaseHTTPResponse:
        """The last answer, after redirects, challenges and retries."""
        redirects = challenges = failures = 0
        host = urlsplit(url).netloc
        while True:
            try:
                response = self._once(method, url, body, self._signed(headers, url, auth, scope))
            except HTTPError as error:
                failures += 1
                if failures >= TRIES or not passing(error):
                    raise unreachable(error, host, where) from None
                self.pause(failures, None)
                continue
            last = True
            try:
                if response.status in _REDIRECT and method in ("GET", "HEAD"):
                    redirects += 1
                    last, url = False, self._redirected(response, url, auth, redirects, where)
                elif response.status == 401 and challenges < 2 and same_origin(url, auth.origin):
                    challenges += 1
                    last = not auth.learn(response.headers.get("WWW-Authenticate"), scope)
                elif response.status in _LATER and failures + 1 < TRIES:
                    failures += 1
                    last = False
            except VelociError:
                release(response)
                raise
            if last:
                return response
            release(response)
            if response.status in _LATER:
                self.pause(failures, protocol.retry_after(response.headers.get("Retry-After")))

    def pause(self, failures: int, asked: float | None) -> None:
        """Wait before the next try: what the registry asked for, or twice as long as the last time, with jitter."""
        seconds = self.wait * 2 ** (failures - 1)
        sleep(min(LONGEST_WAIT, asked if asked is not None else uniform(seconds / 2, seconds)))  # noqa: S311 -- jitter

    def _signed(self, headers: dict[str, str], url: str, auth: Auth, scope: str) -> dict[str, str]:
        value = auth.header(scope) if same_origin(url, auth.origin) else None
        return {**headers, "Authorization": value} if value else headers

    def _redirected(self, response: BaseHTTPResponse, url: str, auth: Auth, count: int, where: str) -> str:
        target = joined(url, response.headers.get("Location", ""), where)
        if count > REDIRECTS:
            raise InvalidInput(f"{urlsplit(url).netloc} redirects more than {REDIRECTS} times", where=where)
        check_target(target, auth.origin, where)
        return target

    def _ask(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """A token's answer: no redirect, a bounded body, three tries."""
        for attempt in range(1, TRIES + 1):
            try:
                response = self._once(method, url, body, headers)
                try:
                    if response.status not in _LATER or attempt == TRIES:
                        return response.status, document(response, urlsplit(url).netloc)
                finally:
                    release(response)
                self.pause(attempt, protocol.retry_after(response.headers.get("Retry-After")))
            except HTTPError as error:
                if attempt == TRIES or not passing(error):
                    raise unreachable(error, urlsplit(url).netloc) from None
                self.pause(attempt, None)
        raise AssertionError("unreachable")

    def _once(
        self,
        method: str,
        url: str,
        body: bytes | Iterable[bytes] | None,
        headers: dict[str, str],
        timeout: Timeout | None = None,
    ) -> BaseHTTPResponse:
        try:
            return self._pool.request(
                method,
                url,
                body=body,
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **headers},
                timeout=timeout or Timeout(CONNECT, read=STALL),
                preload_content=False,
                redirect=False,
                decode_content=False,
            )
        except MaxRetryError as error:
            if isinstance(error.reason, HTTPError):
                raise error.reason from error.reason.__cause__
            raise
        except (LocationParseError, UnicodeError, ValueError) as error:
            raise InvalidInput(f"{url[:200]!r} is no address: {error}") from None


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
    if isinstance(error, SSLError):
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    return passing(error)


def gone(error: HTTPError) -> bool:
    """Whether nobody was there to connect to."""
    return isinstance(error, (NewConnectionError, NameResolutionError))


def unreachable(error: HTTPError, host: str, where: str = "") -> VelociError:
    """What a connection's failure is, in one line."""
    if isinstance(error, SSLError):
        known = getattr(error.args[0], "verify_message", "") or getattr(error.args[0], "reason", "")
        reason = str(known or error).lower().replace("_", " ")
        hint = "use a trusted certificate, or --tls-verify=false if you trust the network"
        return Unavailable(f"no trusted connection to {host}: {reason}", where=where, hint=hint)
    cause = error.__cause__ or error.__context__
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    if isinstance(error, SilentError) and not text:
        text = "no answer"
    if not text and isinstance(error, ProtocolError):
        text = "the connection was cut"
    return Unavailable(f"cannot reach {host}: {(text or str(error)).lower()}", where=where, hint="is the registry up?")

"""HTTP as registries need it: every request goes through here, so that every check is on every path.

Retries what may pass (429, 5xx, cut connections) with back-off and jitter; follows redirects
without taking credentials to another origin; bounds documents; times out on stalls, not on length.
"""

from __future__ import annotations

from _thread import allocate_lock
from time import sleep

from veloci.blocks import contextmanager
from veloci.errors import InvalidInput, Unavailable, VelociError
from veloci.registry import protocol, urls
from veloci.registry.answers import (
    check_target,
    document,
    gone,
    is_plain,
    joined,
    passing,
    refused,
    same_origin,
    unreachable,
)
from veloci.registry.auth import Auth
from veloci.registry.connections import CONNECT, STALL, Connections
from veloci.registry.failures import Failure
from veloci.registry.inner import is_loopback, leads_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from veloci.registry.configuration import Configuration, Endpoint
    from veloci.registry.credentials import Credentials
    from veloci.registry.wire import Response
    from veloci.spec.reference import Reference

TRIES = 5
FIRST_WAIT, LONGEST_WAIT = 0.3, 60.0  # seconds between tries
REDIRECTS = 8
HUB = "registry-1.docker.io"  # where docker.io is
_REDIRECT = (301, 302, 303, 307, 308)
_LATER = (429, 500, 502, 503, 504)


class Session:
    """Connections to registries, shared by all repositories that one command deals with.

    credentials: for the registries themselves, not their mirrors; None looks them up in the user's files, or in
    `authfile` alone. anonymous: without any. token: a registry token, sent as it is, and never fetched anew.
    tls_verify: False takes any certificate, and plain HTTP where there is no TLS; True does not, whatever
    registries.conf says; None does what it says. cert_dir: where certificates are, instead of certs.d.
    configuration: where images come from; None reads registries.conf and daemon.json. warn: is told in one line
    what a registry warns of, once. uploads: a directory that remembers interrupted uploads; None: they begin anew.
    wait: the first pause before a retry; stall: how long the other side may be silent; both in seconds.
    """

    def __init__(
        self,
        *,
        credentials: Credentials | None = None,
        anonymous: bool = False,
        token: str | None = None,
        authfile: str | None = None,
        tls_verify: bool | None = None,
        cert_dir: str | None = None,
        configuration: Configuration | None = None,
        warn: Callable[[str], None] | None = None,
        uploads: str | None = None,
        wait: float = FIRST_WAIT,
        stall: float = STALL,
    ) -> None:
        self._given, self._authfile, self._verify = credentials, authfile, tls_verify
        self._anonymous, self._token = anonymous, token
        self.wait, self.stall, self.uploads = wait, stall, uploads
        self._configuration, self._warn = configuration, warn
        self._connections = Connections(cert_dir=cert_dir, stall=stall)
        self._origins: dict[str, str] = {}
        self._insecure: set[str] = set()  # host:port whose certificate does not matter
        self._inner: dict[str, bool] = {}
        self._auths: dict[tuple[str, str], Auth] = {}
        self._warned: set[str] = set()
        self.stepwise: set[str] = set()  # origins that take no blob with the request that begins its upload
        self._lock = allocate_lock()  # of _auths

    @property
    def configuration(self) -> Configuration:
        """registries.conf and the like, read when they are first needed. Raises InvalidInput."""
        if self._configuration is None:
            from veloci.registry.configuration import load

            self._configuration = load()
        return self._configuration

    def endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """Where to look for a repository, the registry itself last. Raises Denied if it is blocked, InvalidInput."""
        return self.configuration.endpoints(reference)

    def endpoint(self, registry: str) -> Endpoint:
        """A registry itself, HOST[:PORT], without a repository. Raises Denied if it is blocked, InvalidInput."""
        from veloci.registry.configuration import Endpoint
        from veloci.spec.reference import Reference

        insecure = self.endpoints(Reference(registry=registry, repository="x"))[-1].insecure
        return Endpoint(registry, "", insecure=insecure)

    def origin(self, registry: str, *, insecure: bool = False) -> str:
        """`https://HOST[:PORT]` of a registry; http only for this machine's, or without verification."""
        known = self._origins.get(registry)
        if known:
            return known
        host = HUB if registry == "docker.io" else registry
        insecure = self._verify is False or (insecure and self._verify is None)
        if insecure:
            self._insecure.add(host)
        found = f"https://{host}"
        local = is_loopback(urls.split(f"http://{host}").hostname or "")
        if local and self._speaks_plainly(host):
            found = f"http://{host}"
        elif insecure or local:
            try:
                self._once("GET", f"{found}/v2/", None, {}, read=min(CONNECT, self.stall)).close()
            except Failure as error:
                if not is_plain(error):
                    raise unreachable(error, host) from None
                found = f"http://{host}"
        self._origins[registry] = found
        return found

    def _speaks_plainly(self, host: str) -> bool:
        """Whether a registry of this machine answers without TLS, which is asked first: it is far less work.

        One that wants TLS cuts the connection, answers 400 or leads elsewhere. Raises Unavailable if none is there.
        """
        try:
            response = self._once("GET", f"http://{host}/v2/", None, {}, read=min(CONNECT, self.stall))
        except Failure as error:
            if gone(error):
                raise unreachable(error, host) from None
            return False
        response.close()
        return response.status not in (400, 426, *_REDIRECT)

    def auth(self, endpoint: Endpoint) -> Auth:
        """What is known of us at an endpoint."""
        key = endpoint.registry, endpoint.repository
        with self._lock:
            if key not in self._auths:
                credentials = None if endpoint.mirror else self._given
                token = None if endpoint.mirror else self._token
                stored = credentials is None and not token and not self._anonymous
                if stored:
                    from veloci.registry.credentials import find

                    credentials = find(*key, authfile=self._authfile, helpers=self.configuration.helpers)
                origin = self.origin(endpoint.registry, insecure=endpoint.insecure)
                asker = self._asker(origin)
                self._auths[key] = Auth(origin, credentials, asker, stored=stored, warn=self.warn, token=token)
            return self._auths[key]

    def login(self, endpoint: Endpoint, credentials: Credentials) -> Auth:
        """As `auth`, for credentials that are to be checked; its `identity` is then the token to keep instead."""
        origin = self.origin(endpoint.registry, insecure=endpoint.insecure)
        return Auth(origin, credentials, self._asker(origin), lasting=True)

    def warn(self, text: str) -> None:
        """Tell a warning, once."""
        if self._warn and text not in self._warned:
            self._warned.add(text)
            self._warn(text)

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
    ) -> Generator[Response]:
        """An answer whose status is one of `ok`, its body unread; closed at the block's end.

        where: what the request is for, in errors. Raises Denied, NotFound, Unavailable, InvalidInput, with the
        registry's own words.
        """
        response = self._answered(method, url, auth, scope, headers or {}, body, where)
        try:
            if response.status not in ok:
                raise refused(response, where, auth.host)
            yield response
        finally:
            response.close()

    def send(
        self, method: str, url: str, *, auth: Auth, scope: str, headers: dict[str, str], body: Iterable[bytes]
    ) -> tuple[Response, str | None]:
        """One try of a request with a streamed body: it cannot be repeated here. Raises Failure.

        Returns the answer, and the Authorization that was sent.
        """
        used = self._signature(url, auth, scope)
        headers = {**headers, "Authorization": used} if used else headers
        patient = 5 * self.stall  # the registry may hash it all before it answers
        response = self._once(method, url, body, headers, connect=self.stall, read=patient, origin=auth.origin)
        self._heed(response, auth)
        return response, used

    def _answered(
        self, method: str, url: str, auth: Auth, scope: str, headers: dict[str, str], body: bytes | None, where: str
    ) -> Response:
        """The last answer, after redirects, challenges and retries."""
        redirects = challenges = failures = 0
        while True:
            host = urls.split(url).netloc.rpartition("@")[2]  # which may be another after a redirect
            used = self._signature(url, auth, scope)
            signed = {**headers, "Authorization": used} if used else headers
            try:
                response = self._once(method, url, body, signed, origin=auth.origin)
            except Failure as error:
                failures += 1
                if failures >= TRIES or not passing(error):
                    raise unreachable(error, host, where) from None
                self.pause(failures, None)
                continue
            self._heed(response, auth)
            last = True
            try:
                if response.status in _REDIRECT and (method in ("GET", "HEAD") or response.status > 303):
                    redirects += 1
                    last, url = False, self._redirected(response, url, auth, redirects, where)
                elif response.status == 401 and challenges < 2 and same_origin(url, auth.origin):
                    challenges += 1
                    last = not auth.learn(response.headers.get("WWW-Authenticate"), scope, used)
                elif response.status in _LATER and failures + 1 < TRIES:
                    failures += 1
                    last = False
            except VelociError:
                response.close()
                raise
            if last:
                return self._placed(response, url, where)
            response.close()
            if response.status in _LATER:
                self.pause(failures, protocol.retry_after(response.headers.get("Retry-After")), host, where)

    def pause(self, failures: int, asked: float | None, host: str = "", where: str = "") -> None:
        """Wait before the next try: what the registry at `host` asked for, or twice as long as the last time.

        With jitter. Raises Unavailable if it asked for longer than anybody would wait.
        """
        from random import uniform

        if asked is not None and asked > LONGEST_WAIT:
            error = Unavailable(f"{host} asks to come back in {asked:.0f} s", where=where, hint="try again then")
            error.retry_after = asked
            raise error
        seconds = min(LONGEST_WAIT, self.wait * 2 ** (failures - 1))
        sleep(asked if asked is not None else uniform(seconds / 2, seconds))  # noqa: S311 -- jitter

    def _placed(self, response: Response, url: str, where: str) -> Response:
        """The answer, its Location absolute: redirects may have led to another host."""
        if "Location" in response.headers:
            try:
                response.headers["Location"] = joined(url, response.headers["Location"], where)
            except VelociError:
                response.close()
                raise
        return response

    def _heed(self, response: Response, auth: Auth) -> None:
        for text in protocol.warnings((response.headers.get("Warning", ""),)):
            self.warn(f"{auth.host} says: {text}")

    def _signature(self, url: str, auth: Auth, scope: str) -> str | None:
        return auth.header(scope) if same_origin(url, auth.origin) else None

    def _redirected(self, response: Response, url: str, auth: Auth, count: int, where: str) -> str:
        target = joined(url, response.headers.get("Location", ""), where)
        if count > REDIRECTS:
            raise InvalidInput(f"{urls.split(url).netloc} redirects more than {REDIRECTS} times", where=where)
        check_target(target, auth.origin, where)
        return target

    def _asker(self, origin: str) -> Callable[[str, str, bytes | None, dict[str, str]], tuple[int, bytes]]:
        """What fetches a token for the registry at `origin`: no redirect, a bounded body, some tries."""

        def ask(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
            host = urls.split(url).netloc
            for attempt in range(1, TRIES + 1):
                try:
                    response = self._once(method, url, body, headers, origin=origin)
                    try:
                        if response.status not in _LATER or attempt == TRIES:
                            return response.status, document(response, host)
                    finally:
                        response.close()
                    self.pause(attempt, protocol.retry_after(response.headers.get("Retry-After")), host)
                except Failure as error:
                    if attempt == TRIES or not passing(error):
                        raise unreachable(error, host) from None
                    self.pause(attempt, None)
            raise AssertionError("unreachable")

        return ask

    def _once(
        self,
        method: str,
        url: str,
        body: bytes | Iterable[bytes] | None,
        headers: dict[str, str],
        *,
        connect: float = CONNECT,
        read: float | None = None,
        origin: str = "",
    ) -> Response:
        """One request; where a registry sends us to another host, that one must not be an inner one."""
        verify = self._verify is not False and urls.split(url).netloc not in self._insecure
        return self._connections.request(
            method,
            url,
            body=body,
            headers=headers,
            connect=connect,
            read=read,
            verify=verify,
            guarded=self._guards(url, origin),
            elsewhere=bool(origin) and not same_origin(url, origin),
        )

    def _guards(self, url: str, origin: str) -> bool:
        """Whether `url` is elsewhere than the registry at `origin`, and that one is no inner host itself."""
        if not origin or same_origin(url, origin):
            return False
        target, registry = urls.split(url).hostname, urls.split(origin).hostname
        if not registry or target == registry:
            return False
        if origin not in self._inner:
            self._inner[origin] = not self._connections.proxied(origin) and leads_in(registry)
        return not self._inner[origin]

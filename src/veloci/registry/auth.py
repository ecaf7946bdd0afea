"""Answers to a registry's challenge: Basic, or a token fetched from where the challenge says.

https://distribution.github.io/distribution/spec/auth/token/ and RFC 7235
"""

from __future__ import annotations

from _thread import allocate_lock
from time import monotonic

from veloci.errors import Denied, InvalidInput
from veloci.registry import protocol, urls
from veloci.registry.inner import is_inner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from veloci.registry.credentials import Credentials

    # method, url, body (a form) and headers -> status, body
    Ask = Callable[[str, str, bytes | None, dict[str, str]], tuple[int, bytes]]

CLIENT = "veloci"
EARLY = 20.0  # seconds before its end at which a token counts as used up
SHORTEST = 60.0  # seconds that every token lasts, says the specification
_PARAMETER = r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*'


def challenge(header: str | None) -> tuple[str, dict[str, str]]:
    """The first scheme of a WWW-Authenticate header that we know, in lower case, with its parameters; else ""."""
    import re

    text = (header or "").strip()
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"?', lambda quoted: "x" * len(quoted[0]), text)  # a scheme is no text's part
    match = re.search(r"(?i)(?:^|,\s*)(bearer|basic)(?:\s+|$)", unquoted)
    if not match:
        return "", {}
    found: dict[str, str] = {}
    at = match.end()
    parameters = re.compile(_PARAMETER)
    while parameter := parameters.match(text, at):
        name, quoted, plain = parameter.groups()
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        at = parameter.end()
    return match[1].lower(), found


class Auth:
    """The Authorization header for one repository, by scope; learns from challenges. Any thread may ask.

    origin: scheme://host[:port] of the registry. ask: how a token is fetched (never through this object).
    stored: the credentials are from a file, not given for this very command: if they are refused, reading goes
    on without them. warn: who is told so. lasting: ask for an identity token as well, as a login does. token: a
    registry token, sent with every request instead of all that.
    """

    def __init__(
        self,
        origin: str,
        credentials: Credentials | None,
        ask: Ask,
        *,
        stored: bool = False,
        warn: Callable[[str], None] | None = None,
        lasting: bool = False,
        token: str | None = None,
    ) -> None:
        self._given = f"Bearer {token}" if token else None
        self.origin, self.credentials, self._ask = origin, credentials, ask
        self._stored, self._warn, self._lasting = stored, warn, lasting
        self.identity = ""  # an identity token that the registry gave
        self._lock = allocate_lock()
        self._basic = False
        self._service: tuple[str, str] | None = None  # realm and service of the last challenge
        self._tokens: dict[str, tuple[str, float, list[str]]] = {}  # scope -> header, when it ends, all its scopes

    @property
    def host(self) -> str:
        """The registry's host and port."""
        return urls.split(self.origin).netloc

    def header(self, scope: str) -> str | None:
        """What to send with a request of `scope`, as far as is known; a token that ends is fetched anew."""
        if self._given:
            return self._given
        with self._lock:
            if self._basic and self.credentials:
                return self.credentials.basic
            value, end, scopes = self._tokens.get(scope, ("", 0.0, []))
            if value and end <= monotonic() and self._service:
                value = self._fetch(scope, *self._service, scopes)
            return value or None

    def learn(self, header: str | None, scope: str, used: str | None) -> bool:
        """Answer a challenge; `used` is the Authorization that was refused, if any.

        Whether the request is worth repeating. Raises Denied, what `ask` raises.
        """
        if self._given:
            return False
        scheme, parameters = challenge(header)
        with self._lock:
            if scheme == "basic":
                again = used is None and self.credentials is not None and not self.credentials.is_token
                self._basic = again
                return again
            if scheme != "bearer":
                return False
            known = self._tokens.get(scope, ("", 0.0, []))[0]
            if known and known != used:  # another thread was faster
                return True
            realm, service = parameters.get("realm", ""), parameters.get("service", "")
            self._check(realm)
            self._service = realm, service
            self._fetch(scope, realm, service, sorted({*scope.split(), *parameters.get("scope", "").split()}))
            return True

    def _check(self, realm: str) -> None:
        """Refuse a realm that would carry our password elsewhere in the open, or make us knock at inner doors."""
        registry = urls.split(self.origin)
        try:
            target = urls.split(realm)
            right = target.scheme in ("http", "https") and bool(target.hostname) and target.port != 0
        except ValueError:
            right = False
        if not right:
            raise Denied(f"the registry asks for a token from {realm[:200]!r}", where=self.host)
        target = urls.split(realm)
        elsewhere = target.hostname != registry.hostname
        if target.scheme == "http" and (elsewhere or registry.scheme == "https"):
            raise Denied(f"the registry asks for a token from {target.netloc} without encryption", where=self.host)
        if elsewhere and is_inner(target.hostname or "") and not is_inner(registry.hostname or ""):
            raise Denied(f"the registry asks for a token from the inner address {target.netloc}", where=self.host)

    def _fetch(self, scope: str, realm: str, service: str, scopes: list[str]) -> str:
        """Fetch a token for `scopes` and remember it for `scope`. Returns the header."""
        status, body = self._request(realm, service, scopes, self.credentials)
        where = urls.split(realm).netloc
        reading = all(part.endswith(":pull") for part in scopes)
        if status in (400, 401, 403) and self.credentials and self._stored and reading:
            again, other = self._request(realm, service, scopes, None)
            if again == 200:
                status, body = again, other
                if self._warn:
                    self._warn(f"{self.host} refused the stored login; going on without it: veloci login {self.host}")
        if status != 200:
            # What is wrong with a login is a 400 in the OAuth2 form (RFC 6749, 5.2).
            refused = 401 if status == 400 and self.credentials else status
            raise protocol.failure(refused, body, {}, where=where, host=self.host)
        value, lasts, identity = _granted(body, where)
        self.identity = identity or self.identity
        self._tokens[scope] = f"Bearer {value}", monotonic() + lasts - EARLY, scopes
        return f"Bearer {value}"

    def _request(
        self, realm: str, service: str, scopes: list[str], credentials: Credentials | None
    ) -> tuple[int, bytes]:
        """Ask for a token. Without credentials it is an anonymous one."""
        headers: dict[str, str] = {}
        form: dict[str, str] = {"service": service} if service else {}
        if credentials and credentials.is_token:
            form |= {"grant_type": "refresh_token", "refresh_token": credentials.secret, "client_id": CLIENT}
            form["scope"] = " ".join(scopes)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            return self._ask("POST", realm, urls.query(form.items()).encode(), headers)
        if credentials:
            headers["Authorization"] = credentials.basic
            form["account"] = credentials.name
            if self._lasting:
                form |= {"client_id": CLIENT, "offline_token": "true"}
        query = urls.query([*form.items(), *(("scope", scope) for scope in scopes)])
        return self._ask("GET", f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm, None, headers)


def _granted(body: bytes, where: str) -> tuple[str, float, str]:
    """Token, how long it lasts (seconds), identity token or "". Raises InvalidInput."""
    from veloci.spec.document import loads

    try:
        answer: dict[str, Any] = loads(body)
        token = answer.get("token") or answer.get("access_token")
        lasts = float(answer.get("expires_in") or SHORTEST)
    except (ValueError, AttributeError, TypeError, OverflowError) as error:
        raise InvalidInput(f"the token's answer is not JSON: {error}", where=where) from None
    identity = answer.get("refresh_token") or ""
    for text in (token, identity):
        if not isinstance(text, str) or not text.isascii() or not (text.isprintable() or not text):
            raise InvalidInput("the answer holds no token", where=where)
    if not token:
        raise InvalidInput("the answer holds no token", where=where)
    return str(token), max(SHORTEST, lasts), identity

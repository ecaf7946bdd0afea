"""Answers to a registry's challenge: Basic, or a token fetched from where the challenge says.

https://distribution.github.io/distribution/spec/auth/token/ and RFC 7235
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from time import monotonic
from urllib.parse import urlencode, urlsplit

from veloci.errors import Denied, InvalidInput
from veloci.registry import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.registry.credentials import Credentials

    # method, url, body (a form) and headers -> status, body
    Ask = Callable[[str, str, bytes | None, dict[str, str]], tuple[int, bytes]]

EARLY = 20.0  # seconds before its end at which a token counts as used up
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*')


def challenge(header: str | None) -> tuple[str, dict[str, str]]:
    """The first scheme of a WWW-Authenticate header that we know, in lower case, with its parameters; else ""."""
    text = (header or "").strip()
    match = re.search(r"(?i)(?:^|,\s*)(bearer|basic)(?:\s+|$)", text)
    if not match:
        return "", {}
    found: dict[str, str] = {}
    at = match.end()
    while parameter := _PARAMETER.match(text, at):
        name, quoted, plain = parameter.groups()
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        at = parameter.end()
    return match[1].lower(), found


class Auth:
    """The Authorization header for one registry, by scope; learns from challenges.

    origin: scheme://host[:port] of the registry. ask: how a token is fetched (never through this object).
    """

    def __init__(self, origin: str, credentials: Credentials | None, ask: Ask) -> None:
        self.origin, self.credentials, self._ask = origin, credentials, ask
        self._basic = False
        self._tokens: dict[str, tuple[str, float]] = {}  # scope -> header, when it ends

    def header(self, scope: str) -> str | None:
        """What to send with a request of `scope`, as far as is known."""
        if self._basic and self.credentials:
            return self.credentials.basic
        value, end = self._tokens.get(scope, ("", 0.0))
        return value if value and end > monotonic() else None

    def learn(self, header: str | None, scope: str) -> bool:
        """Answer a challenge. Whether the request is worth repeating. Raises Denied, what `ask` raises."""
        scheme, parameters = challenge(header)
        if scheme == "basic":
            again = not self._basic and self.credentials is not None and not self.credentials.is_token
            self._basic = again
            return again
        if scheme != "bearer":
            return False
        realm = parameters.get("realm", "")
        self._check(realm)
        scopes = sorted({*scope.split(), *parameters.get("scope", "").split()})
        value, lasts = self._token(realm, parameters.get("service", ""), scopes)
        self._tokens[scope] = f"Bearer {value}", monotonic() + lasts - EARLY
        return True

    def _check(self, realm: str) -> None:
        """Refuse a realm that would carry our password elsewhere in the open, or make us knock at inner doors."""
        target, registry = urlsplit(realm), urlsplit(self.origin)
        if target.scheme not in ("http", "https") or not target.hostname:
            raise Denied(f"the registry asks for a token from {realm[:200]!r}", where=registry.netloc)
        same = target.hostname == registry.hostname
        if target.scheme == "http" and not same:
            raise Denied(
                f"the registry asks for a token from {target.netloc} without encryption", where=registry.netloc
            )
        if not same and is_inner(target.hostname) and not is_inner(registry.hostname or ""):
            raise Denied(f"the registry asks for a token from the inner address {target.netloc}", where=registry.netloc)

    def _token(self, realm: str, service: str, scopes: list[str]) -> tuple[str, float]:
        """A token and how long it lasts (seconds). Without stored credentials it is an anonymous one."""
        headers: dict[str, str] = {}
        form: dict[str, str] = {"service": service} if service else {}
        if self.credentials and self.credentials.is_token:
            form |= {"grant_type": "refresh_token", "refresh_token": self.credentials.secret, "client_id": "veloci"}
            form["scope"] = " ".join(scopes)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            status, body = self._ask("POST", realm, urlencode(form).encode(), headers)
        else:
            if self.credentials:
                headers["Authorization"] = self.credentials.basic
                form["account"] = self.credentials.name
            query = urlencode([*form.items(), *(("scope", scope) for scope in scopes)])
            address = f"{realm}{'&' if '?' in realm else '?'}{query}"
            status, body = self._ask("GET", address, None, headers)
        host = urlsplit(self.origin).netloc
        if status != 200:
            raise protocol.failure(status, body, {}, where=urlsplit(realm).netloc, host=host)
        return _granted(body, urlsplit(realm).netloc)


def _granted(body: bytes, where: str) -> tuple[str, float]:
    from veloci.spec.document import loads

    try:
        answer = loads(body)
        token = answer.get("token") or answer.get("access_token")
        lasts = float(answer.get("expires_in") or 60)
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"the token's answer is not JSON: {error}", where=where) from None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise InvalidInput("the answer holds no token", where=where)
    return token, max(60.0, lasts)


def is_inner(host: str) -> bool:
    """Whether a host's name or address is this machine's, a private network's or link-local."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not address.is_global


def is_loopback(host: str) -> bool:
    """Whether `host` (no port, no brackets) is this machine, to which docker speaks plain HTTP too."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

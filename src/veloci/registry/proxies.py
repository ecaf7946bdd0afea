"""Which proxy a connection goes by: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read as Go's programs read them.

https://pkg.go.dev/golang.org/x/net/http/httpproxy
"""

from __future__ import annotations

from os import environ

from veloci.errors import InvalidInput
from veloci.registry.inner import is_loopback


class Proxy:
    """A proxy's address, and the credentials that its variable holds, "" or `NAME:PASSWORD`."""

    def __init__(self, url: str, credentials: str) -> None:
        self.url, self.credentials = url, credentials

    @property
    def shown(self) -> dict[str, str]:
        """The header that shows it who we are (RFC 9110, 11.7.2)."""
        if not self.credentials:
            return {}
        from base64 import b64encode

        return {"Proxy-Authorization": "Basic " + b64encode(self.credentials.encode()).decode()}


def proxy(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a connection; this machine is always reached directly. Raises InvalidInput."""
    name = f"{scheme.upper()}_PROXY"
    value = (environ.get(name) or environ.get(name.lower()) or "").strip()
    if not value or is_loopback(host) or _excepted(host, port):
        return None
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:  # whose text is not shown: it may hold a password
        hint = "http://HOST:PORT or https://HOST:PORT"
        raise InvalidInput("is no proxy's address", where=name, hint=hint) from None
    user, at, where = parts.netloc.rpartition("@")
    return Proxy(f"{parts.scheme}://{where}", unquote(user) if at else "")


def _excepted(host: str, port: int) -> bool:
    rules = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return any(_fits(rule.strip().lower(), host.lower().rstrip("."), port) for rule in rules.split(",") if rule.strip())


def _fits(rule: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY, `*`, an address, a network, a domain or `.domain`, perhaps with a port, fits."""
    if rule == "*":
        return True
    from ipaddress import ip_address, ip_network

    try:
        network = ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        try:
            return ip_address(host) in network
        except ValueError:
            return False
    name, colon, number = rule.rpartition(":")
    if colon and number.isdecimal():
        if int(number) != port:
            return False
        rule = name.strip("[]")
    domain = rule.removeprefix("*").lstrip(".")
    below = host.endswith(f".{domain}")
    return below if rule.startswith((".", "*.")) else below or host == domain

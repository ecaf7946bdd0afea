"""Who we are at a registry: docker's config.json, containers' auth.json, credential helpers.

https://docs.docker.com/reference/cli/docker/login/ and containers-auth.json(5)
"""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode, b64encode
from binascii import Error as Base64Error

from veloci.errors import Denied, HostError, InvalidInput
from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DOCKER_KEY = "https://index.docker.io/v1/"  # under which docker keeps docker.io
_MISSING = "credentials not found"  # how every helper begins to say that it has none


class Credentials:
    """A name and a password, or an identity token (then the name is "<token>")."""

    def __init__(self, name: str, secret: str) -> None:
        self.name, self.secret = name, secret

    @property
    def is_token(self) -> bool:
        """Whether the secret is an OAuth2 refresh token."""
        return self.name == "<token>"

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header (RFC 7617)."""
        return "Basic " + b64encode(f"{self.name}:{self.secret}".encode()).decode()


def parse(text: str) -> Credentials:
    """`NAME:PASSWORD` as an option gives it. Raises InvalidInput."""
    name, colon, secret = text.partition(":")
    if not name or not colon:
        raise InvalidInput("credentials are written NAME:PASSWORD")
    return Credentials(name, secret)


def find(registry: str, repository: str = "") -> Credentials | None:
    """What the user's files say for a registry, the entry of the longest prefix of `repository` first.

    Raises InvalidInput for a file that cannot be read, Denied when a credential helper fails.
    """
    for path in files():
        document = _read(path)
        helper = document.get("credHelpers", {}).get(registry) or document.get("credsStore")
        if helper and (found := _ask(str(helper), registry)):
            return found
        for key in _keys(registry, repository):
            entry = document.get("auths", {}).get(key)
            if isinstance(entry, dict) and (found := _decoded(entry, path)):
                return found
    return None


def files() -> Iterator[str]:
    """The files that may hold credentials, the first to ask first."""
    home = os.environ.get("HOME", "/")
    if chosen := os.environ.get("REGISTRY_AUTH_FILE"):
        yield chosen
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.geteuid()}"
    yield f"{runtime}/containers/auth.json" if "XDG_RUNTIME_DIR" in os.environ else f"{runtime}/auth.json"
    yield f"{os.environ.get('XDG_CONFIG_HOME') or home + '/.config'}/containers/auth.json"
    yield docker_file()


def docker_file() -> str:
    """Docker's file, where `login` writes."""
    return f"{os.environ.get('DOCKER_CONFIG') or os.environ.get('HOME', '/') + '/.docker'}/config.json"


def keep(registry: str, credentials: Credentials) -> str:
    """Remember the credentials as docker does, with its credential helper if one is set. Returns where they are."""
    path = docker_file()
    document = _read(path)
    helper = document.get("credHelpers", {}).get(registry) or document.get("credsStore")
    if helper:
        entry = {"ServerURL": _key(registry), "Username": credentials.name, "Secret": credentials.secret}
        _helper(str(helper), "store", dumps(entry))
        return f"docker-credential-{helper}"
    secret = b64encode(f"{credentials.name}:{credentials.secret}".encode()).decode()
    document.setdefault("auths", {})[_key(registry)] = {"auth": secret}
    _write(path, document)
    return path


def forget(registry: str) -> bool:
    """Remove what is known of a registry. Returns whether there was anything."""
    there = False
    for path in files():
        document = _read(path)
        helper = document.get("credHelpers", {}).get(registry) or document.get("credsStore")
        if helper and _ask(str(helper), registry):
            _helper(str(helper), "erase", _key(registry).encode())
            there = True
        auths = document.get("auths", {})
        found = [key for key in _keys(registry, "") if key in auths]
        for key in found:
            del auths[key]
        if found:
            _write(path, document)
            there = True
    return there


def _key(registry: str) -> str:
    return DOCKER_KEY if registry == "docker.io" else registry


def _keys(registry: str, repository: str) -> Iterator[str]:
    """The names under which the credentials may stand, the most exact first."""
    parts = repository.split("/") if repository else []
    for size in range(len(parts), 0, -1):
        yield "/".join((registry, *parts[:size]))
    yield registry
    if registry == "docker.io":
        yield from (DOCKER_KEY, "index.docker.io", "registry-1.docker.io")
    for scheme in ("https", "http"):
        for end in ("", "/", "/v1/", "/v2/"):
            yield f"{scheme}://{registry}{end}"


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            raw = file.read(4 << 20)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except OSError as error:
        raise HostError("read credentials", error, where=path) from error
    try:
        document = loads(raw) if raw.strip() else {}
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}", where=path) from None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key, {}), dict) for key in ("auths", "credHelpers")
    ):
        raise InvalidInput("auths and credHelpers must be objects", where=path)
    return document


def _decoded(entry: dict[str, Any], path: str) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials("<token>", str(token))
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password", "")))
    if not entry.get("auth"):
        return None
    try:
        name, _, secret = b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (Base64Error, ValueError):
        raise InvalidInput("an entry's auth is not base64", where=path, hint="veloci login") from None
    return Credentials(name, secret.rstrip("\0"))


def _write(path: str, document: dict[str, Any]) -> None:
    directory = os.path.dirname(path)
    aside = f"{directory}/.config-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(dumps(document, indent=4) + b"\n")
            out.flush()
            os.fsync(file)
        os.rename(aside, path)
    except OSError as error:
        raise HostError("keep credentials", error, where=path) from error


def _ask(helper: str, registry: str) -> Credentials | None:
    """What a helper knows. Its failure is an error: without it another's credentials could be sent (CVE-2021-41092)."""
    answer = _helper(helper, "get", _key(registry).encode())
    if answer is None:
        return None
    try:
        entry = loads(answer)
        return Credentials(entry["Username"], entry["Secret"])
    except (ValueError, KeyError, TypeError):
        raise Denied("its answer is no credentials", where=f"docker-credential-{helper}") from None


def _helper(helper: str, verb: str, data: bytes) -> bytes | None:
    """Run `docker-credential-HELPER VERB`. None if it has no such credentials. Raises Denied."""
    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise InvalidInput(f"{helper!r} is no credential helper's name")
    try:
        done = subprocess.run([program, verb], input=data, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "took more than a minute" if isinstance(error, subprocess.TimeoutExpired) else "cannot be run"
        hint = "install it, or remove credsStore from the configuration"
        raise Denied(f"the credential helper {reason}", where=program, hint=hint) from None
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    if done.returncode and said.startswith(_MISSING):
        return None
    if done.returncode:
        raise Denied(f"the credential helper failed: {said[:200]}", where=program)
    return done.stdout

"""Who we are at a registry: docker's config.json, containers' auth.json, credential helpers.

https://docs.docker.com/reference/cli/docker/login/ and containers-auth.json(5)
"""

from __future__ import annotations

import os

from veloci.blocks import contextmanager, suppress
from veloci.errors import HostError, InvalidInput, NotFound
from veloci.spec.document import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

DOCKER_KEY = "https://index.docker.io/v1/"  # under which docker keeps docker.io
TOKEN = "<token>"  # noqa: S105 -- the name that stands for an identity token
FILES = "containers-auth.json"  # registries.conf's name for the files among the helpers


class Credentials:
    """A name and a password, or an identity token (then the name is "<token>")."""

    def __init__(self, name: str, secret: str) -> None:
        self.name, self.secret = name, secret

    @property
    def is_token(self) -> bool:
        """Whether the secret is an OAuth2 refresh token."""
        return self.name == TOKEN

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header (RFC 7617)."""
        from base64 import b64encode

        return "Basic " + b64encode(f"{self.name}:{self.secret}".encode()).decode()


def parse(text: str) -> Credentials:
    """`NAME:PASSWORD` as an option gives it. Raises InvalidInput."""
    name, colon, secret = text.partition(":")
    if not name or not colon:
        raise InvalidInput("credentials are written NAME:PASSWORD")
    return Credentials(name, secret)


def find(
    registry: str, repository: str = "", *, authfile: str | None = None, helpers: Sequence[str] = ()
) -> Credentials | None:
    """What the user's files say for a registry, the entry of the longest prefix of `repository` first.

    authfile: the only file to read. helpers: what registries.conf says to ask, in order, FILES for the files.
    Raises NotFound for an `authfile` that is not there, InvalidInput for a file that is no such, Denied when a
    credential helper fails.
    """
    if authfile and not os.path.exists(authfile):
        raise NotFound("no such file", where=authfile, hint="veloci login --authfile FILE makes one")
    for helper in helpers or (FILES,):
        found = _in_files(registry, repository, authfile) if helper == FILES else _ask(helper, registry)
        if found:
            return found
    return None


def _in_files(registry: str, repository: str, authfile: str | None) -> Credentials | None:
    for path in files(authfile):
        document = _read(path)
        helper = _helper(document, registry)
        if helper and (found := _ask(helper, registry)):
            return found
        for key in _keys(registry, repository):
            entry = document.get("auths", {}).get(key)
            if isinstance(entry, dict) and (found := _decoded(entry, path)):
                return found
    return None


def files(authfile: str | None = None) -> Iterator[str]:
    """The files that may hold credentials, the first to ask first; one that was chosen is the only one."""
    home = os.environ.get("HOME", "/")
    chosen = authfile or os.environ.get("REGISTRY_AUTH_FILE")
    if chosen:
        yield chosen
        return
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    yield f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.geteuid()}/auth.json"
    yield f"{os.environ.get('XDG_CONFIG_HOME') or home + '/.config'}/containers/auth.json"
    yield f"{os.environ.get('DOCKER_CONFIG') or home + '/.docker'}/config.json"


def written(authfile: str | None = None) -> str:
    """The file where `login` writes: the chosen one, else docker's."""
    *_, last = files(authfile)
    return last


def keep(registry: str, credentials: Credentials, *, authfile: str | None = None, identity: str = "") -> str:
    """Remember the credentials as docker does, with its credential helper if one is set.

    identity: a token that stands for the password, which is then not kept. Returns where they are now: a file, in
    the open, or a helper's program. Raises InvalidInput, HostError, Denied.
    """
    from base64 import b64encode

    path = written(authfile)
    name = TOKEN if identity else credentials.name
    with _changing(path) as document:
        helper = _helper(document, registry)
        if helper:
            from veloci.registry import helpers as programs

            programs.store(helper, _key(registry), name, identity or credentials.secret)
            entry = {}
        else:
            secret = f"{credentials.name}:{'' if identity else credentials.secret}"
            entry = {"auth": b64encode(secret.encode()).decode(), **({"identitytoken": identity} if identity else {})}
        auths = {**document.get("auths", {}), _key(registry): entry}
        document["auths"] = dict(sorted(auths.items()))
    return f"docker-credential-{helper}" if helper else path


def forget(registry: str, *, authfile: str | None = None) -> bool:
    """Remove what is known of a registry. Returns whether there was anything."""
    there = False
    for path in files(authfile):
        document = _read(path)
        helper = _helper(document, registry)
        if helper and _ask(helper, registry):
            from veloci.registry import helpers as programs

            programs.erase(helper, _key(registry))
            there = True
        if any(key in document.get("auths", {}) for key in _keys(registry, "")):
            there = True
            with _changing(path) as changed:
                for key in _keys(registry, ""):
                    changed.get("auths", {}).pop(key, None)
    return there


def known(*, authfile: str | None = None) -> list[str]:
    """Every registry that the file where `login` writes has an entry for, as it is written there."""
    return sorted(_read(written(authfile)).get("auths", {}))


def _helper(document: dict[str, Any], registry: str) -> str:
    """The helper that a file names for a registry, "" if it names none."""
    named = document.get("credHelpers", {})
    key = next((key for key in _keys(registry, "") if key in named), "")
    return str(named.get(key) or document.get("credsStore") or "")


def _ask(helper: str, registry: str) -> Credentials | None:
    from veloci.registry import helpers as programs

    found = programs.get(helper, _key(registry))
    return Credentials(*found) if found else None


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
        return Credentials(TOKEN, str(token))
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password", "")))
    if not entry.get("auth"):
        return None
    from base64 import b64decode

    try:
        name, _, secret = b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except ValueError:
        raise InvalidInput("an entry's auth is not base64", where=path, hint="veloci login") from None
    return Credentials(name, secret.rstrip("\0"))


@contextmanager
def _changing(path: str) -> Iterator[dict[str, Any]]:
    """The file's document, to be changed in the block; written whole at its end, in docker's form.

    Others who log in at the same time wait: no entry is lost.
    """
    from fcntl import LOCK_EX, flock
    from json import dumps

    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    aside = f"{directory}/.config-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("keep credentials", error, where=path) from error
    try:
        flock(lock, LOCK_EX)
        document = _read(path)
        yield document
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(dumps(document, indent="\t", ensure_ascii=False).encode())
            out.flush()
            os.fsync(file)
        os.rename(aside, path)
        os.fsync(lock)
    except OSError as error:
        raise HostError("keep credentials", error, where=path) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)
        os.close(lock)

"""Where images really come from: containers' registries.conf, docker's daemon.json.

containers-registries.conf(5), containers-registries.conf.d(5), and dockerd's `registry-mirrors` and
`insecure-registries`. Both are read: a host that has either keeps working as it did.
"""

from __future__ import annotations

import os

from veloci.errors import Denied, HostError, InvalidInput, NotFound, Unavailable, VelociError
from veloci.spec.reference import DEFAULT_REGISTRY, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    Done = TypeVar("Done")

SYSTEM = "/etc/containers/registries.conf"
WHEN = ("all", "digest-only", "tag-only")


class Endpoint:
    """A place where a repository is: a registry's HOST[:PORT] and a name there.

    insecure: any certificate will do, and plain HTTP. mirror: not the registry itself, so for reading only.
    when: for which references a mirror is asked: "all", "digest-only", "tag-only".
    """

    def __init__(
        self, registry: str, repository: str, *, insecure: bool = False, mirror: bool = False, when: str = "all"
    ) -> None:
        self.registry, self.repository = registry, repository
        self.insecure, self.mirror, self.when = insecure, mirror, when


class Configuration:
    """All that the files say.

    registries: registries.conf's tables by prefix. search: where short names are looked for. aliases: whole
    names of short names. helpers: credential helpers in their order. hub_mirrors: docker's, as (host, insecure).
    insecure: hosts and networks of daemon.json.
    """

    def __init__(self) -> None:
        self.registries: dict[str, dict[str, Any]] = {}
        self.search: list[str] = []
        self.aliases: dict[str, str] = {}
        self.helpers: list[str] = []
        self.hub_mirrors: list[tuple[str, bool]] = []
        self.insecure: list[str] = []

    def endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """Where to look for a repository: its mirrors, and last the registry itself. Raises Denied if it is blocked."""
        name = f"{reference.registry}/{reference.repository}"
        prefix = max((known for known in self.registries if _length(known, name)), key=len, default="")
        table = self.registries.get(prefix, {})
        if table.get("blocked"):
            hint = "choose another registry"
            raise Denied(f"registry {prefix} is blocked in registries.conf", where=str(reference), hint=hint)
        rest = name[_length(prefix, name) :] if prefix else ""
        location = table.get("location") or ("" if prefix.startswith("*.") else prefix)
        own = _endpoint(location + rest if location else name, bool(table.get("insecure")))
        found = [
            _endpoint(mirror["location"] + rest, bool(mirror.get("insecure")), mirror=True, when=_when(table, mirror))
            for mirror in table.get("mirror") or []
        ]
        if reference.registry == DEFAULT_REGISTRY and not table:
            found += [
                Endpoint(host, reference.repository, insecure=insecure, mirror=True)
                for host, insecure in self.hub_mirrors
            ]
        own.insecure = own.insecure or self._is_insecure(own.registry)
        return (*found, own)

    def candidates(self, text: str) -> list[Reference]:
        """What a name as the user writes it may stand for, the likeliest first. Raises InvalidInput.

        Only a name without a host can be more than itself: an alias, one at the registries to search, docker.io's.
        """
        reference = Reference.parse(text)
        short = reference.familiar_name()
        if reference.registry != DEFAULT_REGISTRY or text.startswith(("docker.io/", "index.docker.io/", "registry-1.")):
            return [reference]
        if alias := self.aliases.get(short):
            whole = Reference.parse(alias)
            return [whole.replace(tag=reference.tag, digest=reference.digest)]
        rest = text.partition("@")[0] + (f"@{reference.digest}" if reference.digest else "")
        return [Reference.parse(f"{host}/{rest}") for host in self.search] or [reference]

    def _is_insecure(self, registry: str) -> bool:
        host = registry.rpartition(":")[0] if ":" in registry and not registry.endswith("]") else registry
        for rule in self.insecure:
            if rule in (registry, host):
                return True
            from ipaddress import ip_address, ip_network

            try:
                if ip_address(host.strip("[]")) in ip_network(rule, strict=False):
                    return True
            except ValueError:
                continue
        return False


def _length(prefix: str, name: str) -> int:
    """How much of `name`, registry/repository, is `prefix`, in characters; `*.domain` is every host below it."""
    if prefix.startswith("*."):
        host = name.partition("/")[0]
        domain, slash, path = prefix[1:].partition("/")
        if not host.endswith(domain):
            return 0
        prefix = f"{host}{slash}{path}"
    return len(prefix) if name == prefix or name.startswith(f"{prefix}/") else 0


def _endpoint(place: str, insecure: bool, *, mirror: bool = False, when: str = "all") -> Endpoint:
    """The endpoint at `place`, a registry/repository. Raises InvalidInput."""
    if "://" in place:
        raise InvalidInput(f"location {place!r} holds a scheme", where="registries.conf", hint="HOST[:PORT][/PATH]")
    found = Reference.parse(place)
    return Endpoint(found.registry, found.repository, insecure=insecure, mirror=mirror, when=when)


def _when(table: dict[str, Any], mirror: dict[str, Any]) -> str:
    if table.get("mirror-by-digest-only"):
        return "digest-only"
    return str(mirror.get("pull-from-mirror") or "all")


def first(references: Sequence[Reference], work: Callable[[Reference], Done]) -> Done:
    """What `work` gives for the first of a name's candidates with which it succeeds.

    Raises its error if there is one candidate, and NotFound with what each said if there are several.
    """
    failures: list[VelociError] = []
    for reference in references:
        try:
            return work(reference)
        except (NotFound, Denied, Unavailable) as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    hint = "write the registry's name too"
    raise NotFound("no registry gives it: " + "; ".join(str(failure) for failure in failures), hint=hint)


def load() -> Configuration:
    """What this host's and this user's files say. Raises InvalidInput with the file's name, HostError."""
    found = Configuration()
    for path in _files():
        _merge(found, path)
    home = os.environ.get("HOME", "/")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    for path in (f"{config}/docker/daemon.json", "/etc/docker/daemon.json"):
        _docker(found, path)
    return found


def _files() -> Iterator[str]:
    """The files of registries.conf that exist, each over what came before."""
    home = os.environ.get("HOME", "/")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    own = f"{config}/containers/registries.conf"
    chosen = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    if chosen:
        yield chosen
    elif os.path.exists(own):
        yield own
    else:
        yield SYSTEM
    if chosen or not os.path.exists(own):
        yield from _drop_ins(f"{SYSTEM}.d")
    yield from _drop_ins(f"{own}.d")
    cache = os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
    yield f"{cache}/containers/short-name-aliases.conf"


def _drop_ins(folder: str) -> Iterator[str]:
    try:
        yield from (f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".conf"))
    except OSError:
        return


def _merge(into: Configuration, path: str) -> None:
    """Add a file; its tables take the places of those with the same prefix."""
    raw = _bytes(path)
    if raw is None:
        return
    try:
        document = _toml(raw.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not TOML: {error}", where=path) from None
    _version_1(document, path)
    for table in _typed(document, "registry", list, path):
        _check(table, path)
        into.registries[str(table.get("prefix") or table.get("location"))] = table
    into.search = _texts(document, "unqualified-search-registries", path) or into.search
    into.helpers = _texts(document, "credential-helpers", path) or into.helpers
    for name, value in _typed(document, "aliases", dict, path).items():
        if value == "":
            into.aliases.pop(name, None)
        elif isinstance(value, str):
            into.aliases[name] = value
        else:
            raise InvalidInput(f"expected a name, got {value!r}", where=f"{path}: aliases.{name}")


def _toml(text: str) -> dict[str, Any]:
    """The document that `text` is. Raises ValueError, RecursionError.

    Most files hold comments alone, or aliases: those need no tomllib, which takes 4 ms to import.
    """
    found: dict[str, Any] = {}
    plain = text.replace("\n", "").isprintable() and "\\" not in text
    for line in text.split("\n") if plain else ():
        words = line.strip().split('"')
        if words == ["[aliases]"] and not found:
            found["aliases"] = {}
        elif len(words) == 5 and words[::2] == ["", " = ", ""] and words[1] not in found.get("aliases", {words[1]}):
            found["aliases"][words[1]] = words[3]
        elif words != [""] and not words[0].startswith("#"):
            break
    else:
        if plain:
            return found
    from tomllib import loads

    return loads(text)


def _version_1(document: dict[str, Any], path: str) -> None:
    """Turn a document of version 1 into one of version 2."""
    old = _typed(document, "registries", dict, path)
    kinds = {
        kind: _texts(_typed(old, kind, dict, path), "registries", path) for kind in ("search", "insecure", "block")
    }
    if not old:
        return
    if "registry" in document:
        raise InvalidInput("mixes version 1 and version 2", where=path)
    document["unqualified-search-registries"] = kinds["search"]
    places = dict.fromkeys([*kinds["insecure"], *kinds["block"]])
    document["registry"] = [
        {"location": place, "insecure": place in kinds["insecure"], "blocked": place in kinds["block"]}
        for place in places
    ]


def _check(table: Any, path: str) -> None:
    """Raise InvalidInput for a `[[registry]]` that means nothing."""
    if not isinstance(table, dict) or not (table.get("prefix") or table.get("location")):
        raise InvalidInput("a [[registry]] needs a prefix or a location", where=path)
    mirrors = _typed(table, "mirror", list, path)
    for place in (table, *mirrors):
        where = f"{path}: {table.get('prefix') or table['location']}"
        texts = [place.get(key, "") for key in ("prefix", "location")] if isinstance(place, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise InvalidInput("prefix and location must be texts", where=where)
        flags = [place.get(key, False) for key in ("insecure", "blocked", "mirror-by-digest-only")]
        if not all(isinstance(flag, bool) for flag in flags):
            raise InvalidInput("insecure and blocked must be true or false", where=where)
        if place is not table and not place.get("location"):
            raise InvalidInput("a mirror needs a location", where=where)
        if place.get("pull-from-mirror", "all") not in WHEN:
            raise InvalidInput(f"pull-from-mirror must be {', '.join(WHEN)}", where=where)
    if str(table.get("prefix", "")).startswith("*.") and any("*" in str(m.get("location")) for m in mirrors):
        raise InvalidInput("a location cannot hold *", where=path)


def _typed(document: dict[str, Any], key: str, kind: Callable[[], Any], path: str) -> Any:
    value = document.get(key, kind())
    if not isinstance(value, type(kind())):
        raise InvalidInput(f"{key} has the wrong type", where=path)
    return value


def _texts(document: dict[str, Any], key: str, path: str) -> list[str]:
    found: list[str] = _typed(document, key, list, path)
    if not all(isinstance(item, str) for item in found):
        raise InvalidInput(f"{key} must be an array of texts", where=path)
    return found


def _docker(into: Configuration, path: str) -> None:
    """Add dockerd's settings."""
    from veloci.spec.document import loads

    raw = _bytes(path)
    if raw is None or not raw.strip():
        return
    try:
        document = loads(raw)
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}", where=path) from None
    if not isinstance(document, dict):
        raise InvalidInput("must be an object", where=path)
    into.insecure += _texts(document, "insecure-registries", path)
    for mirror in _texts(document, "registry-mirrors", path):
        scheme, _, host = mirror.rpartition("://")
        into.hub_mirrors.append((host.strip("/"), scheme == "http"))


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(4 << 20)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        raise HostError("read", error, where=path) from error

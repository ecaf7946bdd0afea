"""Which images a synchronisation takes: a YAML of registries, repositories and tag filters, as skopeo reads it.

    registry.example.com:
      images:                       # name: tags and digests; none of them is all tags
        team/app: ["1.0", "sha256:…"]
      images-by-tag-regex:
        team/tool: ^1\\.[0-9]+$
      images-by-semver:
        team/base: ">= 2.1, < 4"
      credentials: {username: me, password: secret}
      tls-verify: false
      cert-dir: /path

https://github.com/containers/skopeo/blob/main/docs/skopeo-sync.1.md#yaml-file-content-used-source-for---src-yaml
"""

from __future__ import annotations

import re

from veloci.errors import HostError, InvalidInput, NotFound
from veloci.spec import digest as digests
from veloci.spec.reference import DEFAULT_REGISTRY, Reference
from veloci.transport import semver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

KEYS = ("images", "images-by-tag-regex", "images-by-semver", "credentials", "tls-verify", "cert-dir")
LARGEST = 4 << 20  # bytes of a file
_TRUTHS = {"true": True, "false": False}
_HUB = (DEFAULT_REGISTRY, f"index.{DEFAULT_REGISTRY}", f"registry-1.{DEFAULT_REGISTRY}")


class Wanted:
    """What to take of one repository: exact tags and digests, or all tags that `fits` is true of."""

    def __init__(self, repository: Reference, exact: tuple[str, ...], fits: Callable[[str], bool] | None) -> None:
        self.repository, self._exact, self._fits = repository, exact, fits

    def images(self, tags: Callable[[Reference], Iterable[str]]) -> list[Reference]:
        """Every image to take; `tags` lists those of a repository, if need be. Raises what it raises."""
        fits = self._fits
        if fits is None:
            return [_exactly(self.repository, each) for each in dict.fromkeys(self._exact)]
        return [_exactly(self.repository, tag) for tag in tags(self.repository) if fits(tag)]


class Origin:
    """One registry of the file.

    credentials: (name, password) or None. tls_verify, cert_dir: as a session's. repositories: what to take.
    """

    def __init__(self, registry: str) -> None:
        self.registry = registry
        self.credentials: tuple[str, str] | None = None
        self.tls_verify: bool | None = None
        self.cert_dir: str | None = None
        self.repositories: list[Wanted] = []


def repository(reference: Reference) -> Origin:
    """All tags of the repository that `reference` names, or the one it names too."""
    found = Origin(reference.registry)
    exact = tuple(filter(None, (reference.digest or reference.tag,)))
    alone = reference.replace(tag=None, digest=None)
    found.repositories.append(Wanted(alone, exact, None if exact else lambda _tag: True))
    return found


def directories(path: str) -> list[str]:
    """The images that are directories at or below `path`, as dir: writes them; their paths below it, "" for itself.

    Raises NotFound if there are none.
    """
    import os

    found = []
    for folder, below, files in os.walk(path):
        below.sort()
        if "manifest.json" in files:
            found.append(folder[len(path.rstrip("/")) :].strip("/"))
    if not found:
        raise NotFound("holds no image", where=path, hint="veloci sync FILE dir:DIRECTORY makes some")
    return found


def _exactly(repository: Reference, text: str) -> Reference:
    """The image with a tag or digest; a registry may list anything for a tag. Raises InvalidInput."""
    return Reference.parse(f"{repository}{'@' if digests.valid(text) else ':'}{text}")


def read(path: str) -> list[Origin]:
    """The registries of the file at `path`. Raises InvalidInput with the line or the key, HostError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise HostError("read", error, where=path) from error
    if len(raw) > LARGEST:
        raise InvalidInput(f"has more than {LARGEST} bytes", where=path)
    document = _parsed(raw, path)
    _fits(document, dict, path, "registries, each with what to take")
    return [_origin(registry, value, f"{path}: {registry}") for registry, value in document.items()]


def _parsed(raw: bytes, path: str) -> Any:
    """The YAML document, every scalar as the text it is written as: 1.10 is no number. Raises InvalidInput."""
    import yaml

    class Loader(yaml.BaseLoader):
        """Texts, arrays and objects, whose keys stand once."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: list[Any] = []
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
                seen.append(key.value)
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(raw, Loader)  # noqa: S506 -- it makes nothing but texts, arrays and objects
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidInput(f"not YAML: {error.problem}", where=f"{path}{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise InvalidInput(f"not YAML: {text}", where=path) from None


def _origin(registry: str, value: Any, where: str) -> Origin:
    _fits(value, dict, where, "an object")
    unknown = next((key for key in value if key not in KEYS), None)
    if unknown:
        raise InvalidInput(f"unknown key {unknown!r}", where=where, hint=", ".join(KEYS))
    found = Origin(registry)
    if credentials := value.get("credentials"):
        _fits(credentials, dict, f"{where}: credentials", "username and password")
        found.credentials = str(credentials.get("username", "")), str(credentials.get("password", ""))
    if "tls-verify" in value:
        _fits(value["tls-verify"], str, f"{where}: tls-verify", "true or false")
        if value["tls-verify"] not in _TRUTHS:
            raise InvalidInput("expected true or false", where=f"{where}: tls-verify")
        found.tls_verify = _TRUTHS[value["tls-verify"]]
    found.cert_dir = value.get("cert-dir") or None
    if found.cert_dir is not None:
        _fits(found.cert_dir, str, f"{where}: cert-dir", "a directory")
    for key, filter_of in (("images", None), ("images-by-tag-regex", _regex), ("images-by-semver", semver.constraint)):
        listed = value.get(key) or {}
        _fits(listed, dict, f"{where}: {key}", "an object of repositories")
        for name, wanted in listed.items():
            found.repositories.append(_repository(found, name, wanted, filter_of, f"{where}: {key}: {name}"))
    return found


def _repository(
    origin: Origin, name: str, wanted: Any, filter_of: Callable[[str], Callable[[str], bool]] | None, where: str
) -> Wanted:
    """What to take of a repository. Raises InvalidInput."""
    host = origin.registry.partition("/")[0]
    try:
        repository = Reference.parse(f"{origin.registry}/{name}")
        if repository.registry == DEFAULT_REGISTRY and host not in _HUB:  # who would get the credentials of `host`
            raise InvalidInput(f"{host!r} is no registry's host", hint="HOST[:PORT]")
        if repository.tag or repository.digest:
            raise InvalidInput("a name stands without tag and digest")
        if filter_of is not None:
            _fits(wanted, str, where, "a text")
            return Wanted(repository, (), filter_of(wanted))
        wanted = wanted or []
        _fits(wanted, list, where, "an array of tags and digests")
        for each in wanted:
            _fits(each, str, where, "a tag or a digest")
            _exactly(repository, each)
    except InvalidInput as error:
        raise InvalidInput(str(error.args[0]), where=error.where or where, hint=error.hint) from None
    return Wanted(repository, tuple(wanted), None if wanted else lambda _tag: True)


def _regex(text: str) -> Callable[[str], bool]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise InvalidInput(f"{text!r} is no regular expression: {error}") from None
    return lambda tag: pattern.search(tag) is not None


def _fits(value: Any, kind: type, where: str, expected: str) -> None:
    if not isinstance(value, kind):
        raise InvalidInput(f"expected {expected}", where=where)

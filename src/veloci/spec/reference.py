"""Image references: `registry/repository:tag@digest`, with docker's short names.

https://github.com/distribution/reference (grammar), and
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests (names, tags)

By hand rather than by `re`: a name is read on the way to every container's start.
"""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec import digest as digests
from veloci.spec.digest import Digest
from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DEFAULT_REGISTRY, OFFICIAL, DEFAULT_TAG = "docker.io", "library/", "latest"
_DIGITS = frozenset("0123456789")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz") | _DIGITS
_WORD = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_TAG = _WORD | frozenset(".-")


class Reference(Document):
    """Where an image is: a registry, a repository in it, a tag or a digest or both."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`debian`, `debian:12`, `host:5000/team/app@sha256:…` as docker reads them. Raises InvalidInput.

        A missing registry is docker.io, where a repository of one word is below `library/`.
        A missing tag stays missing: `with_default_tag` adds it.
        """
        rest, at, digest = text.partition("@")
        if at and not digests.valid(digest):
            _refuse(text, f"{digest!r} is not a digest", "sha256: and 64 hexadecimal digits")
        head, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            head, tag = rest, ""
        elif not _is_tag(tag):
            _refuse(text, f"{tag!r} is not a tag", "a tag has letters, digits, _ . - and at most 128 of them")
        registry, repository = _split(head)
        _check_repository(text, repository)
        if not _is_registry(registry):
            _refuse(text, f"{registry!r} is not a registry's host", "host[:port]")
        if len(registry) + len(repository) + 1 > 255:
            _refuse(text, "the name is too long", "at most 255 characters")
        return cls(registry=registry, repository=repository, tag=tag or None, digest=digest or None)

    def __str__(self) -> str:
        """The whole name: what the store and the wire use."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    def familiar(self) -> str:
        """The short name that docker shows: without `docker.io/library/`."""
        return str(self).removeprefix(DEFAULT_REGISTRY + "/").removeprefix(OFFICIAL)

    def familiar_name(self) -> str:
        """As `familiar`, without tag and digest: docker's REPOSITORY column."""
        return Reference(registry=self.registry, repository=self.repository).familiar()

    def with_default_tag(self) -> Reference:
        """This reference, with the tag `latest` if it has neither tag nor digest."""
        return self if self.tag or self.digest else self.replace(tag=DEFAULT_TAG)


def _split(name: str) -> tuple[str, str]:
    """Registry and repository. The first component is a host if it looks like one: `.`, `:`, localhost, upper case."""
    host, slash, repository = name.partition("/")
    looks = "." in host or ":" in host or host == "localhost" or host != host.lower() or host.startswith("[")
    if slash and looks:
        if host in ("index.docker.io", "registry-1.docker.io"):
            host = DEFAULT_REGISTRY
    else:
        host, repository = DEFAULT_REGISTRY, name
    if host == DEFAULT_REGISTRY and "/" not in repository:
        repository = OFFICIAL + repository
    return host, repository


def _is_tag(tag: str) -> bool:
    return 0 < len(tag) <= 128 and tag[0] in _WORD and _TAG.issuperset(tag)


def _is_registry(host: str) -> bool:
    if host.startswith("["):  # IPv6: [::1]:5000
        address, bracket, port = host[1:].partition("]")
        return bool(bracket) and _is_ipv6(address) and _is_port(port)
    name, colon, port = host.partition(":")
    labels = name.split(".")
    right = all(x and x[0] != "-" and x[-1] != "-" and x.isascii() and x.replace("-", "").isalnum() for x in labels)
    return right and (not colon or _is_port(":" + port))


def _is_ipv6(text: str) -> bool:
    """Whether it is an address, without a zone: `[:]`, which docker's grammar has too, can be asked for nowhere."""
    from _socket import AF_INET6, inet_pton

    try:
        return bool(inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return False


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and text[1:].isdecimal() and text.isascii() and int(text[1:]) < 65536)


def _check_repository(text: str, repository: str) -> None:
    if not repository.removeprefix(OFFICIAL):
        _refuse(text, "there is no name", "name[:tag]")
    if repository != repository.lower():
        _refuse(text, "a repository's name must be lower case", repository.lower())
    for component in repository.split("/"):
        if not _is_component(component):
            _refuse(
                text, f"{component!r} cannot stand in a name", "lower case letters and digits, between them . _ __ or -"
            )


def _is_component(text: str) -> bool:
    """`[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*`."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for character in text:
        if character in _LOWER:
            separator = ""
            continue
        separator += character
        if separator not in (".", "_", "__") and separator.strip("-"):
            return False
    return True


def _refuse(text: str, why: str, hint: str) -> NoReturn:
    raise InvalidInput(f"invalid reference {text!r}: {why}", hint=hint)

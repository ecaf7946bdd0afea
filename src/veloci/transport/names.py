"""Places by name, written as skopeo writes them."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.registry.session import Session
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Destination, Source

    class Home(Protocol):
        """Who has a local store: the engine, which makes it when it is first used."""

        @property
        def store(self) -> Store: ...
        @property
        def names(self) -> Names: ...


KINDS = ("docker://", "oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "dir:", "veloci:")


def split(text: str) -> tuple[str, str]:
    """The kind of a place ("docker://", "oci:", …; "veloci:" if none is written) and the rest."""
    for kind in KINDS:
        if text.startswith(kind):
            return kind, text[len(kind) :]
    if "://" in text:
        raise InvalidInput(f"{text!r} names no kind of place", hint=f"one of {' '.join(KINDS)}")
    return "veloci:", text


class Places:
    """Names to places.

    home: whose the local store is. find: an image of it by ID or name, if its name does not do.
    daemon: where a docker engine is (docker_daemon). blobs: a directory where layouts have their blobs instead.
    """

    def __init__(
        self,
        home: Home,
        find: Callable[[str], Descriptor] | None = None,
        *,
        daemon: str | None = None,
        blobs: str | None = None,
    ) -> None:
        self.home, self.find, self.daemon, self.blobs = home, find, daemon, blobs

    def source(self, text: str, session: Session | None = None) -> Source:
        """The place `text` to read from. Raises InvalidInput, NotFound; of docker-daemon: Unavailable."""
        kind, rest = split(text)
        if kind == "docker://":
            from veloci.transport.registry import RegistryPlace

            return RegistryPlace(Reference.parse(rest), session)
        if kind == "veloci:":
            from veloci.transport.store import StorePlace

            if self.find is not None:
                return StorePlace(self.home.store, self.home.names, _named(rest), self.find(rest))
            return StorePlace(self.home.store, self.home.names, Reference.parse(rest))
        if kind == "docker-daemon:":
            from veloci.transport.docker_daemon import source

            return source(rest, self.daemon)
        path, name = _path(text, rest)
        if kind == "dir:":
            from veloci.transport.directory import Directory

            return Directory(rest)
        if kind == "docker-archive:":
            from veloci.transport.docker_archive import DockerArchiveSource
            from veloci.transport.files import Archive

            return DockerArchiveSource(Archive(path), name)
        from veloci.transport import layout

        return layout.folder(path, name, blobs=self.blobs) if kind == "oci:" else layout.archive(path, name)

    def destination(self, text: str, session: Session | None = None, *, more: Sequence[str] = ()) -> Destination:
        """The place `text` to write to. more: further names that the image gets. Raises InvalidInput, HostError.

        Further names are written as the place has them: tags at a registry, NAME:TAG in the store and in Docker's
        archives, any text in a layout.
        """
        kind, rest = split(text)
        if kind == "docker://":
            from veloci.transport.registry import RegistryPlace

            reference = Reference.parse(rest)
            return RegistryPlace(reference, session, more=[_tag(reference, tag) for tag in more])
        if kind == "veloci:":
            from veloci.transport.store import StorePlace

            further = [Reference.parse(name) for name in more]
            return StorePlace(self.home.store, self.home.names, Reference.parse(rest), more=further)
        if kind == "docker-daemon:":
            from veloci.transport.docker_archive import normal
            from veloci.transport.docker_daemon import destination

            return destination(rest, self.daemon, more=[normal(tag) for tag in more])
        path, name = _path(text, rest)
        if kind == "dir:":
            from veloci.transport.directory import Directory

            if more:
                raise InvalidInput("a dir: has no names", where=text, hint="leave out --additional-tag")
            return Directory(rest)
        if kind == "docker-archive:":
            from veloci.transport.docker_archive import DockerArchive, normal

            return DockerArchive(path, [normal(tag) for tag in (name, *more) if tag])
        from veloci.transport.layout import LayoutArchive, LayoutFolder

        if kind == "oci:":
            return LayoutFolder(path, name, more=more, blobs=self.blobs)
        return LayoutArchive(path, name, more=more)


def _named(text: str) -> Reference | None:
    """A name in the store; None for an ID that cannot be one."""
    try:
        return Reference.parse(text)
    except InvalidInput:
        return None


def _tag(reference: Reference, text: str) -> str:
    """A further tag in the repository of `reference`, written alone or as a whole name."""
    if ":" not in text and "/" not in text:
        return Reference.parse(f"{reference.registry}/{reference.repository}:{text}").tag or text
    other = Reference.parse(text).with_default_tag()
    if (other.registry, other.repository) != (reference.registry, reference.repository) or not other.tag:
        raise InvalidInput("is not in the same repository", where=text, hint=reference.familiar_name())
    return other.tag


def _path(text: str, rest: str) -> tuple[str, str]:
    """A path and what stands after its first colon."""
    path, _, name = rest.partition(":")
    if not path:
        raise InvalidInput(f"{text!r} names no path", hint="oci:DIRECTORY[:NAME], docker-archive:FILE[:NAME]")
    return path, name

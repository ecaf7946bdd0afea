"""Places by name, written as skopeo writes them."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.registry.session import Session
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Destination, Source

KINDS = ("docker://", "oci:", "oci-archive:", "docker-archive:", "dir:", "veloci:")


def split(text: str) -> tuple[str, str]:
    """The kind of a place ("docker://", "oci:", …; "veloci:" if none is written) and the rest."""
    for kind in KINDS:
        if text.startswith(kind):
            return kind, text[len(kind) :]
    if "://" in text:
        raise InvalidInput(f"{text!r} names no kind of place", hint=f"one of {' '.join(KINDS)}")
    return "veloci:", text


class Places:
    """Names to places. store, names: the local store's. find: an image of it by ID or name, if its name does not do."""

    def __init__(self, store: Store, names: Names, find: Callable[[str], Descriptor] | None = None) -> None:
        self.store, self.names, self.find = store, names, find

    def source(self, text: str, session: Session | None = None) -> Source:
        """The place `text` to read from. Raises InvalidInput, NotFound."""
        kind, rest = split(text)
        if kind == "docker://":
            from veloci.transport.registry import RegistryPlace

            return RegistryPlace(Reference.parse(rest), session)
        if kind == "veloci:":
            from veloci.transport.store import StorePlace

            if self.find is not None:
                return StorePlace(self.store, self.names, None, self.find(rest))
            return StorePlace(self.store, self.names, Reference.parse(rest))
        path, name = _path(text, rest)
        if kind == "dir:":
            from veloci.transport.directory import Directory

            return Directory(rest)
        if kind == "docker-archive:":
            from veloci.transport.docker_archive import DockerArchiveSource
            from veloci.transport.files import Archive

            return DockerArchiveSource(Archive(path), name)
        from veloci.transport import layout

        return layout.folder(path, name) if kind == "oci:" else layout.archive(path, name)

    def destination(self, text: str, session: Session | None = None) -> Destination:
        """The place `text` to write to. Raises InvalidInput, HostError."""
        kind, rest = split(text)
        if kind == "docker://":
            from veloci.transport.registry import RegistryPlace

            return RegistryPlace(Reference.parse(rest), session)
        if kind == "veloci:":
            from veloci.transport.store import StorePlace

            return StorePlace(self.store, self.names, Reference.parse(rest))
        path, name = _path(text, rest)
        if kind == "dir:":
            from veloci.transport.directory import Directory

            return Directory(rest)
        if kind == "docker-archive:":
            from veloci.transport.docker_archive import DockerArchive, normal

            return DockerArchive(path, [normal(name)] if name else [])
        from veloci.transport.layout import LayoutArchive, LayoutFolder

        return LayoutFolder(path, name) if kind == "oci:" else LayoutArchive(path, name)


def _path(text: str, rest: str) -> tuple[str, str]:
    """A path and what stands after its first colon."""
    path, _, name = rest.partition(":")
    if not path:
        raise InvalidInput(f"{text!r} names no path", hint="oci:DIRECTORY[:NAME], docker-archive:FILE[:NAME]")
    return path, name

"""The images in a file or folder that may hold several, as one writes them after its colon."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec.image import REF_NAME
from veloci.transport.docker_archive import entries
from veloci.transport.files import Archive, Folder
from veloci.transport.layout import LayoutSource
from veloci.transport.names import split


def names(text: str) -> list[str]:
    """The names of all images in docker-archive:FILE, oci:DIRECTORY or oci-archive:FILE; "@N" of those without one.

    Raises InvalidInput for another kind of place, NotFound.
    """
    kind, path = split(text)
    if kind == "docker-archive:":
        archive = Archive(path)
        try:
            listed = [entry.repo_tags or (f"@{number}",) for number, entry in enumerate(entries(archive))]
        finally:
            archive.close()
        return [name for each in listed for name in each]
    if kind not in ("oci:", "oci-archive:"):
        raise InvalidInput(f"{text!r} holds no list of images", hint="docker-archive:FILE, oci:DIRECTORY")
    with LayoutSource(Folder(path) if kind == "oci:" else Archive(path)) as source:
        return [entry.annotations.get(REF_NAME) or f"@{number}" for number, entry in enumerate(source.index.manifests)]

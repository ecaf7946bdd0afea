"""Archives of any kind as a whole: what `save` writes and `load` takes."""

from __future__ import annotations

from contextlib import suppress

from veloci.errors import InvalidInput, VelociError
from veloci.spec.image import REF_NAME
from veloci.transport.copy import copy
from veloci.transport.docker_archive import DockerArchive, DockerArchiveSource, entries, normal
from veloci.transport.files import Archive, Folder
from veloci.transport.layout import CONTAINERD_NAME, LayoutSource
from veloci.transport.store import StorePlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.place import Progress, Source


def save(
    store: Store,
    names: Names,
    images: Sequence[tuple[Descriptor, Sequence[Reference]]],
    path: str | int,
    *,
    progress: Progress | None = None,
) -> None:
    """Write Docker's archive of images in the store: each a descriptor, and the names it has in the archive.

    path: a file, which appears when it is whole, or a descriptor to write to. Raises NotFound, HostError, Corrupt.
    """
    with DockerArchive(path) as archive:
        for descriptor, tags in images:
            archive.tags = list(tags)
            copy(StorePlace(store, names, None, descriptor), archive, progress=progress, stay_open=True)


def load(
    store: Store,
    names: Names,
    path: str | int,
    *,
    progress: Progress | None = None,
    parallel: Callable[..., Iterable[Descriptor]] = map,
) -> Iterator[tuple[str, Descriptor]]:
    """Take every image of an archive, or of a folder that is an OCI layout, into the store.

    path: a file, a folder, "-" or a descriptor to read. Gives for each name its canonical form and what it
    now stands for; "" for an image without a name. Raises NotFound, InvalidInput, Corrupt, HostError.
    """
    import os

    files = Folder(path) if isinstance(path, str) and os.path.isdir(path) else Archive(path)
    try:
        if "manifest.json" not in files and "index.json" not in files:
            raise InvalidInput("it is neither Docker's archive nor an OCI layout", where=files.name)
        for source, tags in _docker(files) if isinstance(files, Archive) and "manifest.json" in files else _oci(files):
            destination = StorePlace(store, names, None)
            descriptor = copy(source, destination, progress=progress, parallel=parallel, stay_open=True)
            for tag in tags:
                names.set(str(tag), descriptor)
                yield str(tag), descriptor
            if not tags:
                yield "", descriptor
    finally:
        files.close()


def _docker(archive: Archive) -> Iterator[tuple[Source, list[Reference]]]:
    for number, entry in enumerate(entries(archive)):
        yield DockerArchiveSource(archive, f"@{number}"), [normal(tag) for tag in entry.repo_tags]


def _oci(files: Folder | Archive) -> Iterator[tuple[Source, list[Reference]]]:
    """The images of a layout; entries with equal digests are one image of several names."""
    whole = LayoutSource(files)
    tags: dict[str, list[Reference]] = {}
    for entry in whole.index.manifests:
        found = tags.setdefault(entry.digest, [])
        name = entry.annotations.get(CONTAINERD_NAME) or entry.annotations.get(REF_NAME, "")
        with suppress(VelociError):  # a ref name may be any text; one that is no image's name is none here
            found += [normal(name)] if name else []
    for digest, names in tags.items():
        yield LayoutSource(files, digest), names

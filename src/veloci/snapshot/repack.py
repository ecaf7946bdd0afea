"""What a bundle had when it was unpacked, kept beside it as umoci keeps it, and what has changed since.

bundle/umoci.json            which image, which ID maps
bundle/sha256_<hex>.mtree    every file as it was: owner, mode, time, size, hash
"""

from __future__ import annotations

import os

from veloci.errors import HostError, InvalidInput, NotFound
from veloci.layer.mtree import changes, manifest, parse
from veloci.layer.owners import Owners
from veloci.layer.pick import pick
from veloci.spec.document import Document, dumps
from veloci.spec.image import Descriptor  # noqa: TC001 -- a field's type is evaluated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from veloci.layer.owners import Map

NAME = "umoci.json"
VERSION = "2"


class Mapping(Document, container_id="containerID", host_id="hostID"):
    """A line of an ID map."""

    container_id: int
    host_id: int
    size: int


class MapOptions(Document, uid_mappings="uid_mappings", gid_mappings="gid_mappings"):
    """Whose the files are here."""

    uid_mappings: tuple[Mapping, ...] = ()
    gid_mappings: tuple[Mapping, ...] = ()
    rootless: bool = False


class Walk(Document, descriptor_walk="descriptor_walk"):
    """How the manifest was reached: indexes, and the manifest last."""

    descriptor_walk: tuple[Descriptor, ...]


class Bundle(
    Document,
    version="umoci_version",
    source="from_descriptor_path",
    map_options="map_options",
    image="veloci_image",
):
    """The file umoci.json. image: the place that the image came from, if we wrote it."""

    version: str
    source: Walk
    map_options: MapOptions = MapOptions()
    image: str = ""

    @property
    def descriptor(self) -> Descriptor:
        """The manifest of the image that was unpacked."""
        return self.source.descriptor_walk[-1]

    @property
    def owners(self) -> Owners:
        """Whose the files are here."""
        options = self.map_options
        uids, gids = (
            [(line.container_id, line.host_id, line.size) for line in lines]
            for lines in (options.uid_mappings, options.gid_mappings)
        )
        return Owners(uids, gids, rootless=options.rootless)


def record(
    bundle: str,
    root: int,
    descriptor: Descriptor,
    owners: Owners,
    image: str,
    hashes: dict[int, str] | None = None,
) -> None:
    """Write beside a bundle's root file system what it has now. hashes: as for `mtree.manifest`. Raises HostError."""
    document = Bundle(
        version=VERSION,
        source=Walk(descriptor_walk=(descriptor,)),
        map_options=MapOptions(
            uid_mappings=_lines(owners.uids), gid_mappings=_lines(owners.gids), rootless=owners.rootless
        ),
        image=image,
    )
    plain = {**document.plain(), "umoci_version": VERSION}
    plain["map_options"] = {"uid_mappings": None, "gid_mappings": None, "rootless": False} | plain.get(
        "map_options", {}
    )
    try:
        with open(f"{bundle}/{_file(descriptor)}", "wb") as file:
            file.writelines(manifest(root, hashes))
        with open(f"{bundle}/{NAME}", "wb") as file:
            file.write(dumps({**plain, "whiteout_mode": 0}))
    except OSError as error:
        raise HostError("note what the bundle has", error, where=bundle) from error


def read(bundle: str) -> Bundle:
    """What a bundle was unpacked from. Raises NotFound, InvalidInput."""
    found = Bundle.decode(_read(f"{bundle}/{NAME}", bundle), name=f"{bundle}/{NAME}")
    if found.version != VERSION or not found.source.descriptor_walk:
        raise InvalidInput("is of another version than we know", where=f"{bundle}/{NAME}")
    return found


def changed(bundle: str, found: Bundle, masked: Sequence[str] = ()) -> tuple[list[bytes], list[bytes]]:
    """The paths that have changed or come since the bundle was unpacked, and those that went.

    masked: paths whose changes do not count, nor of what is below them. Raises NotFound, InvalidInput, HostError.
    """
    lines = _read(f"{bundle}/{_file(found.descriptor)}", bundle).splitlines()
    root = _root(bundle)
    try:
        paths, removed = changes(root, parse(lines))
    except OSError as error:
        raise HostError("compare the bundle", error, where=bundle) from error
    finally:
        os.close(root)
    hidden = [os.fsencode(path.strip("/")) for path in masked]
    return [path for path in paths if not _below(path, hidden)], [path for path in removed if not _below(path, hidden)]


def layer(bundle: str, found: Bundle, paths: Sequence[bytes], removed: Sequence[bytes]) -> Iterator[bytes]:
    """The uncompressed layer of some paths of the bundle. Raises HostError."""
    root = _root(bundle)
    try:
        yield from pick(root, paths, removed, owners=found.owners)
    except OSError as error:
        raise HostError("read the bundle", error, where=bundle) from error
    finally:
        os.close(root)


def refresh(bundle: str, found: Bundle, descriptor: Descriptor, image: str) -> None:
    """Note what the bundle has now as what the image `descriptor` has. Raises HostError."""
    root = _root(bundle)
    try:
        record(bundle, root, descriptor, found.owners, image)
        if found.descriptor.digest != descriptor.digest:
            os.unlink(f"{bundle}/{_file(found.descriptor)}")
    finally:
        os.close(root)


def _root(bundle: str) -> int:
    try:
        return os.open(f"{bundle}/rootfs", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("open rootfs", error, where=bundle) from error


def _file(descriptor: Descriptor) -> str:
    return f"{descriptor.digest.replace(':', '_')}.mtree"


def _read(path: str, bundle: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        name = os.path.basename(path)
        raise NotFound(f"is no bundle of unpack's: there is no {name}", where=bundle) from None
    except OSError as error:
        raise HostError("read", error, where=path) from error


def _lines(table: Map) -> tuple[Mapping, ...]:
    return tuple(Mapping(container_id=first, host_id=second, size=size) for first, second, size in table)


def _below(path: bytes, tops: list[bytes]) -> bool:
    return any(path == top or path.startswith(top + b"/") for top in tops if top)

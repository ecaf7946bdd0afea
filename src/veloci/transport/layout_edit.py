"""An OCI image layout as a whole: made, names removed, and what nothing needs collected."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, flock

from veloci.errors import Conflict, HostError, NotFound
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import REF_NAME, Index, Manifest
from veloci.transport.files import Folder
from veloci.transport.layout import ASIDE, LAYOUT, LayoutSource, index_changed, stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # what a link leads to is not the layout's


def create(path: str) -> None:
    """Make an empty layout in the directory `path`. Raises Conflict if there is one, HostError."""
    if os.path.exists(f"{path}/index.json"):
        raise Conflict("there is a layout already", where=path)
    try:
        os.makedirs(f"{path}/blobs/sha256", exist_ok=True)
    except OSError as error:
        raise HostError("make a layout", error, where=path) from error
    stored(path, (LAYOUT,), lambda: "oci-layout")
    stored(path, (dumps({"schemaVersion": 2, "manifests": []}),), lambda: "index.json")


def remove(path: str, name: str) -> None:
    """Take a name out of the layout; its blobs stay until they are collected. Raises NotFound, InvalidInput."""
    LayoutSource(Folder(path))
    with index_changed(path) as index:
        entries = index.get("manifests") or []
        rest = [
            entry
            for entry in entries
            if (entry.get("annotations") or {}).get(REF_NAME) != name and entry.get("digest") != name
        ]
        if len(rest) == len(entries):
            names = ", ".join((entry.get("annotations") or {}).get(REF_NAME, entry["digest"]) for entry in entries)
            raise NotFound(f"no image is named {name!r}", where=path, hint=f"it has {names}" if names else "")
        index["manifests"] = rest


def collect(path: str) -> list[tuple[Digest, int]]:
    """Remove the blobs that nothing in index.json needs. Returns the digest and size of each.

    Waits for copies into the layout to end. Raises InvalidInput, HostError, and Corrupt for a document that
    cannot be read: then nothing is removed.
    """
    source = LayoutSource(Folder(path))
    try:
        held = os.open(f"{path}/blobs", _FOLDER)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError("collect garbage", error, where=f"{path}/blobs") from error
    try:
        flock(held, LOCK_EX)
        source = LayoutSource(Folder(path))
        needed: set[Digest] = set()
        for entry in source.index.manifests:
            _mark(source, entry, needed)
        removed = []
        for algorithm in sorted(os.listdir(held)):
            folder = os.open(algorithm, _FOLDER, dir_fd=held)
            try:
                for encoded in sorted(os.listdir(folder)):
                    if f"{algorithm}:{encoded}" not in needed:
                        size = os.stat(encoded, dir_fd=folder, follow_symlinks=False).st_size
                        os.unlink(encoded, dir_fd=folder)
                        removed.append((f"{algorithm}:{encoded}", size))
            finally:
                os.close(folder)
        for name in os.listdir(path):
            if name.startswith(ASIDE):  # of a copy that was killed
                os.unlink(f"{path}/{name}")
    except OSError as error:
        raise HostError("collect garbage", error, where=path) from error
    finally:
        os.close(held)
    return removed


def _mark(source: LayoutSource, entry: Descriptor, needed: set[Digest]) -> None:
    """Note a manifest or index, and all that it needs. Blobs that are not there are nobody's loss here."""
    if entry.digest in needed:
        return
    needed.add(entry.digest)
    if not (media.is_index(entry.media_type) or media.is_manifest(entry.media_type)):
        return
    try:
        raw = source.manifest(entry)[1]
    except NotFound:
        return
    if media.is_index(entry.media_type):
        index = Index.decode(raw, name=f"index {entry.digest}")
        below = [*index.manifests, *((index.subject,) if index.subject else ())]
    else:
        manifest = Manifest.decode(raw, name=f"manifest {entry.digest}")
        needed.update(blob.digest for blob in (manifest.config, *manifest.layers))
        below = [manifest.subject] if manifest.subject else []
    for inner in below:
        _mark(source, inner, needed)

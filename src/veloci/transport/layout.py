"""oci:directory[:name] and oci-archive:file[:name]: an OCI image layout, as a folder or in a tar.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_SH, flock

from veloci.errors import HostError, InvalidInput, NotFound, Unsupported
from veloci.layer.stream import Hashed, Verified
from veloci.spec.document import Document, dumps, loads
from veloci.spec.image import REF_NAME, Descriptor, Index
from veloci.transport.files import Archive, Folder, document, opened, read
from veloci.transport.place import Place
from veloci.transport.tar import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from typing import Any

    from veloci.spec.digest import Digest
    from veloci.spec.reference import Reference
    from veloci.transport.files import Files
    from veloci.transport.place import Chunks, Opened

LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'  # byte for byte what skopeo writes
ASIDE = ".veloci-"  # how files that are being written begin
CONTAINERD_NAME = "io.containerd.image.name"  # the whole name, in layouts that docker saved


class Layout(Document):
    """The file oci-layout."""

    image_layout_version: str


class LayoutSource(Place):
    """An image in a layout.

    name: its org.opencontainers.image.ref.name, its digest, or "@N", the N-th from 0; "" is the only one there.
    """

    def __init__(self, files: Files, name: str = "", *, blobs: str | None = None) -> None:
        """blobs: a directory where the blobs are instead. Raises NotFound, InvalidInput for what is no layout."""
        self.files, self._wanted = files, name
        self._blobs: Files = Folder(blobs) if blobs else files
        self._below = "" if blobs else "blobs/"
        self.name = f"{files.name}:{name}" if name else files.name
        if "index.json" not in files:
            raise NotFound("there is no OCI image layout (no index.json)", where=files.name)
        check_version(read(files, "oci-layout") if "oci-layout" in files else b"", files.name)
        self.index = Index.decode(read(files, "index.json"), name=f"{files.name}/index.json")

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        found = descriptor or self.chosen()
        raw = document(self._blobs, self._below + _path(found.digest), found)
        bare = found.replace(annotations={}, platform=None) if descriptor is None else found
        return bare, raw

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        return opened(self._blobs, self._below + _path(descriptor.digest), start)

    def chosen(self) -> Descriptor:
        """The entry of index.json that is meant. Raises NotFound, InvalidInput."""
        entries = self.index.manifests
        if self._wanted.startswith("@"):
            found = [e for number, e in enumerate(entries) if self._wanted == f"@{number}"]
        elif self._wanted:
            found = [e for e in entries if e.annotations.get(REF_NAME) == self._wanted]
            if not found:
                found = [e for e in entries if e.digest == self._wanted]
        else:
            found = list(entries)
        if len(found) == 1:
            return found[0]
        names = ", ".join(sorted({e.annotations.get(REF_NAME, e.digest) for e in entries}))
        if not found:
            there = f"it has {names}" if names else "it has no image"
            what = f"no image is named {self._wanted!r}" if self._wanted else there
            raise NotFound(what, where=self.files.name, hint=there if self._wanted else "")
        raise InvalidInput(f"more than one image is there: {names}", where=self.name, hint="name one: oci:DIR:NAME")


class LayoutFolder(Place):
    """A layout in a folder, as the place an image goes to; made if it is not there, and others may write it too."""

    formats: tuple[str, ...] = ("oci",)

    def __init__(self, path: str, name: str = "", *, more: Sequence[str] = (), blobs: str | None = None) -> None:
        """more: further names that the image gets. blobs: a directory for its blobs, which other layouts share."""
        self.path, self._refs = path, (name, *more)
        self._folder, self._below = (blobs, "") if blobs else (path, "blobs/")
        self._blobs = blobs or f"{path}/blobs"
        self.name = f"oci:{path}:{name}" if name else f"oci:{path}"
        self._held = -1
        self._first = allocate_lock()  # of the blobs that come at once, one takes hold

    def __exit__(self, *_: object) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _hold(self) -> None:
        """Keep a collection of garbage away until the image is whole."""
        with self._first:
            if self._held < 0:
                os.makedirs(self._blobs, exist_ok=True)
                self._held = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                flock(self._held, LOCK_SH)

    def has(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        path = f"{self._blobs}/{_path(descriptor.digest)}"
        if not os.path.isfile(path):
            return False
        self._hold()
        return os.path.isfile(path) and os.path.getsize(path) == descriptor.size

    def put(self, descriptor: Descriptor, opened: Opened, origins: Sequence[Reference]) -> str:
        """See Destination."""
        del origins
        with opened(0) as chunks, Verified(chunks, descriptor.digest, descriptor.size) as checked:
            self._store(checked, lambda: finished(checked, descriptor.digest))
        return ""

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """See Destination."""
        hashed = Hashed(chunks)
        self._store(hashed, lambda: hashed.digest)
        return Descriptor(media_type=media_type, digest=hashed.digest, size=hashed.size)

    def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        if not self.has(descriptor):
            self._store((raw,), lambda: descriptor.digest)

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        self.put_manifest(descriptor, raw)
        if not os.path.exists(f"{self.path}/oci-layout"):
            stored(self.path, (LAYOUT,), lambda: "oci-layout")
        with index_changed(self.path) as index:
            for name in self._refs:
                index.update(indexed(index, descriptor, name))

    def _store(self, chunks: Iterable[bytes], digest: Callable[[], Digest]) -> None:
        try:
            self._hold()
        except OSError as error:
            raise HostError("write", error, where=self.path) from error
        stored(self._folder, chunks, lambda: self._below + _path(digest()))


class LayoutArchive(Place):
    """A layout in a tar file, as the place an image goes to."""

    formats: tuple[str, ...] = ("oci",)
    serial = True

    def __init__(self, path: str | int, name: str = "", *, more: Sequence[str] = ()) -> None:
        """more: further names that the image gets."""
        self._tar, self._refs = Writer(path), (name, *more)
        self.name = f"oci-archive:{path}"

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def has(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        return f"blobs/{_path(descriptor.digest)}" in self._tar.names

    def put(self, descriptor: Descriptor, opened: Opened, origins: Sequence[Reference]) -> str:
        """See Destination."""
        del origins
        with opened(0) as chunks, Verified(chunks, descriptor.digest, descriptor.size) as checked:
            self._tar.stream(lambda: f"blobs/{_path(finished(checked, descriptor.digest))}", checked)
        return ""

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """See Destination."""
        hashed = Hashed(chunks)
        self._tar.stream(lambda: f"blobs/{_path(hashed.digest)}", hashed)
        return Descriptor(media_type=media_type, digest=hashed.digest, size=hashed.size)

    def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        self._tar.add(f"blobs/{_path(descriptor.digest)}", raw)

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        self.put_manifest(descriptor, raw)
        index: dict[str, Any] = {}
        for name in self._refs:
            index = indexed(index, descriptor, name)
        self._tar.add("index.json", dumps(index))
        self._tar.add("oci-layout", LAYOUT)
        self._tar.done()


def check_version(raw: bytes, where: str) -> None:
    """Refuse what is no oci-layout file of a version that we know. Raises InvalidInput, Unsupported."""
    name = f"{where}/oci-layout"
    if not raw:
        raise InvalidInput("it is no OCI image layout: there is no oci-layout", where=where)
    version = Layout.decode(raw, name=name).image_layout_version
    if version.partition(".")[0] != "1":
        raise Unsupported(f"image layouts of version {version} are unknown", where=name)


@contextmanager
def index_changed(path: str) -> Generator[dict[str, Any]]:
    """The index.json of the layout at `path` as a JSON object; what it is at the block's end is written.

    One at a time. Raises InvalidInput, HostError.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(directory, LOCK_EX)
        try:
            with open(f"{path}/index.json", "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            index: dict[str, Any] = {}
        else:
            Index.decode(raw, name=f"{path}/index.json")
            index = loads(raw)
        yield index
        stored(path, (dumps(index),), lambda: "index.json")
    finally:
        os.close(directory)


def stored(folder: str, chunks: Iterable[bytes], name: Callable[[], str]) -> None:
    """Write a file below `folder`, whole or not at all, synced before it appears; `name` is called for its name then.

    Raises HostError, and what `chunks` and `name` raise.
    """
    from veloci.content.files import appear, kept

    aside = f"{folder}/{ASIDE}{os.getpid()}-{os.urandom(6).hex()}"
    try:
        os.makedirs(folder, exist_ok=True)
        file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HostError("write", error, where=folder) from error
    try:
        for _chunk in kept(file, chunks):
            pass
        target = f"{folder}/{name()}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        appear(file, aside, target)
    except OSError as error:
        raise HostError("write", error, where=folder) from error
    finally:
        os.close(file)
        with suppress(FileNotFoundError):
            os.unlink(aside)


def indexed(index: dict[str, Any], descriptor: Descriptor, name: str, annotations: dict[str, str] | None = None) -> Any:
    """An index.json in which `name` (or nothing) now stands for the descriptor; other entries stay as they are."""
    entry: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    notes = {**(annotations or {}), **({REF_NAME: name} if name else {})}
    if notes:
        entry["annotations"] = notes
    if descriptor.platform:
        entry["platform"] = descriptor.platform.plain()
    rest = [
        other
        for other in index.get("manifests") or []
        if (other.get("annotations") or {}).get(REF_NAME, "") != name
        or (not name and other.get("digest") != descriptor.digest)
    ]
    return {"schemaVersion": 2, **index, "manifests": [*rest, entry]}


def folder(path: str, name: str = "", *, blobs: str | None = None) -> LayoutSource:
    """The image `name` in the layout that is the directory `path`; its blobs are there or in `blobs`."""
    return LayoutSource(Folder(path), name, blobs=blobs)


def archive(path: str, name: str = "") -> LayoutSource:
    """The image `name` in the layout that is in the tar file `path`."""
    return LayoutSource(Archive(path), name)


def finished(checked: Verified, digest: Digest) -> Digest:
    """The digest of content that was read to its end, checked. Raises Corrupt."""
    checked.finish()
    return digest


def _path(digest: Digest) -> str:
    return digest.replace(":", "/", 1)

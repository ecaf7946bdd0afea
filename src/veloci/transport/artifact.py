"""Files as an OCI artifact, and an artifact as files; as oras lays them out.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage
"""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISREG
from tempfile import TemporaryFile

from veloci.errors import Conflict, HostError, InvalidInput, NotFound
from veloci.kernel.files import make_directory_in_root, open_in_root
from veloci.layer.apply import Application
from veloci.layer.diff import Status, Walk, chunked
from veloci.layer.directories import components
from veloci.layer.stream import Hashed, Verified, compressed, decompressed
from veloci.layer.tar import wrong
from veloci.layer.write import END
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import Descriptor, Manifest
from veloci.transport.place import Place, given, kept, pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from veloci.layer.tar import Entry, Reader
    from veloci.spec.digest import Digest
    from veloci.transport.place import Chunks, Source

TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
UNPACK = "io.deis.oras.content.unpack"  # oras's mark of a directory that was packed
CONTENT = "io.deis.oras.content.digest"  # of its tar before it was compressed
FILE, DIRECTORY = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY_JSON = b"{}"
UNKNOWN = "application/vnd.unknown.artifact.v1"


class Artifact(Place):
    """An artifact made of files, as a source to copy."""

    def __init__(self, artifact_type: str, annotations: dict[str, str] | None = None) -> None:
        """Raises InvalidInput for what is no media type."""
        if not media.valid(artifact_type):
            raise InvalidInput(
                f"{artifact_type!r} is no media type", where="--artifact-type", hint="application/spdx+json"
            )
        self.name = "the artifact"
        self.artifact_type, self.annotations = artifact_type, annotations or {}
        self.subject: Descriptor | None = None
        self.config = Descriptor(
            media_type=media.EMPTY, digest=digests.of(EMPTY_JSON), size=len(EMPTY_JSON), data="e30="
        )
        self.layers: list[Descriptor] = []
        self._small: dict[Digest, bytes] = {self.config.digest: EMPTY_JSON}
        self._files: dict[Digest, int] = {}

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def configure(self, path: str, media_type: str) -> None:
        """Let a file be the config. Raises NotFound, HostError."""
        descriptor = self._keep(path, _opened(path), media_type)
        self.config = descriptor

    def add(self, path: str, media_type: str = "") -> None:
        """Add a file or a directory, under the name that was given. Raises NotFound, InvalidInput, HostError."""
        file = _opened(path)
        title = os.path.basename(os.path.abspath(path)) if os.path.isabs(path) else os.path.normpath(path)
        if title.startswith(".."):
            os.close(file)
            raise InvalidInput("a name in an artifact leads nowhere up", where=path, hint="cd there first")
        mode = os.fstat(file).st_mode
        if S_ISDIR(mode):
            self.layers.append(self._pack(file, title, media_type or DIRECTORY))
        elif S_ISREG(mode):
            found = self._keep(path, file, media_type or FILE)
            self.layers.append(found.replace(annotations={TITLE: title}))
        else:
            os.close(file)
            raise InvalidInput("is neither a file nor a directory", where=path)

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        del descriptor
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media.MANIFEST,
            "artifactType": self.artifact_type,
            "config": self.config.plain(),
            "layers": [layer.plain() for layer in self.layers] or [self.config.plain()],
        }
        if self.subject:
            document["subject"] = self.subject.plain()
        if self.annotations:
            document["annotations"] = self.annotations
        raw = dumps(document)
        return Descriptor(media_type=media.MANIFEST, digest=digests.of(raw), size=len(raw)), raw

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        if descriptor.digest in self._small:
            return given(self._small[descriptor.digest], start)
        return kept(self._files[descriptor.digest], start)

    def _keep(self, path: str, file: int, media_type: str) -> Descriptor:
        """Take an open regular file as a blob."""
        hashed = Hashed(pieces(file, 0))
        try:
            for _chunk in hashed:
                pass
        except OSError as error:
            os.close(file)
            raise HostError("read", error, where=path) from error
        if not media.valid(media_type):
            os.close(file)
            raise InvalidInput(f"{media_type!r} is no media type", where=path, hint=f"{path}:text/plain")
        if hashed.digest in self._files:
            os.close(file)
        else:
            self._files[hashed.digest] = file
        return Descriptor(media_type=media_type, digest=hashed.digest, size=hashed.size)

    def _pack(self, root: int, title: str, media_type: str) -> Descriptor:
        """Take an open directory as a blob: a tar below its name, compressed."""
        plain = Hashed(chunked(_tar(root, os.fsencode(title))))
        with TemporaryFile("wb", buffering=0, prefix="veloci-") as spool:
            for chunk in compressed(plain):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[spool.write(rest) :]
            found = self._keep(title, os.dup(spool.fileno()), media_type)
        os.close(root)
        return found.replace(annotations={CONTENT: plain.digest, UNPACK: "true", TITLE: title})


def files(source: Source, descriptor: Descriptor, raw: bytes) -> list[Descriptor]:
    """The blobs of an artifact that have a name. Raises InvalidInput for an index."""
    if not media.is_manifest(descriptor.media_type):
        raise InvalidInput("it is an index, and no artifact", where=source.name)
    manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
    return [layer for layer in manifest.layers if TITLE in layer.annotations]


def write(source: Source, blob: Descriptor, directory: str, *, keep: bool = False) -> str:
    """Write a named blob below `directory`, never outside it. Returns its name.

    keep: refuse to replace a file. Raises InvalidInput for a name that leads elsewhere, Corrupt, Conflict, HostError.
    """
    from veloci.transport.layout import finished, stored

    title = blob.annotations[TITLE]
    if os.path.isabs(title) or os.path.normpath(title).startswith("..") or "\0" in title or not title.isprintable():
        raise InvalidInput(f"{title!r} leads out of the directory", where=source.name)
    target = f"{directory}/{os.path.normpath(title)}"
    if keep and os.path.lexists(target):
        raise Conflict("is there already", where=target)
    with source.blob(blob) as chunks, Verified(chunks, blob.digest, blob.size) as checked:
        if not _within(directory, target):
            raise InvalidInput(f"{title!r} leads out of the directory", where=source.name)
        if blob.annotations.get(UNPACK) == "true":
            _unpack(checked, directory, os.path.normpath(title))
        else:
            stored(directory, checked, lambda: finished(checked, blob.digest) and os.path.normpath(title))
    return title


def _within(directory: str, target: str) -> bool:
    """Whether a path is below a directory also when symlinks are followed."""
    top = os.path.realpath(directory)
    there = os.path.realpath(os.path.dirname(target))
    return (there + "/").startswith(top.rstrip("/") + "/") and not os.path.islink(target)


def _unpack(packed: Iterable[bytes], directory: str, title: str) -> None:
    os.makedirs(directory, exist_ok=True)
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    root = -1
    try:
        os.close(make_directory_in_root(top, title))
        root = open_in_root(top, title, os.O_RDONLY | os.O_DIRECTORY)
        _Packed(root, components(os.fsencode(title))).unpack(decompressed(packed))
    except OSError as error:
        raise HostError("unpack", error, where=f"{directory}/{title}") from error
    finally:
        for file in (root, top):
            if file >= 0:
                os.close(file)


class _Packed(Application):
    """A directory that was packed below its name: what is not below it, and devices, are refused; `.wh.a` is a file."""

    def __init__(self, root: int, title: bytes) -> None:
        super().__init__(root, overlay=False)
        self.whiteouts = False
        self._title = title

    def unpack(self, chunks: Iterable[bytes]) -> None:
        """Make what the tar holds. Raises InvalidInput, HostError."""
        try:
            self.read(chunks)
            self.finish()
        finally:
            self.close()

    def _entry(self, entry: Entry, reader: Reader) -> None:
        if entry.kind in (b"3", b"4"):
            wrong("is a device, and no artifact's", entry.name)
        name = self._below(entry.name, entry)
        if entry.kind == b"1":
            entry.link = self._below(entry.link, entry)
        if not name and not self._title and entry.kind == b"5":
            return  # the directory that was there before
        entry.name = name
        super()._entry(entry, reader)

    def _below(self, name: bytes, entry: Entry) -> bytes:
        path = components(name)
        if self._title and path != self._title and not path.startswith(self._title + b"/"):
            wrong(f"leads out of {self._title.decode(errors='backslashreplace')}", entry.name)
        return path[len(self._title) :].lstrip(b"/")


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("no such file", where=path) from None
    except OSError as error:
        raise HostError("open", error, where=path) from error


def _tar(root: int, title: bytes) -> Iterator[bytes]:
    walk = Walk(None)
    yield walk.directory(title + b"/", Status(root, b"."))
    yield from walk.inside(title + b"/", root, None)
    yield END

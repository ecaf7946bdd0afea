"""dir:directory: an image as plain files, laid out as skopeo does: version, manifest.json, one file a digest."""

from __future__ import annotations

import os

from veloci.errors import HostError, InvalidInput, NotFound, Unsupported
from veloci.layer.stream import Hashed, Verified
from veloci.spec import digest as digests
from veloci.spec.document import loads
from veloci.spec.image import Descriptor
from veloci.transport.files import Folder, document, opened, read
from veloci.transport.layout import finished
from veloci.transport.place import Place
from veloci.transport.signatures import SIZE, checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from veloci.spec.digest import Digest
    from veloci.spec.reference import Reference
    from veloci.transport.place import Chunks, Opened

VERSION = b"Directory Transport Version: 1.1\n"


class Directory(Place):
    """The image in the directory `path`: both a source and a destination."""

    packed = False
    signable = True

    def __init__(self, path: str) -> None:
        self.path, self.name = path, f"dir:{path}"
        self._files = Folder(path)

    def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
        """See Source."""
        if descriptor is not None:
            own = f"{_name(descriptor.digest)}.manifest.json"
            if own not in self._files and "manifest.json" in self._files:
                raw = read(self._files, "manifest.json")
                if digests.of(raw) == descriptor.digest:
                    return descriptor, raw
            return descriptor, document(self._files, own, descriptor)
        if "manifest.json" not in self._files:
            raise NotFound("there is no image (no manifest.json)", where=self.path)
        raw = read(self._files, "manifest.json")
        return Descriptor(media_type=_media_type(raw), digest=digests.of(raw), size=len(raw)), raw

    def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
        """See Source."""
        return opened(self._files, _name(descriptor.digest), start)

    def has(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        path = f"{self.path}/{_name(descriptor.digest)}"
        return os.path.isfile(path) and os.path.getsize(path) == descriptor.size

    def put(self, descriptor: Descriptor, opened: Opened, origins: Sequence[Reference]) -> str:
        """See Destination."""
        del origins
        with opened(0) as chunks, Verified(chunks, descriptor.digest, descriptor.size) as checked:
            self._write(checked, lambda: _name(finished(checked, descriptor.digest)))
        return ""

    def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """See Destination."""
        hashed = Hashed(chunks)
        self._write(hashed, lambda: _name(hashed.digest))
        return Descriptor(media_type=media_type, digest=hashed.digest, size=hashed.size)

    def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination."""
        self._write((raw,), lambda: f"{_name(descriptor.digest)}.manifest.json")

    def finish(self, descriptor: Descriptor, raw: bytes) -> None:
        """See Destination. Signatures that were here are of what was here, and go before it does."""
        del descriptor
        self._unsign()
        self._write((VERSION,), lambda: "version")
        self._write((raw,), lambda: "manifest.json")

    def signatures(self, descriptor: Descriptor | None = None) -> tuple[bytes, ...]:
        """See Source."""
        found: list[bytes] = []
        while (name := _signature(descriptor, len(found) + 1)) in self._files:
            if self._files.size(name) > SIZE:
                raise InvalidInput(f"it has more than {SIZE} bytes", where=f"{self.path}/{name}")
            found.append(checked(read(self._files, name), f"{self.path}/{name}"))
        return tuple(found)

    def sign(self, signatures: Iterable[bytes], descriptor: Descriptor | None = None) -> None:
        """See Destination."""
        for number, signature in enumerate(signatures, 1):
            self._write((signature,), _signature(descriptor, number).__str__)

    def _unsign(self) -> None:
        try:
            for name in os.listdir(self.path):
                start, word, number = name.rpartition("signature-")
                if word and number.isdecimal() and (not start or start[-1] == "."):
                    os.unlink(f"{self.path}/{name}")
        except FileNotFoundError:
            return  # there is nothing yet
        except OSError as error:
            raise HostError("remove signatures", error, where=self.path) from error

    def _write(self, chunks: Iterable[bytes], name: Callable[[], str]) -> None:
        from veloci.transport.layout import stored

        stored(self.path, chunks, name)


def _signature(descriptor: Descriptor | None, number: int) -> str:
    return f"{_name(descriptor.digest)}.signature-{number}" if descriptor else f"signature-{number}"


def _name(digest: Digest) -> str:
    """A file's name: skopeo leaves `sha256:` out."""
    return digest.removeprefix("sha256:")


def _media_type(raw: bytes) -> str:
    """What the document says it is; an OCI document need not."""
    from veloci.spec import media

    try:
        document = loads(raw)
        found = str(document.get("mediaType") or "")
    except (ValueError, AttributeError):
        return media.MANIFEST  # whoever decodes it says what is wrong
    if document.get("schemaVersion") == 1 and "fsLayers" in document:
        raise Unsupported(
            "it is in Docker's schema 1, which ended in 2017", where="manifest.json", hint="push it again"
        )
    return found or (media.INDEX if "manifests" in document else media.MANIFEST)

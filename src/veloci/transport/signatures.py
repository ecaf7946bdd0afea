"""Simple signatures, which skopeo keeps as files beside the manifest of a `dir:`, and what may become of them.

    signature-1, signature-2, …       of what the directory names
    HEX.signature-1, …                of an image in its index, by its digest

They sign a manifest's digest, so they go with it unchanged, or not at all. Nothing is verified here: what is no
signature by its first bytes is refused, as skopeo does.
"""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec import media

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Destination, Source

SIZE = 4 << 20  # bytes of one, at most: skopeo's limit
# What OpenPGP messages begin with (RFC 4880, 4.2): compressed data, one-pass signatures, signatures.
_OPENPGP = b"\x88\x89\x8a\x8b\xc2\x90\x91\x92\x3d\xc4\xa0\xa1\xa2\xa3\xc8"
_FORMATS = (b"simple-signing", b"sigstore-json")


class Signatures:
    """The signatures that a copy carries. lost: they are to be left behind."""

    def __init__(self, source: Source, destination: Destination, *, lost: bool) -> None:
        self._source, self._destination, self._lost = source, destination, lost
        self._found: list[tuple[Descriptor | None, tuple[bytes, ...]]] = []

    def take(self, descriptor: Descriptor | None = None, *, to: Descriptor | None = None) -> bool:
        """Remember those of what the place names, or of an image in its index, for what is at the destination.

        to: there it is an image in an index, too. Returns whether there are any. Raises InvalidInput where the
        destination can hold none.
        """
        found = () if self._lost else self._source.signatures(descriptor)
        if found and not self._destination.signable:
            raise InvalidInput(
                f"its signatures cannot be copied to {self._destination.name}: only a dir: holds them",
                where=self._source.name,
                hint="--remove-signatures of copy and sync",
            )
        if found:
            self._found.append((to, found))
        return bool(found)

    def take_all(self, entries: tuple[Descriptor, ...]) -> bool:
        """Remember those of the index that the place names and of the images in it. Returns whether there are any."""
        images = [entry for entry in entries if media.is_index(entry.media_type) or media.is_manifest(entry.media_type)]
        return any([self.take(), *(self.take(entry, to=entry) for entry in images)])

    def give(self) -> None:
        """Put them to the manifests that the destination has now."""
        for descriptor, found in self._found:
            self._destination.sign(found, descriptor)


def checked(raw: bytes, where: str) -> bytes:
    """A signature as it is. Raises InvalidInput for what is none."""
    why = ""
    if not raw:
        why = "it is empty"
    elif raw[0] == 0:
        kind, newline, _ = raw[1:].partition(b"\n")
        if not newline or kind not in _FORMATS:
            why = "it is of no known format"
    elif raw[0] not in _OPENPGP:
        why = f"it begins with the byte {raw[0]:#x}"
    if why:
        raise InvalidInput(f"it is no signature: {why}", where=where, hint="--remove-signatures of copy and sync")
    return raw

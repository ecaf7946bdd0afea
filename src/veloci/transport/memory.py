"""What is known of blobs beyond the blobs: which repositories have one, and under what name; what forms of a layer are.

Hints, one small file a digest below the store's known/: a lost, stale or torn one costs a transfer, nothing else.
"""

from __future__ import annotations

import os

from veloci.errors import HostError, VelociError
from veloci.spec.digest import valid
from veloci.spec.document import Document, dumps
from veloci.spec.image import Descriptor
from veloci.spec.media import converted
from veloci.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.digest import Digest

MOST = 8  # repositories and forms that are kept for one digest, the latest


class Known(Document):
    """What is known of one digest.

    forms: descriptors of the layer with this diff ID, compressed. names: REPOSITORY@DIGEST of the image whose
    manifest this is, where it was pulled from or pushed to: there it may be one of an index.
    """

    repositories: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    forms: tuple[Descriptor, ...] = ()


class Memory:
    """What is known of the blobs of the store at the directory `root`."""

    def __init__(self, root: str) -> None:
        self._root = f"{root}/known"

    def repositories(self, digest: Digest) -> tuple[Reference, ...]:
        """The repositories that had the blob, the latest first."""
        return tuple(Reference.parse(name) for name in self._read(digest).repositories)

    def forms(self, diff_id: Digest, media_type: str) -> list[Descriptor]:
        """What blobs of a media type, of either family, unpack to `diff_id`, the latest first."""
        oci = converted(media_type, "oci")
        forms = self._read(diff_id).forms
        return [form.replace(media_type=media_type) for form in forms if converted(form.media_type, "oci") == oci]

    def note_repository(self, digest: Digest, where: Reference) -> None:
        """Remember that a repository has the blob."""
        name = f"{where.registry}/{where.repository}"
        known = self._read(digest)
        if name not in known.repositories:
            self._write(digest, known.replace(repositories=(name, *known.repositories)[:MOST]))

    def note_form(self, diff_id: Digest, form: Descriptor) -> None:
        """Remember that a blob unpacks to `diff_id`."""
        form = Descriptor(media_type=form.media_type, digest=form.digest, size=form.size)
        known = self._read(diff_id)
        if form not in known.forms:
            self._write(diff_id, known.replace(forms=(form, *known.forms)[:MOST]))

    def names(self, digest: Digest) -> tuple[Reference, ...]:
        """What registries call the image whose manifest this is: repositories with digests, the latest first."""
        return tuple(Reference.parse(name) for name in self._read(digest).names)

    def note_name(self, digest: Digest, name: Reference) -> None:
        """Remember what a registry calls the image whose manifest this is: a repository with a digest."""
        known = self._read(digest)
        if str(name) not in known.names:
            self._write(digest, known.replace(names=(str(name), *known.names)[:MOST]))

    def forget_names(self, digest: Digest) -> None:
        """Forget what registries call the image whose manifest this is: it is removed."""
        known = self._read(digest)
        if known.names:
            self._write(digest, known.replace(names=()))

    def _path(self, digest: Digest) -> str:
        return f"{self._root}/{digest.replace(':', '-')}"

    def _read(self, digest: Digest) -> Known:
        if not valid(digest):
            return Known()
        try:
            with open(self._path(digest), "rb", buffering=0) as file:
                known = Known.decode(file.read(), name=digest)
            for name in (*known.repositories, *known.names):
                Reference.parse(name)
        except (OSError, VelociError):
            return Known()
        return known

    def _write(self, digest: Digest, known: Known) -> None:
        if not valid(digest):
            return
        aside = f"{self._root}/.{os.getpid()}-{os.urandom(4).hex()}"
        try:
            os.makedirs(self._root, mode=0o700, exist_ok=True)
            with open(aside, "xb") as file:
                file.write(dumps(known.plain()))
            os.rename(aside, self._path(digest))
        except OSError as error:
            raise HostError("note what is known of a blob", error, where=digest) from error

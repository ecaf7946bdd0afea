"""A registry's content as files: a folder that `ls` and `cp -a` understand.

    blobs/<algorithm>/<hex>                              every blob once, and each repository's hard link to it:
    repositories/<name>/_blobs/<algorithm>/<hex>         the link count says who needs a blob, so nothing
    repositories/<name>/_manifests/<algorithm>/<hex>     has to be collected
    repositories/<name>/_types/<algorithm>/<hex>         a manifest's media type
    repositories/<name>/_tags/<tag>                      a digest
    repositories/<name>/_referrers/<digest>/<digest>     the descriptor of a manifest whose subject this is
    repositories/<name>/_uploads/<uuid>                  what is being sent

No component of a name starts with `_`. Everything appears whole, by rename or link.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock

from veloci.content.files import appear, made, replace, temporary, write
from veloci.errors import Conflict, InvalidInput, NotFound
from veloci.layer.stream import CHUNK
from veloci.spec import digest as digests
from veloci.spec.document import dumps
from veloci.spec.image import Descriptor

PAUSED = 1024  # uploads whose hash is remembered between requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.digest import Digest, Hash


class Missing(NotFound):
    """What was asked for is not here; `code` is the specification's word for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code.lower().replace("_", " "))
        self.code = code


class Storage:
    """The registry in the directory `root`. Names, tags and digests must be checked by the caller."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.hashes: dict[str, tuple[int, Hash]] = {}  # upload -> bytes hashed so far: no second reading at the end
        made(self.root)

    def repository(self, name: str) -> str:
        """The directory of a repository, which may not exist."""
        return f"{self.root}/repositories/{name}"

    # -- blobs

    def blob(self, name: str, digest: Digest) -> str:
        """The path of a repository's blob. Raises NotFound."""
        return self._there(f"{self.repository(name)}/_blobs/{_path(digest)}", "BLOB_UNKNOWN")

    def mount(self, name: str, digest: Digest, source: str) -> bool:
        """Give `name` the blob that `source` has. False if it has not."""
        try:
            self._link(self.blob(source, digest), f"{self.repository(name)}/_blobs/{_path(digest)}")
        except (NotFound, OSError):
            return False
        return True

    def remove_blob(self, name: str, digest: Digest) -> None:
        """Take a blob from a repository; the last to hold it frees it. Raises NotFound."""
        os.unlink(self.blob(name, digest))
        self._release(digest)

    # -- manifests and tags

    def manifest(self, name: str, reference: str) -> tuple[Digest, str, bytes]:
        """Digest, media type and bytes of the manifest with this tag or digest. Raises NotFound."""
        directory = self.repository(name)
        digest = reference if ":" in reference else self._text(f"{directory}/_tags/{reference}", "MANIFEST_UNKNOWN")
        media_type = self._text(f"{directory}/_types/{_path(digest)}", "MANIFEST_UNKNOWN")
        with open(self._there(f"{directory}/_manifests/{_path(digest)}", "MANIFEST_UNKNOWN"), "rb") as file:
            return digest, media_type, file.read()

    def has_manifest(self, name: str, digest: Digest) -> bool:
        """Whether the repository holds this manifest."""
        return os.path.isfile(f"{self.repository(name)}/_types/{_path(digest)}")

    def put_manifest(self, name: str, digest: Digest, media_type: str, raw: bytes, tag: str | None) -> None:
        """Store a manifest that has been checked, and let `tag` name it."""
        directory = self.repository(name)
        with temporary(self.root) as (file, path):
            write(file, raw, 0)
            self._publish(file, path, digest, f"{directory}/_manifests/{_path(digest)}")
        self._write(f"{directory}/_types/{_path(digest)}", media_type.encode())
        if tag:
            self._write(f"{directory}/_tags/{tag}", digest.encode())

    def remove_manifest(self, name: str, digest: Digest, subject: Digest | None) -> None:
        """Take a manifest, its tags, and its entry among its subject's referrers. Raises NotFound."""
        directory = self.repository(name)
        path = self._there(f"{directory}/_types/{_path(digest)}", "MANIFEST_UNKNOWN")
        for tag in self.tags(name):
            with suppress(FileNotFoundError, Missing):
                if self._text(f"{directory}/_tags/{tag}", "MANIFEST_UNKNOWN") == digest:
                    os.unlink(f"{directory}/_tags/{tag}")
        os.unlink(path)
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/_manifests/{_path(digest)}")
            self._release(digest)
        if subject:
            with suppress(FileNotFoundError):
                os.unlink(f"{directory}/_referrers/{subject}/{digest}")

    def remove_tag(self, name: str, tag: str) -> None:
        """Forget a tag; its manifest stays. Raises NotFound."""
        os.unlink(self._there(f"{self.repository(name)}/_tags/{tag}", "MANIFEST_UNKNOWN"))

    def tags(self, name: str) -> list[str]:
        """A repository's tags, sorted. Raises NotFound for a repository that does not exist."""
        self._there(f"{self.repository(name)}/_manifests", "NAME_UNKNOWN")
        return _listed(f"{self.repository(name)}/_tags")

    def names(self) -> list[str]:
        """Every repository that ever held a manifest, sorted."""
        found = []
        top = f"{self.root}/repositories"
        for directory, below, _ in os.walk(top):
            if "_manifests" in below:
                found.append(directory[len(top) + 1 :])
            below[:] = [child for child in below if not child.startswith("_")]
        return sorted(found)

    def add_referrer(self, name: str, subject: Digest, descriptor: Descriptor) -> None:
        """Note that the manifest `descriptor` has `subject`, which may not be there yet."""
        self._write(f"{self.repository(name)}/_referrers/{subject}/{descriptor.digest}", dumps(descriptor.plain()))

    def referrers(self, name: str, subject: Digest) -> list[Descriptor]:
        """The manifests that have `subject`, in the order of their digests."""
        directory = f"{self.repository(name)}/_referrers/{subject}"
        found = []
        for digest in _listed(directory):
            with open(f"{directory}/{digest}", "rb") as file:
                found.append(Descriptor.decode(file.read(), name=file.name))
        return found

    # -- uploads

    def begin(self, name: str) -> str:
        """A new upload's id."""
        from uuid import uuid4

        directory = f"{self.repository(name)}/_uploads"
        made(directory)
        upload = str(uuid4())
        os.close(os.open(f"{directory}/{upload}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return upload

    @contextmanager
    def upload(self, name: str, upload: str) -> Iterator[Upload]:
        """An upload of this repository, for one request at a time. Raises NotFound, Conflict."""
        path = self._there(f"{self.repository(name)}/_uploads/{upload}", "BLOB_UPLOAD_UNKNOWN")
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flock(file, LOCK_EX | LOCK_NB)
            yield Upload(self, name, file, path)
        except BlockingIOError:
            raise Conflict("another request is writing this upload") from None
        finally:
            os.close(file)

    # -- files

    def _there(self, path: str, code: str) -> str:
        if not os.path.exists(path):
            raise Missing(code)
        return path

    def _text(self, path: str, code: str) -> str:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            raise Missing(code) from None

    def _write(self, path: str, data: bytes) -> None:
        made(os.path.dirname(path))
        replace(self.root, path, data)

    def _link(self, source: str, target: str) -> None:
        made(os.path.dirname(target))
        with suppress(FileExistsError):
            os.link(source, target)

    def _publish(self, file: int, path: str, digest: Digest, target: str) -> None:
        """Make the verified file the blob `digest`, unless there is one, and link it to `target`."""
        shared = f"{self.root}/blobs/{_path(digest)}"
        made(os.path.dirname(shared))
        if not os.path.exists(shared):
            appear(file, path, shared)
        try:
            self._link(shared, target)
        except OSError:  # its last holder freed it just now, or it has as many links as a file may have
            os.fdatasync(file)
            self._link(path if os.path.exists(path) else shared, target)

    def _release(self, digest: Digest) -> None:
        """Free a blob that no repository holds any more."""
        shared = f"{self.root}/blobs/{_path(digest)}"
        with suppress(FileNotFoundError):
            if os.stat(shared).st_nlink == 1:
                os.unlink(shared)


class Upload:
    """A blob on its way: `size` bytes have arrived."""

    def __init__(self, storage: Storage, name: str, file: int, path: str) -> None:
        self._storage, self._name, self._file, self._path = storage, name, file, path
        self.size = os.fstat(file).st_size
        hashed, self._hash = storage.hashes.pop(path, (0, digests.hasher("sha256:")))
        self._known = hashed == self.size  # whether _hash is that of all there is

    def write(self, data: bytes) -> None:
        """Add `data`."""
        write(self._file, data, self.size)
        self._hash.update(data)
        self.size += len(data)

    def pause(self) -> None:
        """Remember the hash for the next request of this upload."""
        if self._known and len(self._storage.hashes) < PAUSED:
            self._storage.hashes[self._path] = self.size, self._hash

    def _hashed(self, digest: Digest) -> Digest:
        hasher, at = self._hash, self.size
        if not self._known or not digest.startswith("sha256:"):
            hasher, at = digests.hasher(digest), 0
        while data := os.pread(self._file, CHUNK, at):
            hasher.update(data)
            at += len(data)
        return f"{hasher.name}:{hasher.hexdigest()}"

    def finish(self, digest: Digest) -> None:
        """Make the upload a blob of its repository. Raises InvalidInput if it has another digest, and drops it."""
        got = self._hashed(digest)
        if got != digest:
            os.unlink(self._path)
            raise InvalidInput(f"the upload's digest is {got}, not {digest}")
        target = f"{self._storage.repository(self._name)}/_blobs/{_path(digest)}"
        self._storage._publish(self._file, self._path, digest, target)
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def cancel(self) -> None:
        """Drop it."""
        os.unlink(self._path)


def _path(digest: Digest) -> str:
    return digest.replace(":", "/", 1)


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []

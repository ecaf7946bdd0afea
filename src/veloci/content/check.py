"""Whether what the store has is what it says: blobs, names, and the files that make it an OCI layout."""

from __future__ import annotations

import os
from fcntl import LOCK_EX
from stat import S_ISREG

from veloci.content.files import made
from veloci.content.lease import Locked
from veloci.content.store import CHUNK
from veloci.errors import InvalidInput, NotFound
from veloci.spec import digest as digests
from veloci.spec.document import loads
from veloci.spec.image import REF_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor


class Held:
    """A blob's open file, so that what was looked at and what is removed are the same."""

    def __init__(self, store: Store, digest: Digest) -> None:
        """Raises FileNotFoundError for one that is gone, OSError for one that cannot be opened."""
        self.digest, self.path, self._file = digest, store.path(digest), -1
        self.status = os.lstat(self.path)
        if S_ISREG(self.status.st_mode):
            self._file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            self.status = os.fstat(self._file)

    def problem(self) -> str:
        """What is wrong with it, "" if its bytes are those of its digest, or of a digest that nobody can compute."""
        if self._file < 0:
            return "is no plain file"
        if self.digest.partition(":")[0] not in digests.VERIFIED:
            return ""
        hasher = digests.hasher(self.digest)
        try:
            for chunk in self.chunks():
                hasher.update(chunk)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        got = f"{hasher.name}:{hasher.hexdigest()}"
        return "" if got == self.digest else f"has other bytes, those of {got}"

    def chunks(self) -> Iterator[bytes]:
        """Its bytes. Raises OSError."""
        at = 0
        while chunk := os.pread(self._file, CHUNK, at):
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)


def remove(store: Store, path: str, seen: os.stat_result) -> bool:
    """Remove the damaged file at `path` if it still is the one `seen`; a whole one that came meanwhile stays."""
    made(f"{store.root}/ingest")
    aside = f"{store.root}/ingest/new-{os.getpid()}-{os.urandom(6).hex()}"
    with Locked(store.root, LOCK_EX):  # no collection looks into ingest/ meanwhile
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return True
        if os.path.samestat(os.lstat(aside), seen):
            os.unlink(aside)
            return True
        os.rename(aside, path)
    return False


def foreign(store: Store) -> Iterator[str]:
    """The paths below blobs/ that no blob has."""
    try:
        algorithms = os.listdir(f"{store.root}/blobs")
    except FileNotFoundError:
        return
    for algorithm in algorithms:
        path = f"{store.root}/blobs/{algorithm}"
        if not os.path.isdir(path) or os.path.islink(path):
            yield path
            continue
        yield from (f"{path}/{name}" for name in os.listdir(path) if not digests.valid(f"{algorithm}:{name}"))


def named(names: Names) -> tuple[dict[str, Descriptor], list[tuple[str, str]]]:
    """What every name stands for; and of the names whose file cannot be read, the path and why."""
    found, damaged = {}, []
    for name, path in names.paths():
        try:
            found[name] = names.get(name)
        except NotFound:
            continue  # removed meanwhile
        except InvalidInput as error:
            damaged.append((path, str(error)))
    return found, damaged


def layout(root: str, wanted: dict[str, Descriptor]) -> str:
    """What is wrong with the files by which other tools read the store at `root`, "" if nothing.

    index.json is behind for a moment whenever a name changes: the caller looks twice.
    """
    if not wanted and not os.path.exists(f"{root}/oci-layout"):
        return ""  # nothing has been put in yet, or whoever began was killed; the next one lays it out
    try:
        with open(f"{root}/oci-layout", "rb") as file:
            if loads(file.read()) != {"imageLayoutVersion": "1.0.0"}:
                return "oci-layout is not that of version 1.0.0"
        with open(f"{root}/index.json", "rb") as file:
            index = loads(file.read())
        listed = {entry["annotations"][REF_NAME]: entry["digest"] for entry in index["manifests"]}
    except FileNotFoundError as error:
        return f"{os.path.basename(error.filename)} is not there"
    except (ValueError, KeyError, TypeError, OSError):
        return "index.json cannot be read"
    if listed == {name: descriptor.digest for name, descriptor in wanted.items()}:
        return ""
    return "index.json does not list the images"

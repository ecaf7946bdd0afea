"""Files into containers and out of them, as tars: `cp`.

Every path of a container is resolved by the kernel with the container's root as the root (openat2), whatever the
container does meanwhile, and nothing of the container is run or mounted for it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from errno import ELOOP, ENOENT, ENOTDIR
from stat import S_ISDIR, S_ISLNK

from veloci.errors import Conflict, HostError, InvalidInput, NotFound
from veloci.kernel.files import open_in_root
from veloci.layer.owners import Owners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.engine.engine import Engine
    from veloci.engine.record import Record

_LINKS = 40  # symlinks followed in one path, as the kernel's limit


class Place:
    """A path beneath a root: a container's, or the host's. What ends with `/` or `/.` is meant as a directory."""

    def __init__(self, root: int, path: str, shown: str) -> None:
        """root: a directory's descriptor. path: absolute there. shown: for messages."""
        self.root, self.shown = root, shown
        self.contents = path.endswith("/.") or path == "."
        self.directory = path.endswith(("/", "/."))
        parts = [part for part in path.split("/") if part not in ("", ".")]
        self.path = "/" + "/".join(parts)

    @property
    def name(self) -> str:
        """The last component; "" of the root."""
        return self.path.rpartition("/")[2]

    def status(self, *, follow: bool) -> os.stat_result | None:
        """What is there; None if nothing is. Raises HostError."""
        try:
            file = open_in_root(self.root, self.path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return None
            raise HostError(f"open {self.shown}", error) from error
        try:
            return os.fstat(file)
        finally:
            os.close(file)

    def followed(self) -> Place:
        """Where the symlinks at its end lead, be there something or not. Raises HostError for a loop."""
        place = self
        for _ in range(_LINKS):
            status = place.status(follow=False)
            if status is None or not S_ISLNK(status.st_mode):
                return place
            parent = place.parent()
            directory = parent.open()
            try:
                target = os.readlink(place.name, dir_fd=directory)
            finally:
                os.close(directory)
            path = target if target.startswith("/") else f"{parent.path}/{target}"
            place = Place(self.root, path, self.shown)
        raise HostError(f"open {self.shown}", OSError(ELOOP, os.strerror(ELOOP)))

    def parent(self) -> Place:
        """The directory that it is in."""
        return Place(self.root, self.path.rpartition("/")[0] or "/", self.shown)

    def open(self) -> int:
        """A descriptor of it, a directory. Raises NotFound, InvalidInput, HostError."""
        try:
            return open_in_root(self.root, self.path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise NotFound(f"no such directory: {self.shown}") from None
        except NotADirectoryError:
            raise InvalidInput(f"not a directory: {self.shown}") from None
        except OSError as error:
            raise HostError(f"open {self.shown}", error) from error


@contextmanager
def container(engine: Engine, word: str, path: str, *, writing: bool = False) -> Iterator[Place]:
    """A path of a container, which may run or not. Raises NotFound, Conflict when it may not be written to."""
    records = engine.containers.records
    record = records.load(records.find(word))
    pid = records.current(record.id).pid
    shown = f"{word}:{path}"
    if pid:
        root, inner = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), path
    else:
        root, inner = _resting(engine, record, path, writing=writing)
    try:
        yield Place(root, inner, shown)
    finally:
        os.close(root)


@contextmanager
def host(path: str) -> Iterator[Place]:
    """A path of this host."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Place(root, path if path.startswith("/") else f"{os.getcwd()}/{path}", path)
    finally:
        os.close(root)


def archive(place: Place, name: str, *, follow: bool = False) -> Iterator[bytes]:
    """What is at `place` as an uncompressed tar in which it is called `name`; "" for a directory's contents alone.

    follow: a symlink stands for what it leads to. Raises NotFound.
    """
    from veloci.layer.diff import Status, Walk, chunked
    from veloci.layer.write import END

    place = place.followed() if follow or place.directory else place
    status = place.status(follow=False)
    if status is None or (place.directory and not S_ISDIR(status.st_mode)):
        raise NotFound(f"no such {'directory' if status else 'file or directory'}: {place.shown}")
    walk = Walk(None)
    label = os.fsencode(name)

    def pieces() -> Iterator[bytes]:
        directory = place.open() if S_ISDIR(status.st_mode) else place.parent().open()
        try:
            if not S_ISDIR(status.st_mode):
                source = os.fsencode(place.name)
                yield from walk.file(label, source, directory, Status(directory, source))
            else:
                if label:
                    yield walk.directory(label + b"/", Status(directory, b"."))
                yield from walk.inside(label + b"/" if label else b"", directory, None)
            yield END
        finally:
            os.close(directory)

    return chunked(pieces())


def target(place: Place, source: str, *, directory: bool, contents: bool) -> tuple[Place, str]:
    """Where something goes that is copied to `place`: the directory, and its name there ("": its contents).

    source: its name. directory: whether it is one. contents: only what is in it is meant.
    Raises NotFound, InvalidInput.
    """
    place = place.followed()
    status = place.status(follow=True)
    if status is None:
        if place.directory and not directory:
            raise NotFound(f"no such directory: {place.shown}")
        if place.parent().status(follow=True) is None:
            raise NotFound(f"no such directory: {os.path.dirname(place.shown.rstrip('/.')) or place.shown}")
        return place.parent(), place.name
    if S_ISDIR(status.st_mode):
        return place, "" if contents else source
    if directory:
        raise InvalidInput(f"cannot copy a directory to a file: {place.shown}")
    if place.directory:
        raise InvalidInput(f"not a directory: {place.shown}")
    return place.parent(), place.name


def extract(chunks: Iterable[bytes], place: Place, *, owner: tuple[int, int] | None = None) -> None:
    """Put what is in an uncompressed tar below the directory `place`. owner: of everything; None: as the tar says.

    Raises NotFound, InvalidInput, HostError.
    """
    from veloci.layer.apply import apply

    directory = place.open()
    try:
        apply(chunks, directory, overlay=False, owners=Fixed(*owner) if owner else None, whiteouts=False)
    finally:
        os.close(directory)


class Fixed(Owners):
    """Everything belongs to one user and group here."""

    def __init__(self, uid: int, gid: int) -> None:
        super().__init__()
        self._pair = uid, gid
        self.plain = False

    def host(self, uid: int, gid: int) -> tuple[int, int]:
        """As Owners.host."""
        del uid, gid
        return self._pair


def _resting(engine: Engine, record: Record, path: str, *, writing: bool) -> tuple[int, str]:
    """The root of a container that does not run, or of the volume or bind that `path` is in, and the path there."""
    for point in sorted(record.mounts, key=lambda each: len(each["destination"]), reverse=True):
        place = point["destination"].rstrip("/")
        if point.get("source") and (path == place or path.startswith(place + "/")) and os.path.isdir(point["source"]):
            if writing and {"ro", "rro"} & {*point.get("options", ())}:
                raise Conflict(f"{point['destination']} is mounted read-only")
            return os.open(point["source"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), path[len(place) :] or "/"
    if writing and (record.host_config or {}).get("ReadonlyRootfs"):
        raise Conflict(f"the root file system of container {record.name} is read-only")
    mounted = engine.snapshots.mount(record.id)
    try:
        return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted), path
    finally:
        os.close(mounted)

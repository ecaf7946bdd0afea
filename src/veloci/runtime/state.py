"""A container's state on disk: one directory a container below the runtime's root, with

    state.json    what we know of it; written before anything else is made, and again when its process is there
    config.json   the configuration it was created with; later changes to the bundle have no effect
    quick         what the launcher needs to answer without Python: see veloci.runtime.quick
    exec.fifo     exists until it is started: a byte written into it is the start

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/runtime.md#state
"""

from __future__ import annotations

import posix
from errno import EEXIST, ENOENT, ENOTEMPTY, ENXIO

from veloci.errors import Conflict, HostError, InvalidInput, NotFound
from veloci.spec.document import Document, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Saved(Document):
    """What state.json holds."""

    oci_version: str
    id: str
    bundle: str
    rootfs: str
    created: str  # RFC 3339, UTC
    owner: int  # uid
    cgroups: dict[str, str] = {}
    scope: str = ""  # systemd's, whose groups those are: "SLICE:UNIT"
    pid: int = 0  # 0: not made yet
    started: int = 0  # when the process began, in clock ticks after boot
    stdio: tuple[str, ...] = ()  # what its 0, 1 and 2 were, as proc(5) names them, if one was a pipe
    annotations: dict[str, str] = {}
    keyring: str = ""  # the name of its processes' session keyrings; "": they keep their caller's
    classes: tuple[str, ...] = ()  # directories of resctrl that its processes are entered in
    own_classes: tuple[str, ...] = ()  # those of them that go with it
    covers: int = 0  # the mount that its root's own lies on in the caller's namespace; 0: it has one of its own


def mount_of(path: str) -> int:
    """The kernel's number of the mount that the directory `path` is on. Raises OSError."""
    descriptor = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
    finally:
        posix.close(descriptor)


class Directory:
    """The state directory of the container `id`. Raises InvalidInput for an id that is no file name."""

    def __init__(self, root: str, id: str) -> None:
        if not id or not set(id) <= _LETTERS or id in (".", "..") or len(id) > 1024:
            raise InvalidInput(f"invalid container ID format: {id!r}", hint="use letters, digits, _ + - and .")
        self.path = f"{root}/{id}"
        self.id = id

    def create(self) -> None:
        """Make it. Raises Conflict if it exists, HostError."""
        try:
            try:
                posix.mkdir(self.path, 0o700)
            except FileNotFoundError:
                from os import makedirs

                root = self.path.rpartition("/")[0]
                makedirs(root.rpartition("/")[0] or "/", exist_ok=True)
                posix.mkdir(root, 0o700)
                posix.mkdir(self.path, 0o700)
        except OSError as error:
            if error.errno == EEXIST:
                self.check()
            raise HostError(f"make {self.path}", error) from error

    def check(self) -> None:
        """Raise Conflict if it is there."""
        if _is_directory(self.path):
            raise Conflict("container with given ID already exists")

    def write(self, file: str, data: bytes) -> None:
        """Write a file of it, whole or not at all."""
        temporary = f"{self.path}/.{file}"
        descriptor = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
        try:
            posix.write(descriptor, data)
        finally:
            posix.close(descriptor)
        posix.rename(temporary, f"{self.path}/{file}")

    def save(self, saved: Saved) -> None:
        """Write state.json."""
        self.write("state.json", dumps(saved.plain()))

    def load(self) -> Saved:
        """Read state.json. Raises NotFound if there is no such container, InvalidInput if the file is damaged."""
        try:
            raw = self.read("state.json")
        except (FileNotFoundError, NotADirectoryError):
            if _is_directory(self.path):  # killed before the first write
                return Saved(oci_version="", id=self.id, bundle="", rootfs="", created="", owner=posix.geteuid())
            raise NotFound("container does not exist") from None
        return Saved.decode(raw, name=f"{self.path}/state.json")

    def read(self, file: str) -> bytes:
        """A file of it. Raises FileNotFoundError."""
        with open(f"{self.path}/{file}", "rb") as stream:
            return stream.read()

    def remove(self) -> None:
        """Remove it and what it holds; it may be gone already."""
        try:
            for name in posix.listdir(self.path):
                try:
                    posix.unlink(f"{self.path}/{name}")
                except IsADirectoryError:
                    self._remove_directory(f"{self.path}/{name}")
            posix.rmdir(self.path)
        except FileNotFoundError:
            return

    @staticmethod
    def _remove_directory(path: str) -> None:
        """Remove `notify` with its socket, or a directory that must be empty: nothing that is mounted there goes."""
        try:
            posix.rmdir(path)
        except OSError as error:
            if error.errno != ENOTEMPTY:
                raise
            posix.unlink(f"{path}/notify.sock")
            posix.rmdir(path)

    def fifo(self) -> int:
        """Make exec.fifo. Returns a descriptor that reads from it and never sees its end."""
        path = f"{self.path}/exec.fifo"
        posix.mkfifo(path, 0o600)
        return posix.open(path, posix.O_RDWR | posix.O_CLOEXEC)

    def outcome(self) -> int:
        """Make start.fifo, through which startContainer hooks report. Returns a descriptor of both its ends."""
        path = f"{self.path}/start.fifo"
        posix.mkfifo(path, 0o600)
        return posix.open(path, posix.O_RDWR | posix.O_CLOEXEC)

    def waiting(self) -> bool:
        """Whether the container's process waits for its start."""
        try:
            posix.close(posix.open(f"{self.path}/exec.fifo", posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC))
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == ENXIO:  # nobody reads
                return False
            raise
        return True

    def begin(self) -> None:
        """Let the process that waits go on. Raises Conflict if none waits."""
        path = f"{self.path}/exec.fifo"
        try:
            descriptor = posix.open(path, posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        except OSError as error:
            if error.errno in (ENXIO, ENOENT):
                raise Conflict("cannot start an already running container") from None
            raise
        try:
            posix.write(descriptor, b"0")
        finally:
            posix.close(descriptor)
        posix.unlink(path)

    def locked(self) -> Lock:
        """A context in which no one else changes this container."""
        return Lock(self.path)


class Lock:
    """flock(2) on a state directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1

    def __enter__(self) -> None:
        try:
            self.descriptor = posix.open(self.path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("container does not exist") from None
        from fcntl import LOCK_EX, flock

        flock(self.descriptor, LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        posix.close(self.descriptor)


def ids(root: str) -> Iterator[str]:
    """The ids of all containers below `root`, sorted."""
    try:
        names = posix.listdir(root)
    except FileNotFoundError:
        return
    for name in sorted(names):
        if not name.startswith(".") and set(name) <= _LETTERS and _is_directory(f"{root}/{name}"):
            yield name


def _is_directory(path: str) -> bool:
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False


def process(pid: int) -> tuple[str, int]:
    """The state letter of process `pid` and when it began, in clock ticks after boot; ("", 0) if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0].decode(), int(fields[19])


def now() -> str:
    """The time as RFC 3339, in UTC with nanoseconds, as runc writes it."""
    from time import gmtime, strftime, time_ns

    nanoseconds = time_ns()
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(nanoseconds // 10**9)) + f".{nanoseconds % 10**9:09d}Z"

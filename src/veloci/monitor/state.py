"""What is known of a container, as files.

    DATA/lock         held by the container's monitor for as long as that lives: the kernel lets go of it at kill -9
    RUN/state.json    what it is while a monitor looks after it
    DATA/exit.json    how it ended last

DATA is data()/containers/ID, RUN is run()/containers/ID. A process is named by its PID, its start time and the
boot it belongs to, so a PID that is used again is never taken for it.
"""

from __future__ import annotations

import os
from errno import EACCES, EAGAIN
from fcntl import F_OFD_GETLK, F_OFD_SETLK, F_UNLCK, F_WRLCK, fcntl
from struct import pack, unpack

from veloci.errors import Conflict, VelociError
from veloci.spec.document import Document, Wrong, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid
LIVE = ("running", "paused", "restarting")  # the statuses of a container that has not ended
UNKNOWN_EXIT = 255  # the exit status of a container that nobody was left to wait for


class State(Document):
    """A container's state; times in nanoseconds since 1970, 0 for never."""

    status: str = "created"  # created, running, paused, restarting, exited
    pid: int = 0  # of its first process, on the host
    ticks: int = 0  # that process's start time
    boot: str = ""
    monitor: int = 0  # PID of the monitor
    exit_code: int = 0
    started_at: int = 0
    finished_at: int = 0
    oom_killed: bool = False
    health: str = ""  # starting, healthy, unhealthy; "" where nothing is checked
    error: str = ""
    restarts: int = 0


def write(path: str, value: dict[str, Any]) -> None:
    """Put a JSON document at `path`, whole or not at all, readable by its owner alone. Raises OSError."""
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        raw = dumps(value)
        while raw:
            raw = raw[os.write(descriptor, raw) :]
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    os.rename(temporary, path)


def read(path: str) -> dict[str, Any] | None:
    """The document at `path`; None if there is none. Raises VelociError if it is damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        raw = file.read()
    try:
        value = loads(raw)
    except ValueError as error:
        raise damaged(path, str(error)) from None
    if not isinstance(value, dict):
        raise damaged(path, "not an object")
    return value


def damaged(path: str, why: str) -> VelociError:
    """The error for a state file that says nothing of use; its directory is named for the container."""
    name = os.path.basename(os.path.dirname(path))
    return VelociError(f"the file is damaged: {why}", where=path, hint=f"veloci rm -f {name[:12]}")


def hold(data: str) -> int:
    """Take the container's lock: a descriptor, to be kept open. Raises Conflict if another process has it."""
    descriptor = os.open(f"{data}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl(descriptor, F_OFD_SETLK, pack(_FLOCK, F_WRLCK, 0, 0, 0, 0))
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (EAGAIN, EACCES):
            raise
        raise Conflict("another process is at work on it") from None
    return descriptor


def held(data: str) -> bool:
    """Whether a monitor, or a command about to start one, lives and has the container's lock."""
    try:
        descriptor = os.open(f"{data}/lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl(descriptor, F_OFD_GETLK, pack(_FLOCK, F_WRLCK, 0, 0, 0, 0))
    finally:
        os.close(descriptor)
    kind: int = unpack(_FLOCK, answer)[0]
    return kind != F_UNLCK


def boot_id() -> str:
    """The name of this boot of the machine — random(4)."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return file.read().decode().strip()


def ticks(pid: int) -> int:
    """When the process started, in clock ticks since the boot; 0 if it has ended or never was — proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(state: State) -> bool:
    """Whether the container's first process is still there."""
    return bool(state.pid) and state.boot == boot_id() and ticks(state.pid) == state.ticks


def current(data: str, run: str) -> State:
    """The container's state now, whatever became of its monitor.

    Without one, a container whose first process lives is what its state says, with monitor 0; one whose
    first process is gone has exited with UNKNOWN_EXIT.
    """
    path = f"{run}/state.json"
    live = _state(path)
    if live is not None and not held(data):
        live = _state(path)  # the monitor may have ended in good order between the two looks
        if live is not None and alive(live):
            return live.replace(monitor=0)
        if live is not None:
            return orphaned(live)
    return live or _state(f"{data}/exit.json") or State()


def orphaned(state: State) -> State:
    """The state of a container that ended after its monitor, which nobody waited for."""
    error = "its monitor ended before it did"
    return state.replace(status="exited", pid=0, ticks=0, monitor=0, exit_code=UNKNOWN_EXIT, error=error)


def _state(path: str) -> State | None:
    value = read(path)
    if value is None:
        return None
    try:
        return State.convert(value)
    except Wrong as error:
        raise damaged(path, f"${error.path}: {error}") from None

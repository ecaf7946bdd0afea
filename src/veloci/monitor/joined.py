"""What a container shares with another one: namespaces, and with that of IPC its /dev/shm. Found anew at each start.

The other one may have been started again since. So its first process is looked up by its state, its namespaces are
opened, and only then is it looked at once more: what was opened cannot be another process's with the same PID.
"""

from __future__ import annotations

import os

from veloci.errors import Conflict, HostError
from veloci.kernel.mount import AT_FDCWD, MNT_DETACH, move_mount, open_tree, umount
from veloci.kernel.process import CLONE_NEWNS, setns
from veloci.monitor import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.monitor.task import Task

_NAMES = {"network": "net"}  # a namespace's kind -> its name below /proc/PID/ns
_SHARED = "/dev/shm"  # noqa: S108 -- of a container


class Joined:
    """With `with`: the other containers' namespaces are open, their shared memory is mounted where `shared` says."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._opened: list[int] = []
        self._mounted = ""

    def __enter__(self) -> dict[str, Any]:
        """config.json with the way to them, also on the disk. Raises Conflict if one does not run, HostError."""
        task, config = self._task, dict(self._task.config)
        if not task.joined:
            return config
        try:
            places = {kind: self._open(kind, other) for kind, other in task.joined.items()}
        except BaseException:
            self.__exit__()
            raise
        linux = dict(config["linux"])
        linux["namespaces"] = [
            {**each, **({"path": places[each["type"]]} if each["type"] in places else {})}
            for each in linux["namespaces"]
        ]
        config["linux"] = linux
        state.write(f"{task.data}/bundle/config.json", config)  # where other runtimes, exec and inspect read it
        return config

    def __exit__(self, *_: object) -> None:
        while self._opened:
            os.close(self._opened.pop())
        if self._mounted:
            umount(self._mounted, MNT_DETACH)
            self._mounted = ""

    def _open(self, kind: str, other: str) -> str:
        """A path to the namespace of that kind of container `other`, good as long as it is held open here."""
        data, run = f"{os.path.dirname(self._task.data)}/{other}", f"{os.path.dirname(self._task.run)}/{other}"
        now = state.current(data, run)
        namespace, mounts = (self._opened_of(now.pid, name) for name in (_NAMES.get(kind, kind), "mnt"))
        if mounts < 0 or not state.alive(now):
            name = (state.read(f"{data}/container.json") or {}).get("name", other[:12])
            raise Conflict(
                f"cannot join the {kind} namespace of a container that is not running: {name}",
                hint=f"veloci start {name}",
            )
        if kind == "ipc":
            self._borrow(mounts)
        return f"/proc/{os.getpid()}/fd/{namespace}"

    def _opened_of(self, pid: int, name: str) -> int:
        """A namespace of a process, open until the end; -1 if the process is gone."""
        try:
            descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        self._opened.append(descriptor)
        return descriptor

    def _borrow(self, mounts: int) -> None:
        """Mount the /dev/shm of the mount namespace `mounts` at shared()."""
        ours = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(mounts, CLONE_NEWNS)
            try:
                tree = open_tree(AT_FDCWD, _SHARED)  # nothing is loaded or looked up while we are in there
            finally:
                setns(ours, CLONE_NEWNS)
            try:
                move_mount(tree, shared(self._task.data))
            finally:
                os.close(tree)
        except OSError as error:
            raise HostError("share the memory of another container", error) from error
        finally:
            os.close(ours)
        self._mounted = shared(self._task.data)


def shared(data: str) -> str:
    """Where another container's /dev/shm is mounted, in the monitor's mount namespace, while a container is made."""
    return f"{data}/shm"

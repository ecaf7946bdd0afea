"""One RUN of a build: a container made, connected, run to its end and removed by an interpreter of its own.

A build has threads, so it cannot be the parent of a container's first process. The child below is; it
mounts the snapshot in a mount namespace that only it has. When the build dies, the kernel tells it
(PR_SET_PDEATHSIG), and it takes everything back.
"""

from __future__ import annotations

import os
from _signal import SIGTERM
from _thread import allocate_lock
from contextlib import suppress

from veloci.errors import VelociError
from veloci.kernel import interpreter
from veloci.spec.document import Document, Json, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from veloci.build.run_mounts import View
    from veloci.engine.engine import Engine
    from veloci.snapshot import Snapshots

TASK, ANSWER, OUTPUT = 3, 4, 5  # where the child finds its descriptors
_PR_SET_PDEATHSIG = 1


class Task(Document):
    """What the child needs. bundle: an empty directory. network: bridge, host or none. views: build.run_mounts.View."""

    key: str
    root: str
    run_root: str
    bundle: str
    network: str
    parent: int
    config: Json
    views: tuple[Json, ...] = ()


class Running:
    """The processes of a build's steps, so that all of them can be ended."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._pids: set[int] = set()
        self.stopped = False

    def add(self, pid: int) -> None:
        """A child of ours, not waited for yet."""
        with self._lock:
            self._pids.add(pid)
            if self.stopped:
                os.kill(pid, SIGTERM)

    def remove(self, pid: int) -> None:
        """It will be waited for now."""
        with self._lock:
            self._pids.discard(pid)

    def stop(self) -> None:
        """End them, and those that come yet."""
        with self._lock:
            self.stopped = True
            for pid in self._pids:
                os.kill(pid, SIGTERM)


def step(
    engine: Engine,
    key: str,
    config: dict[str, Any],
    *,
    bundle: str,
    output: Callable[[bytes], None],
    network: str,
    views: Sequence[View] = (),
    running: Running,
) -> int:
    """Run the process of `config` in the writable snapshot `key`. Returns its exit status.

    bundle: a directory of the caller, for this step alone. output: gets what it prints, both streams, as it comes.
    views: what it mounts before. running: knows the step's process as long as it lives.
    Raises what making and connecting the container raises.
    """
    task = Task(
        key=key,
        root=engine.root,
        run_root=engine.run_root,
        bundle=bundle,
        network=network,
        parent=os.getpid(),
        config=config,
        views=tuple(view.plain() for view in views),
    )
    os.makedirs(f"{bundle}/rootfs", 0o700)
    file = os.memfd_create("step", os.MFD_CLOEXEC)
    os.write(file, dumps(task.plain()))
    os.lseek(file, 0, os.SEEK_SET)
    answer, answered = os.pipe2(os.O_CLOEXEC)
    printed, printing = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    theirs = {null: 0, file: TASK, answered: ANSWER, printing: OUTPUT}
    try:
        pid = interpreter.started("veloci.engine.build_step", descriptors=theirs)
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    running.add(pid)
    try:
        while data := os.read(printed, 1 << 16):
            output(data)
        with open(answer, "rb", buffering=0, closefd=False) as stream:
            raw = stream.read()
    finally:
        os.close(printed)
        os.close(answer)
        running.remove(pid)
        os.waitpid(pid, 0)
    if running.stopped:
        raise VelociError("canceled")
    if not raw:
        raise VelociError("the step's own process was killed")
    found = loads(raw)
    if "message" in found:
        raise VelociError(found["message"], hint=found["hint"])
    return int(found["status"])


def main() -> NoReturn:
    """The child: do the task, say how it ended."""
    import signal

    from veloci.kernel.process import prctl

    for descriptor in (TASK, ANSWER, OUTPUT):
        os.set_inheritable(descriptor, False)
    with open(TASK, "rb") as file:
        task = Task.convert(loads(file.read()))
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != task.parent:
        os._exit(1)
    try:
        found: dict[str, Any] = {"status": _run(task)}
    except VelociError as error:
        found = {"message": str(error), "hint": error.hint}
    except BaseException as error:  # noqa: BLE001 -- the last frame of this process
        found = {"message": f"the step failed: {error!r}", "hint": ""}
    with suppress(BrokenPipeError):  # the build has gone
        os.write(ANSWER, dumps(found))
    os._exit(0)


def _interrupted(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(task: Task) -> int:
    from veloci.kernel.mount import MS_REC, MS_SLAVE, mount, move_mount
    from veloci.kernel.process import CLONE_NEWNS, exit_status, unshare
    from veloci.network.networks import Networks
    from veloci.runtime.container import Container
    from veloci.snapshot import Snapshots
    from veloci.spec.runtime import Config

    unshare(CLONE_NEWNS)
    mount("", "/", flags=MS_SLAVE | MS_REC)
    snapshots = Snapshots(f"{task.root}/snapshots")
    for view in task.views:
        _view(snapshots, **view)
    root = snapshots.mount(task.key)
    move_mount(root, f"{task.bundle}/rootfs")
    os.close(root)
    networks = Networks(f"{task.root}/networks")
    lease = networks.prepare("bridge", task.key) if task.network == "bridge" else None
    try:
        state = f"{task.run_root}/runtime"
        config = Config.convert(task.config)
        container = Container.create(task.key, task.bundle, root=state, stdio=(0, OUTPUT, OUTPUT), config=config)
        try:
            if lease is not None:
                with open(f"/proc/{container.pid}/ns/net", "rb") as netns:
                    networks.attach(lease, netns.fileno())
            pid = container.pid
            container.start()
            _, status = os.waitpid(pid, 0)
        finally:
            container.delete(force=True)
    finally:
        if lease is not None:
            networks.detach(lease)
    os.close(OUTPUT)
    return exit_status(status)


def _view(snapshots: Snapshots, *, place: str, path: str, chain: str = "", key: str = "") -> None:
    """Mount a path of layers on `place`; it is looked up within them, and what was found is mounted."""
    from veloci.kernel.files import open_in_root
    from veloci.kernel.mount import MS_BIND, mount, move_mount

    os.mkdir(f"{place}.whole", 0o700)
    root = snapshots.mount(key) if key else snapshots.view(chain)
    move_mount(root, f"{place}.whole")
    os.close(root)
    whole = os.open(f"{place}.whole", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    found = open_in_root(whole, path, os.O_PATH)
    mount(f"/proc/self/fd/{found}", place, flags=MS_BIND)
    os.close(found)
    os.close(whole)

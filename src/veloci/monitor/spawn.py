"""Start a monitor, and hear from it whether the container runs.

By fork where the caller is a command of ours with one thread, which costs next to nothing; else as
`python -I -S` with a module of the caller's choice, so that a program with threads is never forked.
"""

from __future__ import annotations

import os

from veloci.errors import VelociError, revived
from veloci.monitor import loop, state
from veloci.monitor.task import Task
from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import NoReturn

# Where a monitor in an interpreter of its own finds its descriptors.
ROOT, LOCK, READY, TASK, FIRST = 3, 4, 5, 6, 7


def forked(task: Task, root: int, pair: tuple[socket, socket] | None, ended: Callable[[int], None]) -> None:
    """Fork a monitor. Returns when the container runs; raises what the monitor met.

    root: descriptor of the root file system's detached mount. pair: a client's connection, its end and the monitor's.
    ended: as Monitor.run. The container's lock is held by the caller, and by the monitor as it inherits it.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        if pair is not None:
            pair[0].close()  # the client has gone when the last descriptor of its end is closed
        _become(task, root, theirs, pair and pair[1], ended)
    os.close(theirs)
    if pair is not None:
        pair[1].close()
    _hear(ours)


def started(task: Task, root: int, lock: int, first: socket | None, module: str, *arguments: str) -> None:
    """The same in an interpreter of its own, in which `module`'s `main(*arguments)` calls ours.

    lock: descriptor of the container's lock.
    """
    from veloci.kernel import interpreter

    ours, theirs = os.pipe2(os.O_CLOEXEC)
    file = os.memfd_create("task", os.MFD_CLOEXEC)
    os.write(file, dumps(task.plain()))
    os.lseek(file, 0, os.SEEK_SET)
    wanted = {root: ROOT, lock: LOCK, theirs: READY, file: TASK, **({first.fileno(): FIRST} if first else {})}
    try:
        pid = interpreter.started(module, *arguments, descriptors=wanted)
        os.waitpid(pid, 0)  # it forks, so that the caller has no child to wait for later
    finally:
        os.close(theirs)
        os.close(file)
        if first is not None:
            first.close()
    _hear(ours)


def main(ended: Callable[[Task], Callable[[int], None]]) -> NoReturn:
    """Be the monitor that `started` started. ended: gives what to call at the container's end."""
    import _socket

    if os.fork():
        os._exit(0)
    for descriptor in (ROOT, LOCK, READY, TASK):
        os.set_inheritable(descriptor, False)
    with open(TASK, "rb") as file:
        task = Task.convert(loads(file.read()))
    try:
        os.set_inheritable(FIRST, False)
        first = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, FIRST)
    except OSError:
        first = None
    _become(task, ROOT, READY, first, ended(task))


def _become(task: Task, root: int, ready: int, first: socket | None, ended: Callable[[int], None]) -> NoReturn:
    """The rest of this process's life."""
    told = False

    def tell(error: VelociError | None) -> None:
        nonlocal told
        told = True
        os.write(ready, loop.failure(error))
        os.close(ready)

    status = 0
    try:
        loop.apart()
        loop.Monitor(task, root, first).run(tell, ended)
    except BaseException as error:  # noqa: BLE001 -- the last frame of this process
        status = 1
        if not told:
            tell(error if isinstance(error, VelociError) else VelociError(f"the monitor failed: {error!r}"))
        else:
            state.write(f"{task.data}/monitor-error.json", {"error": repr(error)})
    finally:
        os._exit(status)


def _hear(pipe: int) -> None:
    """Wait until the container runs, or raise why it does not."""
    with open(pipe, "rb", buffering=0) as stream:
        raw = stream.read()
    if not raw:
        raise VelociError("the container's monitor was killed before the container ran")
    answer = loads(raw)
    if answer:
        raise revived(answer)

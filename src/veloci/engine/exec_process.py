"""A further command in a container, for a program that has threads: an interpreter of its own starts it.

Who joins a container's namespaces has to have one thread; the child below has.
"""

from __future__ import annotations

import os
from select import POLLIN, POLLOUT, poll

from veloci.errors import VelociError, revived
from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from veloci.bundle.options import Options
    from veloci.engine.engine import Engine

_TASK, _ANSWER = 3, 4  # where the child finds its descriptors
_SOME = 1 << 16  # bytes


def executed(engine: Engine, id: str, args: Sequence[str], options: Options, input: bytes) -> tuple[int, bytes, bytes]:
    """Run `args` in the container to its end. Returns its exit status, standard output and standard error.

    Raises what Containers.exec raises.
    """
    from veloci.kernel.interpreter import started

    task = os.memfd_create("exec", os.MFD_CLOEXEC)
    asked = {"root": engine.root, "run": engine.run_root, "id": id, "args": list(args), "options": options.plain()}
    os.write(task, dumps(asked))
    os.lseek(task, 0, os.SEEK_SET)
    source, into = os.pipe2(os.O_CLOEXEC)
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    theirs = {source: 0, pipes[0][1]: 1, pipes[1][1]: 2, task: _TASK, pipes[2][1]: _ANSWER}
    try:
        pid = started("veloci.engine.exec_process", descriptors=theirs)
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    stdout, stderr, raw = _copied(into, [ours for ours, _ in pipes], input)
    os.waitpid(pid, 0)
    if not raw:
        raise VelociError("the process that was to run the command was killed")
    found = loads(raw)
    if "message" in found:
        raise revived(found)
    return int(found["status"]), stdout, stderr


def _copied(into: int, sources: Sequence[int], input: bytes) -> list[bytes]:
    """Write `input`, and read every source to its end; all are closed then."""
    found: dict[int, list[bytes]] = {descriptor: [] for descriptor in sources}
    waiting = poll()
    for descriptor in sources:
        waiting.register(descriptor, POLLIN)
    os.set_blocking(into, False)
    waiting.register(into, POLLOUT)
    left, open_ = memoryview(input), {into, *sources}
    while open_ - {into}:
        for descriptor, _ in waiting.poll():
            if descriptor == into:
                try:
                    left = left[os.write(into, left[:_SOME]) :] if left else left
                except BrokenPipeError:
                    left = left[:0]
                done = not left
            else:
                data = os.read(descriptor, _SOME)
                found[descriptor].append(data)
                done = not data
            if done:
                waiting.unregister(descriptor)
                os.close(descriptor)
                open_.discard(descriptor)
    if into in open_:
        os.close(into)
    return [b"".join(parts) for parts in found.values()]


def main() -> NoReturn:
    """The child: join, wait, say how it ended."""
    from veloci.bundle.options import Options
    from veloci.engine.engine import Engine
    from veloci.kernel.process import exit_status

    for descriptor in (_TASK, _ANSWER):
        os.set_inheritable(descriptor, False)
    found: dict[str, Any]
    try:
        with open(_TASK, "rb") as file:
            task = loads(file.read())
        containers = Engine(task["root"], task["run"]).containers
        pid, _ = containers.exec(task["id"], task["args"], Options.convert(task["options"]), (0, 1, 2))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        found = {"status": exit_status(os.waitpid(pid, 0)[1])}
    except VelociError as error:
        found = error.plain()
    except BaseException as error:  # noqa: BLE001 -- the last frame of this process
        found = VelociError(f"the command failed: {error!r}").plain()
    os.write(_ANSWER, dumps(found))
    os._exit(0)

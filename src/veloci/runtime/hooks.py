"""Hooks: programs of config.json that read the container's state.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md#posix-platform-hooks
"""

from __future__ import annotations

import os
from select import poll

from veloci.errors import HostError, VelociError
from veloci.kernel.process import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from veloci.spec.runtime import Hook


def run(name: str, hooks: Sequence[Hook], state: bytes) -> None:
    """Run `hooks` one after the other, each with `state` on its stdin.

    Raises VelociError with the hook's place in config.json when one fails or outlasts its timeout.
    """
    for index, hook in enumerate(hooks):
        at = f"config.json: $.hooks.{name}[{index}]"
        try:
            status = _run(hook, state)
        except OSError as error:
            raise HostError(f"hook {hook.path}", error, where=at) from error
        if status:
            raise VelociError(f"hook {hook.path} failed with status {status}", where=at)


def _run(hook: Hook, state: bytes) -> int:
    """Its exit status. Raises TimeoutError, OSError."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(reader, 0)
            os.closerange(3, 64)
            environment = dict(entry.partition("=")[::2] for entry in hook.env)
            os.execve(hook.path, list(hook.args) or [hook.path], environment)
        finally:
            os._exit(127)
    os.close(reader)
    process = pidfd(pid)
    try:
        try:
            os.write(writer, state)  # less than a pipe holds
        except BrokenPipeError:
            pass  # it need not read
        finally:
            os.close(writer)
        waiting = poll()
        waiting.register(process)
        if not waiting.poll(None if hook.timeout is None else hook.timeout * 1000):
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise TimeoutError(110, f"took more than {hook.timeout} s")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(process)

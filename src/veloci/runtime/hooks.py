"""Hooks: programs of config.json that read the container's state.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md#posix-platform-hooks
"""

from __future__ import annotations

import os
from _signal import strsignal
from select import POLLIN, poll
from time import monotonic

from veloci.errors import HostError, InvalidInput, VelociError
from veloci.kernel.process import close_range, pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veloci.runtime.state import Directory
    from veloci.spec.runtime import Hook, Hooks

_SAID = 2048  # bytes of a hook's output that its error shows


def check(hooks: Hooks) -> None:
    """Raise InvalidInput, with the place, for a hook that the specification forbids."""
    for name, value in hooks.plain().items():
        for index, hook in enumerate(value):
            where = f"config.json: $.hooks.{name}[{index}]"
            if not hook["path"].startswith("/"):
                raise InvalidInput(f"{hook['path']!r} is not an absolute path", where=f"{where}.path")
            if hook.get("timeout", 1) <= 0:
                raise InvalidInput("must be greater than zero", where=f"{where}.timeout")
            for number, entry in enumerate(hook.get("env", ())):
                if "=" not in entry:
                    raise InvalidInput(f"{entry!r} is not NAME=VALUE", where=f"{where}.env[{number}]")


def begin(directory: Directory) -> None:
    """Start the container and wait for its startContainer hooks. Raises VelociError with the place of one that failed.

    The container's process has both ends of start.fifo open until it becomes its program.
    """
    reader = os.open(f"{directory.path}/start.fifo", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        directory.begin()
        waiting = poll()
        waiting.register(reader, POLLIN)
        waiting.poll()
        try:
            where, text = os.read(reader, 65536).decode(errors="replace").split("\0", 1)
        except ValueError:
            return  # the end of the file: it is its program now
        raise VelociError(text, where=where)
    finally:
        os.close(reader)


def run(name: str, hooks: Sequence[Hook], state: bytes, environment: Mapping[str, str] | None = None) -> None:
    """Run `hooks` one after the other, each with `state` on its stdin and no environment but its own.

    environment: that of a hook which names none.
    What they print is shown only when they fail, as in runc.
    Raises VelociError with the hook's place in config.json when one fails or outlasts its timeout.
    """
    for index, hook in enumerate(hooks):
        at = f"config.json: $.hooks.{name}[{index}]"
        try:
            status, said = _run(hook, state, environment or {})
        except OSError as error:
            raise HostError(f"error running {name} hook #{index}: {hook.path}", error, where=at) from error
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status} ({strsignal(-status).lower()})"
            text = said.decode(errors="replace").strip()
            ended = f"{hook.path} failed with {how}{': ' if text else ''}{text}"
            raise VelociError(f"error running {name} hook #{index}: {ended}", where=at)  # runc's words


def _run(hook: Hook, state: bytes, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """Its exit status, a signal as a negative number, and what it printed. Raises TimeoutError, OSError."""
    reader, writer = os.pipe()
    output, printed = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(hook, reader, printed, environment)
    os.close(reader)
    os.close(printed)
    process = pidfd(pid)
    try:
        try:
            os.write(writer, state)  # less than a pipe holds
        except BrokenPipeError:
            pass  # it need not read
        finally:
            os.close(writer)
        said = _listen(process, output, hook.timeout)
        if said is None:
            os.kill(pid, 9)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if said is None:
            raise TimeoutError(110, f"took more than {hook.timeout} s")
        return status, said
    finally:
        os.close(output)
        os.close(process)


def _become(hook: Hook, stdin: int, output: int, environment: Mapping[str, str]) -> None:
    """In the child: the hook's program, or status 127 with the reason."""
    try:
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        close_range(3)
        if hook.env:
            environment = dict(entry.partition("=")[::2] for entry in hook.env)
        os.execve(hook.path, list(hook.args) or [hook.path], environment)
    except OSError as error:
        os.write(2, str(error.strerror).encode())
    finally:
        os._exit(127)


def _listen(process: int, output: int, timeout: int | None) -> bytes | None:
    """What is printed until the process ends; None if it takes more than `timeout` seconds.

    What it leaves running may keep the output open: that is not waited for.
    """
    said = b""
    waiting = poll()
    waiting.register(process, POLLIN)
    waiting.register(output, POLLIN)
    end = None if timeout is None else monotonic() + timeout
    while True:
        left = None if end is None else max(0, (end - monotonic()) * 1000)
        ready = dict(waiting.poll(left if left is None else min(left, 2**31 - 1)))
        if not ready:
            return None
        if output in ready:
            part = os.read(output, 65536)
            if part:
                said = (said + part)[:_SAID]
                continue
            waiting.unregister(output)
        if process in ready:
            return said

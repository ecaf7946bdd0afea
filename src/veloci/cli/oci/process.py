"""A container's process, for the command that started it."""

from __future__ import annotations

import posix


def write_pid(file: str, pid: int) -> None:
    """Write a pid file, whole and without a newline."""
    if file:
        with open(f"{file}.tmp", "w") as stream:
            stream.write(str(pid))
        posix.rename(f"{file}.tmp", file)


def send_pidfd(path: str, pid: int) -> None:
    """Send a descriptor of process `pid` to the AF_UNIX socket at `path`; "" is none. Raises InvalidInput."""
    if not path:
        return
    from veloci.errors import InvalidInput
    from veloci.kernel import tty
    from veloci.kernel.process import pidfd

    descriptor = pidfd(pid)
    try:
        socket = tty.connect(path)
        tty.send(socket, descriptor, "pidfd")
        posix.close(socket)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", where="--pidfd-socket") from None
    finally:
        posix.close(descriptor)


def forward(pid: int) -> None:
    """Forward signals to `pid` from now on."""
    import _signal  # `signal` imports enum

    def send(number: int, _frame: object) -> None:
        try:
            posix.kill(pid, number)
        except ProcessLookupError:
            return

    for number in (1, 2, 3, 10, 12, 15):
        _signal.signal(number, send)


def wait(pid: int) -> int:
    """Forward signals to `pid` until it ends. Returns its exit status as a shell tells it."""
    from veloci.kernel.process import exit_status

    forward(pid)
    return exit_status(posix.waitpid(pid, 0)[1])

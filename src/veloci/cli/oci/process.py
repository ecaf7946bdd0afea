"""A container's process, for the command that started it."""

from __future__ import annotations

import posix


def write_pid(file: str, pid: int) -> None:
    """Write a pid file, whole and without a newline."""
    if file:
        with open(f"{file}.tmp", "w") as stream:
            stream.write(str(pid))
        posix.rename(f"{file}.tmp", file)


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

"""A container's process, for the command that started it."""

from __future__ import annotations

import posix


def write_pid(file: str, pid: int) -> None:
    """Write a pid file, whole and without a newline."""
    if file:
        with open(f"{file}.tmp", "w") as stream:
            stream.write(str(pid))
        posix.rename(f"{file}.tmp", file)


def wait(pid: int) -> int:
    """Forward signals to `pid` until it ends. Returns its exit status as a shell tells it."""
    import _signal  # `signal` imports enum

    from veloci.kernel.process import exit_status

    def forward(number: int, _frame: object) -> None:
        try:
            posix.kill(pid, number)
        except ProcessLookupError:
            return

    for number in (1, 2, 3, 10, 12, 15):
        _signal.signal(number, forward)
    return exit_status(posix.waitpid(pid, 0)[1])

"""`start`, `kill`, `delete`, `pause` and `resume`."""

from __future__ import annotations

import posix

from veloci.cli.oci.main import load, root
from veloci.errors import InvalidInput, NotFound

_SIGNALS = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()


def start(id: str, /) -> int:
    """Run the program of a created container."""
    container = load(id)
    if host := posix.environ.get(b"NOTIFY_SOCKET"):
        from veloci.runtime import notify

        notify.start(container, host.decode(errors="surrogateescape"))
        return 0
    container.start()
    return 0


def kill(id: str, signal: str = "TERM", /, *, all: bool = False) -> int:
    """Send a signal to a container's first process.

    -a, --all  to all its processes
    """
    name = signal.upper().removeprefix("SIG")
    if name.isdigit():
        number = int(name)
    elif name in _SIGNALS:
        number = _SIGNALS.index(name) + 1
    else:
        raise InvalidInput(f"unknown signal {signal!r}")
    load(id).kill(number, all=all)
    return 0


def delete(id: str, /, *, force: bool = False) -> int:
    """Remove a container.

    -f, --force  kill it first if it runs; one that does not exist is no error
    """
    try:
        load(id).delete(force=force)
    except NotFound:
        if not force:
            raise
    except InvalidInput:  # its state is damaged
        if not force:
            raise
        from veloci.runtime.salvage import remove

        remove(id, root())
    return 0


def pause(id: str, /) -> int:
    """Stop all processes of a container where they are."""
    load(id).pause()
    return 0


def resume(id: str, /) -> int:
    """Let the processes of a paused container go on."""
    load(id).resume()
    return 0

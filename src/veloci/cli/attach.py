"""`veloci attach`."""

from __future__ import annotations

from veloci.engine.engine import Engine
from veloci.errors import Conflict, InvalidInput

_HINTS = {
    "created": "start it first",
    "exited": "start it first",
    "paused": "unpause it first",
    "restarting": "wait until it is running",
}


def attach(
    container: str, /, *, no_stdin: bool = False, sig_proxy: bool = True, detach_keys: str = "ctrl-p,ctrl-q"
) -> int:
    """Join a running container: its output, its input, its end.

    --no-stdin            leave its standard input alone
    --sig-proxy           pass signals on to it (--sig-proxy=false does not)
    --detach-keys KEYS    what to type to leave it running (default ctrl-p,ctrl-q)
    """
    from veloci.cli.relay import needs_terminal
    from veloci.monitor.client import redraw, serve

    containers = Engine().containers
    record = containers.records.load(containers.records.find(container))
    status = containers.records.current(record.id).status
    if status in _HINTS:
        what = "stopped" if status in ("created", "exited") else status
        raise Conflict(f"you cannot attach to a {what} container, {_HINTS[status]}")
    stdin = record.stdin and not no_stdin
    if stdin and record.tty:
        needs_terminal()
    connection = containers.connect(record.id)
    if record.tty:
        redraw(connection)
    return serve(
        connection,
        stdin=stdin,
        tty=record.tty,
        forward=sig_proxy and not record.tty,
        detach_keys=detach_keys,
    )


def started(engine: Engine, words: tuple[str, ...], *, stdin: bool, detach_keys: str) -> int:
    """Start a container and join it (`start --attach`). Returns its exit status, 0 when the user detaches."""
    from veloci.cli.relay import needs_terminal
    from veloci.monitor.client import Detached, serve

    if len(words) > 1:
        raise InvalidInput("you cannot start and attach multiple containers at once")
    record = engine.containers.records.load(engine.containers.records.find(words[0]))
    stdin = stdin and record.stdin
    if stdin and record.tty:
        needs_terminal()
    if engine.containers.records.current(record.id).status == "running":
        connection = engine.containers.connect(record.id)
    else:
        begun = engine.containers.start(record.id, attach=True)
        assert begun is not None
        connection = begun
    try:
        return serve(connection, stdin=stdin, tty=record.tty, forward=not record.tty, detach_keys=detach_keys)
    except Detached:
        return 0

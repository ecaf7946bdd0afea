"""start, stop, kill, restart, rm, wait, rename, port: the verbs on containers that are there."""

from __future__ import annotations

import sys

from veloci.errors import VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.engine.containers import Containers


def _each(names: tuple[str, ...], verb: Callable[[Containers, str], object]) -> int:
    """Do it to each, echo its name; those that fail are told and do not keep the others from it."""
    from veloci.cli.main import escaped
    from veloci.engine.engine import Engine

    containers, status = Engine(forks=True).containers, 0
    for name in names:
        try:
            verb(containers, name)
            print(name)
        except VelociError as error:
            print(f"veloci: {escaped(str(error))}", file=sys.stderr)
            if error.hint:
                print(f"  try: {escaped(error.hint)}", file=sys.stderr)
            status = 1
    return status


def start(container: str, /, *containers: str, attach: bool = False, interactive: bool = False) -> int:
    """Run containers that were made or have ended.

    -a, --attach       show the output, and end with its exit status
    -i, --interactive  pass standard input to it
    """
    if not (attach or interactive):
        return _each((container, *containers), lambda all, name: all.start(name))
    from veloci.engine.engine import Engine
    from veloci.monitor.client import serve

    engine = Engine(forks=True)
    record = engine.containers.records.load(engine.containers.records.find(container))
    connection = engine.containers.start(container, attach=True)
    return serve(connection, stdin=interactive, tty=record.tty) if connection else 0


def stop(container: str, /, *containers: str, time: int | None = None) -> int:
    """Ask containers to end, and kill those that do not.

    -t, --time, --timeout SECONDS  how long to wait before that (default: 10)
    """
    return _each((container, *containers), lambda all, name: all.stop(name, timeout=time))


def kill(container: str, /, *containers: str, signal: str = "KILL") -> int:
    """Send a signal to containers' first processes.

    -s, --signal SIGNAL  which (default: KILL)
    """
    from veloci.engine.containers import signal_number

    number = signal_number(signal)
    return _each((container, *containers), lambda all, name: all.kill(name, number, by_hand=number == 9))


def restart(container: str, /, *containers: str, time: int | None = None) -> int:
    """Stop containers and start them again.

    -t, --time, --timeout SECONDS  how long to wait before killing (default: 10)
    """

    def again(all: Containers, name: str) -> None:
        all.stop(name, timeout=time)
        all._settled(all.records.find(name))
        all.start(name)

    return _each((container, *containers), again)


def rm(container: str, /, *containers: str, force: bool = False) -> int:
    """Remove containers.

    -f, --force  also those that run; one that does not exist is fine
    """
    from veloci.errors import NotFound

    def remove(all: Containers, name: str) -> None:
        try:
            all.remove(name, force=force)
        except NotFound:
            if not force:
                raise

    return _each((container, *containers), remove)


def wait(container: str, /, *containers: str) -> int:
    """Wait until containers have ended, and print their exit statuses."""
    from veloci.engine.engine import Engine

    for name in (container, *containers):
        print(Engine().containers.wait(name), flush=True)
    return 0


def rename(container: str, name: str, /) -> int:
    """Give a container another name."""
    from veloci.engine.engine import Engine

    records = Engine().containers.records
    records.rename(records.load(records.find(container)), name)
    return 0


def port(container: str, /) -> int:
    """List the published ports of a container."""
    from veloci.engine.engine import Engine

    for inner, outer in Engine().containers.inspect(container)["NetworkSettings"]["Ports"].items():
        for place in outer:
            print(f"{inner} -> {place['HostIp'] or '0.0.0.0'}:{place['HostPort']}")
    return 0

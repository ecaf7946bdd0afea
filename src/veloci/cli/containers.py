"""`veloci start`, `stop`, `kill`, `restart`, `rm`, `wait`, `rename`, `port`."""

from __future__ import annotations

from veloci.cli.main import each
from veloci.cli.run import warn
from veloci.engine.engine import Engine
from veloci.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(
    container: str,
    /,
    *containers: str,
    attach: bool = False,
    interactive: bool = False,
    detach_keys: str = "ctrl-p,ctrl-q",
) -> int:
    """Start containers that were created or have ended.

    -a, --attach        show the output, end with its exit status
    -i, --interactive   pass standard input on
    --detach-keys KEYS  what to type to leave it running (default ctrl-p,ctrl-q)
    """
    engine = Engine(forks=True)
    if attach or interactive:
        from veloci.cli.attach import started

        return started(engine, (container, *containers), stdin=interactive, detach_keys=detach_keys)

    def one(word: str) -> None:
        engine.containers.start(word, running=True)
        warn(engine)
        print(word)

    return each(one, (container, *containers))


def stop(container: str, /, *containers: str, time: int | None = None, signal: str = "") -> int:
    """Ask containers to end, and kill those that do not.

    -t, --time, --timeout SECONDS  how long to wait before that; -1 for ever
    -s, --signal SIGNAL            what to send, instead of the container's own
    """
    return _stopped(Engine(), (container, *containers), time, signal, print)


def _stopped(engine: Engine, words: tuple[str, ...], time: int | None, signal: str, then: Callable[[str], None]) -> int:
    """Ask all to end, and then wait for one after the other, and do with it what comes `then`."""
    from veloci.engine.stopping import signal_number

    number = signal_number(signal, "--signal") if signal else None
    asked: list[tuple[str, Callable[[], None]]] = []

    def ask(word: str) -> None:
        asked.append((word, engine.containers.stopping(word, timeout=time, signal=number)))

    status = each(ask, words)
    ending = iter(asked)

    def one(word: str) -> None:
        next(ending)[1]()
        warn(engine)
        then(word)

    return each(one, [word for word, _ in asked]) or status


def restart(container: str, /, *containers: str, time: int | None = None, signal: str = "") -> int:
    """Stop containers and start them again.

    -t, --time, --timeout SECONDS  how long to wait before a container is killed; -1 for ever
    -s, --signal SIGNAL            what to send before that, instead of the container's own
    """
    engine = Engine(forks=True)

    def again(word: str) -> None:
        engine.containers.settled(word)
        engine.containers.start(word)
        engine.containers.tell(engine.containers.records.find(word), "restart")
        warn(engine)
        print(word)

    return _stopped(engine, (container, *containers), time, signal, again)


def kill(container: str, /, *containers: str, signal: str = "KILL") -> int:
    """Send a signal to the first process of containers.

    -s, --signal SIGNAL  its name or number
    """
    from veloci.engine.stopping import signal_number

    engine, number = Engine(), signal_number(signal)

    def one(word: str) -> None:
        engine.containers.kill(word, number, by_hand=True)
        print(word)

    return each(one, (container, *containers))


def rm(container: str, /, *containers: str, force: bool = False, volumes: bool = False) -> int:
    """Remove containers.

    -f, --force    also those that run; no complaint about one that is not there
    -v, --volumes  their anonymous volumes, too
    """
    engine = Engine()

    def one(word: str) -> None:
        try:
            engine.containers.remove(word, force=force, volumes=volumes)
        except NotFound:
            if not force:
                raise
            return
        print(word)

    return each(one, (container, *containers))


def wait(container: str, /, *containers: str) -> int:
    """Wait until containers have ended; print their exit statuses."""
    engine = Engine()

    def one(word: str) -> None:
        print(engine.containers.wait(word))

    return each(one, (container, *containers))


def rename(container: str, name: str, /) -> int:
    """Give a container another name."""
    Engine().containers.rename(container, name)
    return 0


def port(container: str, private_port: str = "", /) -> int:
    """Show the published ports of a container, or where one of its own (PORT or PORT/PROTOCOL) is published."""
    found = Engine().containers.inspect(container)["NetworkSettings"]["Ports"]
    wanted = private_port if "/" in private_port or not private_port else f"{private_port}/tcp"
    if wanted and not found.get(wanted):
        raise NotFound(f"no public port {wanted!r} published for {container}", hint=f"veloci port {container}")
    for inside, places in found.items():
        for place in places or ():
            host = f"[{place['HostIp']}]" if ":" in place["HostIp"] else place["HostIp"]
            if wanted in ("", inside):
                print(f"{host}:{place['HostPort']}" if wanted else f"{inside} -> {host}:{place['HostPort']}")
    return 0

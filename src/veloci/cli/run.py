"""`veloci run` and `veloci create`."""

from __future__ import annotations

from _thread import allocate_lock

from veloci.engine.run_options import RunOptions
from veloci.errors import Conflict, InvalidInput, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from veloci.cli.progress import Progress
    from veloci.engine.engine import Engine


def run(
    image: str,
    /,
    *command: str,
    detach: bool = False,
    attach: tuple[str, ...] = (),
    cidfile: str = "",
    quiet: bool = False,
    detach_keys: str = "ctrl-p,ctrl-q",
    sig_proxy: bool = True,
    options: RunOptions = RunOptions(),  # noqa: B008 -- frozen
) -> int:
    """Run a command in a new container of IMAGE.

    -d, --detach               run in the background and print the container's ID
    -a, --attach STREAM        show stdout or stderr only; stdin alone shows nothing
    --cidfile FILE             write the ID to a file
    -q, --quiet                say nothing of a pull
    --detach-keys KEYS         what to type to leave it running (default ctrl-p,ctrl-q)
    --sig-proxy                pass signals on to it (--sig-proxy=false does not)
    """
    from os import isatty

    from veloci.monitor import keys

    keys.parse(detach_keys)
    streams = tuple(stream.lower() for stream in attach)
    for stream in streams:
        if stream not in ("stdin", "stdout", "stderr"):
            raise InvalidInput(f"no stream {stream!r}", where="--attach", hint="stdin, stdout or stderr")
    if streams and detach:
        raise InvalidInput("conflicting options: cannot specify both --attach and --detach", exit_status=1)
    if options.tty and options.interactive and not detach and not isatty(0):
        raise InvalidInput("the input device is not a TTY", exit_status=1)
    engine, id = _created(image, command, options, cidfile, quiet=quiet, stdin_once=not detach)
    try:
        connection = engine.containers.start(id, attach=not detach)
    except VelociError:
        if options.rm:
            engine.containers.remove(id, force=True)
        raise
    warn(engine)
    if connection is None:
        if not options.rm:
            from veloci.engine.lasting import keep

            keep(engine, id)
        print(id)
        return 0
    from veloci.monitor.client import Detached, serve

    try:
        return serve(
            connection,
            stdin=options.interactive,
            tty=options.tty,
            forward=sig_proxy,
            detach_keys=detach_keys,
            shown=streams or ("stdout", "stderr"),
        )
    except Detached:
        return 0
    finally:
        connection.close()


def create(
    image: str,
    /,
    *command: str,
    cidfile: str = "",
    quiet: bool = False,
    options: RunOptions = RunOptions(),  # noqa: B008 -- frozen
) -> int:
    """Make a container of IMAGE that `veloci start` runs, and print its ID.

    --cidfile FILE             write the ID to a file
    -q, --quiet                say nothing of a pull
    """
    from veloci.engine.lasting import keep

    engine, id = _created(image, command, options, cidfile, quiet=quiet)
    keep(engine, id)
    warn(engine)
    print(id)
    return 0


def warn(engine: Engine) -> None:
    """Print what a verb did or met that the user should know."""
    import sys

    from veloci.cli.main import escaped

    for text in engine.warnings:
        print(f"veloci: warning: {escaped(text)}", file=sys.stderr)
    engine.warnings.clear()


def _created(
    image: str, command: tuple[str, ...], options: RunOptions, cidfile: str, *, quiet: bool, stdin_once: bool = True
) -> tuple[Engine, str]:
    """A container that is made, and its ID in `cidfile`."""
    from os import unlink

    from veloci.engine.engine import Engine

    if cidfile:
        _write(cidfile, "", "x")  # before there is a container that nobody could name
    engine = Engine(forks=True)
    try:
        with _Pull(image, quiet=quiet, missing=options.pull != "always") as pull:
            id = engine.containers.create(image, command, options, stdin_once=stdin_once, progress=pull)
    except BaseException:
        if cidfile:
            unlink(cidfile)
        raise
    if cidfile:
        _write(cidfile, id, "w")
    return engine, id


class _Pull:
    """Tells of a pull, once there is one: most containers' images are here, and bars cost an import."""

    def __init__(self, image: str, *, quiet: bool, missing: bool) -> None:
        """missing: it is pulled because it is not here."""
        self._image, self._quiet, self._missing = image, quiet, missing
        self._told: Progress | None = None
        self._lock = allocate_lock()  # layers are pulled in parallel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        if self._told:
            self._told.__exit__(*why)

    def _begun(self) -> Progress:
        with self._lock:
            return self._told or self._begin()

    def _begin(self) -> Progress:
        import sys

        from veloci.cli.progress import progress
        from veloci.spec.reference import Reference

        if self._missing and not self._quiet:
            name = Reference.parse(self._image).with_default_tag().familiar()
            print(f"Unable to find image '{name}' locally", file=sys.stderr)
        self._told = progress(quiet=self._quiet, stream=sys.stderr)
        self._told.__enter__()
        return self._told

    def start(self, key: str, text: str, total: int | None = None) -> None:
        """As Progress.start."""
        self._begun().start(key, text, total)

    def advance(self, key: str, count: int) -> None:
        """As Progress.advance."""
        self._begun().advance(key, count)

    def done(self, key: str, text: str) -> None:
        """As Progress.done."""
        self._begun().done(key, text)


def _write(path: str, text: str, mode: str) -> None:
    """Write --cidfile. Raises Conflict if it is there, InvalidInput."""
    try:
        with open(path, mode) as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"container ID file found: {path}", where="--cidfile", hint=f"rm {path}") from None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", where="--cidfile") from None

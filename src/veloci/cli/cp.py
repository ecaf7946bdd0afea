"""`veloci cp`."""

from __future__ import annotations

import os
from stat import S_ISDIR

from veloci.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from veloci.engine.copying import Place
    from veloci.engine.engine import Engine

_CHUNK = 1 << 20  # bytes


def cp(
    source: str, destination: str, /, *, archive: bool = False, follow_link: bool = False, quiet: bool = False
) -> int:
    """Copy files between a container and this host: CONTAINER:PATH to PATH, or PATH to CONTAINER:PATH.

    The host's path may be -, a tar that is written to standard output or read from standard input. A directory
    is copied as a whole; with /. at its end, what is in it. A container need not run. Files in a container keep
    their owners' numbers; files here become ours.

    -a, --archive      here, too, they keep their owners' numbers
    -L, --follow-link  copy what a symlink leads to
    -q, --quiet        say nothing of what was copied
    """
    from veloci.engine.engine import Engine

    engine = Engine()
    ours, theirs = _split(source), _split(destination)
    if bool(ours) == bool(theirs):
        raise InvalidInput(
            "copying between containers is not supported" if ours else "must specify at least one container source",
            where="veloci cp",
            hint="veloci cp CONTAINER:PATH PATH, or PATH CONTAINER:PATH",
        )
    if ours and destination == "-":
        _to_tar(engine, *ours, follow=follow_link)
        return 0
    if theirs and source == "-":
        _from_tar(engine, *theirs, destination)
        return 0
    with _place(engine, source, ours) as start, _place(engine, destination, theirs, writing=True) as end:
        owner = None if archive or theirs else (os.geteuid(), os.getegid())
        size = _copied(start, end, follow=follow_link, owner=owner)
    if not quiet:
        import sys

        from veloci.cli.output import size as sized

        print(f"Successfully copied {sized(size)} to {destination}", file=sys.stderr)
    return 0


def _split(text: str) -> tuple[str, str] | None:
    """`CONTAINER:PATH`; None for a path of the host: what begins with `/` or `.`, and what has no colon."""
    name, colon, path = text.partition(":")
    return (name, path if path.startswith("/") else f"/{path}") if colon and name[:1] not in ("/", ".", "") else None


def _place(
    engine: Engine, text: str, theirs: tuple[str, str] | None, *, writing: bool = False
) -> AbstractContextManager[Place]:
    from veloci.engine import copying

    if theirs:
        return copying.container(engine, *theirs, writing=writing)
    return copying.host(text)


def _copied(start: Place, end: Place, *, follow: bool, owner: tuple[int, int] | None) -> int:
    """Copy. Returns the bytes of the tar that passed."""
    from veloci.engine.copying import archive, extract, target

    status = start.status(follow=follow or start.directory)
    if status is None:
        raise NotFound(f"no such file or directory: {start.shown}")
    directory = S_ISDIR(status.st_mode)
    place, name = target(end, start.name, directory=directory, contents=start.contents or not start.name)
    passed = 0

    def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal passed
        for chunk in chunks:
            passed += len(chunk)
            yield chunk

    extract(counted(archive(start, name, follow=follow)), place, owner=owner)
    return passed


def _to_tar(engine: Engine, word: str, path: str, *, follow: bool) -> None:
    from veloci.engine.copying import archive, container
    from veloci.monitor.client import write

    if os.isatty(1):
        raise InvalidInput("a tar is not written to a terminal", hint="veloci cp CONTAINER:PATH - >FILE")
    with container(engine, word, path) as place:
        for chunk in archive(place, "" if place.contents else place.name, follow=follow):
            write(1, chunk)


def _from_tar(engine: Engine, word: str, path: str, shown: str) -> None:
    from veloci.engine.copying import container, extract
    from veloci.layer.stream import decompressed

    with container(engine, word, path, writing=True) as place:
        status = place.status(follow=True)
        if status is None or not S_ISDIR(status.st_mode):
            raise InvalidInput(f"destination {shown!r} must be a directory")
        chunks = iter(lambda: os.read(0, _CHUNK), b"")
        extract(decompressed(chunks), place)

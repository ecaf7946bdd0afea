"""`veloci diff`, `commit`."""

from __future__ import annotations

from veloci.engine.engine import Engine


def diff(container: str, /) -> int:
    """List what a container has added (A), changed (C) and deleted (D) in its root file system."""
    from veloci.cli.output import show
    from veloci.engine.changes import changes

    show("".join(f"{kind} {path}\n" for kind, path in changes(Engine(), container)))
    return 0


def commit(
    container: str,
    repository: str = "",
    /,
    *,
    author: str = "",
    change: tuple[str, ...] = (),
    message: str = "",
    pause: bool = True,
) -> int:
    """Keep what a container has written as an image, and print the image's ID.

    REPOSITORY is the name, with a tag or without, that it gets.

    -a, --author TEXT   who made it
    -c, --change TEXT   a Dockerfile instruction on its configuration (ENV A=1)
    -m, --message TEXT  a comment
    -p, --pause         pause the container meanwhile (--pause=false does not)
    """
    from veloci.engine.changes import commit as kept
    from veloci.image.image import Image
    from veloci.spec.reference import Reference

    engine = Engine()
    reference = Reference.parse(repository).with_default_tag() if repository else None
    descriptor = kept(engine, container, reference, author=author, message=message, edits=change, hold=pause)
    print(Image(engine.store, descriptor).id)
    return 0

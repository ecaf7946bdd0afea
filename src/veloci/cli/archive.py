"""`veloci save` and `veloci load`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference


def save(*images: str, output: str | None = None) -> int:
    """Write images to an archive that docker load and podman load read.

    The same images give the same bytes. It is an OCI image layout as well.

    -o, --output FILE   write to FILE, which appears when it is whole (default: standard output)
    """
    import os
    import sys

    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput
    from veloci.transport.archives import save

    if not images:
        raise InvalidInput("takes IMAGE [IMAGE...]", where="veloci save", hint="veloci save --help")
    if output is None and os.isatty(1):
        raise InvalidInput("cowardly refusing to save to a terminal", hint="veloci save -o FILE IMAGE, or redirect")
    engine = Engine()
    chosen: dict[str, tuple[Descriptor, list[Reference]]] = {}
    for name in images:
        descriptor, tag = _named(engine, name)
        tags = chosen.setdefault(descriptor.digest, (descriptor, []))[1]
        if tag and tag not in tags:
            tags.append(tag)
    sys.stdout.flush()
    save(engine.store, engine.names, list(chosen.values()), 1 if output is None else output)
    return 0


def load(*, input: str | None = None, quiet: bool = False) -> int:
    """Read images from an archive, of docker save, podman save or skopeo, or an OCI image layout.

    -i, --input FILE   read FILE, or a layout's directory (default: standard input)
    -q, --quiet        show no progress
    """
    import os

    from veloci.cli.progress import progress
    from veloci.engine.engine import Engine
    from veloci.engine.tasks import parallel
    from veloci.errors import InvalidInput
    from veloci.spec.reference import Reference
    from veloci.transport.archives import load

    if input is None and os.isatty(0):
        raise InvalidInput("requested load from stdin, but stdin is empty", hint="veloci load -i FILE")
    engine = Engine()
    with progress(quiet=quiet) as told:
        found = list(load(engine.store, engine.names, 0 if input is None else input, progress=told, parallel=parallel))
    for name, descriptor in found:
        if name:
            print(f"Loaded image: {Reference.parse(name).familiar()}")
        else:
            print(f"Loaded image ID: {_id(engine, descriptor)}")
    return 0


def _named(engine: Engine, name: str) -> tuple[Descriptor, Reference | None]:
    """What a name or an ID is in the store, and under which name to save it."""
    from veloci.errors import InvalidInput, NotFound
    from veloci.spec.reference import Reference

    try:
        reference = Reference.parse(name).with_default_tag()
        return engine.names.get(str(reference)), reference
    except (InvalidInput, NotFound):
        return engine.images.resolve(name).descriptor, None


def _id(engine: Engine, descriptor: Descriptor) -> str:
    from veloci.image.image import select

    return select(engine.store, descriptor).id

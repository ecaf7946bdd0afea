"""`veloci save` and `veloci load`."""

from __future__ import annotations


def save(*images: str, output: str | None = None) -> int:
    """Write images to an archive that docker load and podman load read.

    The same images give the same bytes. It is an OCI image layout as well.

    -o, --output FILE   write to FILE, which appears when it is whole (default: standard output)
    """
    import os
    import sys

    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput

    if not images:
        raise InvalidInput("takes IMAGE [IMAGE...]", where="veloci save", hint="veloci save --help")
    if output is None and os.isatty(1):
        raise InvalidInput("cowardly refusing to save to a terminal", hint="veloci save -o FILE IMAGE, or redirect")
    sys.stdout.flush()
    Engine().images.save(images, 1 if output is None else output)
    return 0


def load(*, input: str | None = None, quiet: bool = False) -> int:
    """Read images from an archive, of docker save, podman save or skopeo, or an OCI image layout.

    -i, --input FILE   read FILE, or a layout's directory (default: standard input)
    -q, --quiet        show no progress
    """
    import os

    from veloci.cli.progress import progress
    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput

    if input is None and os.isatty(0):
        raise InvalidInput("requested load from stdin, but stdin is empty", hint="veloci load -i FILE")
    with progress(quiet=quiet) as told:
        found = list(Engine().images.load(0 if input is None else input, progress=told))
    for name, image in found:
        print(f"Loaded image: {name.familiar()}" if name else f"Loaded image ID: {image.id}")
    return 0

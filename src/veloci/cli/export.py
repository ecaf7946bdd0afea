"""`veloci export`."""

from __future__ import annotations


def export(container: str, /, *, output: str = "") -> int:
    """Write a container's root file system as a tar.

    -o, --output FILE  to a file instead of standard output
    """
    import os
    import sys

    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput

    if not output and os.isatty(1):
        raise InvalidInput("a tar is not for a terminal", hint="use -o FILE, or redirect")
    chunks = Engine().containers.export(container)
    with open(output, "wb") if output else sys.stdout.buffer as file:
        for chunk in chunks:
            file.write(chunk)
    return 0

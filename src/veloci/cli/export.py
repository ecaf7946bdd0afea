"""`veloci export`."""

from __future__ import annotations

import os
import sys

from veloci.content.files import appear
from veloci.engine.engine import Engine
from veloci.errors import InvalidInput


def export(container: str, /, *, output: str | None = None) -> int:
    """Write a container's root file system as a tar.

    -o, --output FILE  to FILE instead of standard output
    """
    if output is None and os.isatty(1):
        raise InvalidInput("refusing to write a tar to a terminal", hint="use -o FILE, or redirect it")
    containers = Engine().containers
    containers.records.find(container)
    if output is None:
        for chunk in containers.export(container):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return 0
    temporary = f"{output}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            for chunk in containers.export(container):
                file.write(chunk)
            file.flush()
            appear(file.fileno(), temporary, output)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return 0

"""`veloci logs`."""

from __future__ import annotations

import sys
from time import sleep

from veloci.engine.engine import Engine
from veloci.errors import InvalidInput
from veloci.monitor.logs import Reader

_PAUSE = 0.1  # seconds between two looks at a log that is followed


def logs(container: str, /, *, follow: bool = False, tail: str = "all", timestamps: bool = False) -> int:
    """Show what a container wrote.

    -f, --follow      go on until it ends
    -n, --tail LINES  only the last so many, or all
    -t, --timestamps  each line with its time
    """
    records = Engine().containers.records
    id = records.find(container)
    if tail != "all" and not (tail.isascii() and tail.isdigit()):
        raise InvalidInput(f"{tail!r} is not a number of lines", where="--tail", hint="a number, or all")
    reader = Reader(f"{records.data(id)}/log", tail=None if tail == "all" else int(tail))
    try:
        while True:
            ended = records.current(id).status not in ("running", "paused", "restarting")
            for time, stream, text in reader.entries():
                out = sys.stderr if stream == "stderr" else sys.stdout
                out.write(f"{time} {text}" if timestamps else text)
                out.flush()
            if ended or not follow:
                return 0
            sleep(_PAUSE)
    finally:
        reader.close()

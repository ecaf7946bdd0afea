"""`veloci logs`."""

from __future__ import annotations

import sys


def logs(container: str, /, *, follow: bool = False, tail: str = "all", timestamps: bool = False) -> int:
    """Print what a container wrote.

    -f, --follow      and what it writes from now on, until it ends
    -n, --tail N      only the last N lines
    -t, --timestamps  with the time of each
    """
    from time import sleep

    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput
    from veloci.monitor.logs import Reader

    if tail != "all" and not tail.isdecimal():
        raise InvalidInput(f"{tail!r} is not a number", where="--tail")
    records = Engine().containers.records
    id = records.find(container)
    reader = Reader(f"{records.data(id)}/log", tail=None if tail == "all" else int(tail))
    while True:
        going = follow and records.current(id).status in ("running", "paused", "restarting")
        for time, stream, text in reader.entries():
            file = sys.stderr if stream == "stderr" else sys.stdout
            file.write(f"{time} {text}" if timestamps else text)
            file.flush()
        if not going:
            return 0
        sleep(0.05)

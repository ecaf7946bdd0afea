"""`veloci logs`."""

from __future__ import annotations

import sys
from time import sleep, time_ns

from veloci.cli.moments import nanoseconds
from veloci.engine.engine import Engine
from veloci.errors import Unsupported
from veloci.monitor.logs import Reader, timestamp
from veloci.monitor.state import LIVE

_PAUSE = 0.1  # seconds between two looks at a log that is followed


def logs(
    container: str,
    /,
    *,
    follow: bool = False,
    tail: str = "all",
    timestamps: bool = False,
    since: str = "",
    until: str = "",
    details: bool = False,
) -> int:
    """Show what a container wrote.

    -f, --follow       go on until it ends
    -n, --tail LINES   only the last so many, or all
    -t, --timestamps   each line with its time
    --since TIME       only what is not older: a time (2026-11-24T10:00:00Z, or seconds since 1970), or 10m ago
    --until TIME       only what is not younger
    --details          each line with what the log's options add to it
    """
    records = Engine().containers.records
    id = records.find(container)
    if (records.load(id).log or {}).get("Type") == "none":
        raise Unsupported("the container's log driver keeps nothing", hint="run it without --log-driver none")
    begin = timestamp(nanoseconds(since, "--since")) if since else ""
    end = nanoseconds(until, "--until") if until else 0
    last = timestamp(end) if end else "9"
    reader = Reader(f"{records.data(id)}/log", tail=int(tail) if tail.isascii() and tail.isdigit() else None)
    try:
        while True:
            ended = not follow or records.current(id).status not in LIVE or (end and time_ns() > end)
            for time, stream, text, attributes in reader.entries():
                if begin <= time <= last:
                    out = sys.stderr if stream == "stderr" else sys.stdout
                    more = ",".join(f"{key}={value}" for key, value in attributes.items())
                    out.write((f"{time} " if timestamps else "") + (f"{more} " if details else "") + text)
            sys.stdout.flush()
            sys.stderr.flush()
            if ended:
                return 0
            sleep(_PAUSE)
    finally:
        reader.close()

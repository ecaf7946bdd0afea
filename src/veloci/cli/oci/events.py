"""`events`."""

from __future__ import annotations

import sys

from veloci.cli.oci.main import load
from veloci.errors import InvalidInput
from veloci.runtime import events as telling
from veloci.spec.document import dumps

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}  # the longest first: "ms" ends in "s"


def events(id: str, /, *, interval: str = "5s", stats: bool = False) -> int:
    """Tell a container's events until it ends, as JSON a line: what it uses, and kills for want of memory.

    --interval TIME  how long between two of what it uses (500ms, 5s, 2m)
    --stats          tell what it uses now, once
    """
    container = load(id)
    if stats:
        _tell(telling.now(container))
        return 0
    for event in telling.follow(container, _seconds(interval)):
        _tell(event)
    return 0


def _tell(event: object) -> None:
    sys.stdout.write(dumps(event).decode() + "\n")
    sys.stdout.flush()


def _seconds(text: str) -> float:
    """A time as Go writes it, in one unit. Raises InvalidInput."""
    for unit, size in _UNITS.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            seconds = float(number) * size
            if seconds > 0:
                return seconds
    raise InvalidInput(f"{text!r} is not a time above zero, as 500ms or 5s", where="--interval")

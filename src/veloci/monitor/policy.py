"""When a container that ended is started again: a table. Pure.

    policy           ended by itself, status 0   ended by itself, failed      stopped by hand
    no               -                           -                            -
    on-failure[:n]   -                           again, n times at most       -
    always           again                       again                        -
    unless-stopped   again                       again                        -

The pause before it is 100 ms and doubles with each restart, to 1 minute at most; once the
container has run for 10 seconds the count of pauses begins anew. (docker run, --restart)
"""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec.document import Document

NAMES = ("no", "on-failure", "always", "unless-stopped")
FIRST, LONGEST, SETTLED = 0.1, 60.0, 10.0  # seconds


class Restart(Document, policy="Name", maximum="MaximumRetryCount"):
    """A restart policy, with docker's field names. maximum: of on-failure; 0 is no limit."""

    policy: str = "no"
    maximum: int = 0

    @classmethod
    def parse(cls, text: str) -> Restart:
        """`no`, `always`, `unless-stopped`, `on-failure[:n]`. Raises InvalidInput."""
        name, colon, count = text.partition(":")
        number = count.isascii() and count.isdigit()
        if name not in NAMES or (colon and (name != "on-failure" or not number)):
            raise InvalidInput(
                f"{text!r} is not a restart policy",
                where="--restart",
                hint="no, always, unless-stopped, on-failure[:n]",
            )
        return cls(policy=name, maximum=int(count or 0))


def again(restart: Restart, *, exit_code: int, restarts: int, by_hand: bool) -> bool:
    """Whether to start it again. restarts: how often that was done already. by_hand: somebody stopped it."""
    if by_hand or restart.policy == "no":
        return False
    if restart.policy == "on-failure":
        return exit_code != 0 and (restart.maximum == 0 or restarts < restart.maximum)
    return True


def pause(previous: float, *, uptime: float) -> float:
    """Seconds to wait before the next start, from those waited before the last (0.0: none) and those it ran."""
    if uptime >= SETTLED or previous == 0.0:
        return FIRST
    return min(previous * 2, LONGEST)

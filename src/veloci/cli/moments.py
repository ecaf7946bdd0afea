"""Points in time as docker's --since and --until take them."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec import duration

_SECOND = 10**9


def nanoseconds(text: str, where: str) -> int:
    """A time in nanoseconds since 1970: RFC 3339 (without a zone: ours), seconds since 1970, or so long ago (1h30m).

    where: the option's name. Raises InvalidInput.
    """
    from time import time_ns

    ago = duration.parse(text)
    if ago is not None:
        return time_ns() - ago
    whole, dot, fraction = text.partition(".")
    if whole.removeprefix("-").isdigit() and (not dot or fraction.isdigit()):
        return int(whole) * _SECOND + int(fraction[:9].ljust(9, "0"))
    found = _date(text)
    if found is None:
        hint = "2026-11-24T10:00:00Z, 2026-11-24, 1795514400, or 10m ago as 10m"
        raise InvalidInput(f"{text!r} is neither a time nor a duration", where=where, hint=hint)
    return found


def _date(text: str) -> int | None:
    from datetime import UTC, datetime, timedelta

    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(whole + rest[len(digits) :]).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * _SECOND + (int(digits[:9].ljust(9, "0")) if dot and digits else 0)

"""Go's durations, as docker's flags and documents write them: `1h30m`, `1.5s`, `300ms`."""

from __future__ import annotations

MILLISECOND = 10**6
_SECOND = 10**9
_MINUTE = 60 * _SECOND
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": MILLISECOND, "s": _SECOND, "m": _MINUTE, "h": 60 * _MINUTE}
_DIGITS = "0123456789."


def parse(text: str) -> int | None:
    """The duration in nanoseconds; None for what is none (https://pkg.go.dev/time#ParseDuration)."""
    rest, total = text.removeprefix("-"), 0.0
    if rest == "0":
        return 0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip(_DIGITS))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµmsh"))]
        while unit and unit not in _UNITS:  # "1m30s" has no blank between
            unit = unit[:-1]
        if not unit or number.count(".") > 1 or not number.strip("."):
            return None
        total += float(number) * _UNITS[unit]
        rest = rest[len(unit) :]
    if text in ("", "-"):
        return None
    return round(-total if text.startswith("-") else total)


def shown(nanoseconds: int) -> str:
    """As Go prints one that is not negative: 1h0m5s, 1m30s, 2.5s, 500ms, 0s."""
    if not nanoseconds:
        return "0s"
    if nanoseconds < _SECOND:
        return f"{nanoseconds / MILLISECOND:.6f}".rstrip("0").rstrip(".") + "ms"
    minutes, rest = divmod(nanoseconds, _MINUTE)
    seconds = f"{rest / _SECOND:.9f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}" if minutes else seconds

"""Go's durations, as docker's flags and documents write them: `1h30m`, `1.5s`, `300ms`."""

from __future__ import annotations

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
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

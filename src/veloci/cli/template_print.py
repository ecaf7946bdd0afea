"""How Go's fmt package prints JSON-like values. Takes values, gives text.

https://pkg.go.dev/fmt#hdr-Printing (Go 1.22): `%v` of a list is `[a b]`, of a map `map[k:v]`,
of a struct `{a b}`.
"""

from __future__ import annotations

import re
from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>\*|\d*))?(?P<verb>.)?", re.DOTALL)


class Record(dict):  # type: ignore[type-arg]  # its values are of every kind
    """A Go struct: its fields are known, a callable is a method.

    absent: fields that Go has with their zero values and JSON leaves out. shown: its JSON, if not its fields.
    """

    absent: Mapping[str, Any] = MappingProxyType({})
    shown: Any = None

    def likely(self, name: str) -> Any:
        """The field whose JSON name differs from the Go name by case only: Id from ID, CpuShares from CPUShares."""
        if not name[:1].isupper():
            return NO_VALUE
        found = next((item for key, item in self.items() if key.lower() == name.lower()), NO_VALUE)
        return self.absent.get(name, NO_VALUE) if found is NO_VALUE else found


class NilMap(dict):  # type: ignore[type-arg]
    """Go's nil map: prints as an empty map, is null in JSON."""


class NilList(list):  # type: ignore[type-arg]
    """Go's nil slice: prints as an empty list, is null in JSON."""


class Duration(int):
    """Go's time.Duration: nanoseconds, printed as `1m30s`."""

    def __str__(self) -> str:
        if abs(self) < 10**9:
            for size, unit in ((10**6, "ms"), (10**3, "µs"), (1, "ns")):
                if abs(self) >= size:
                    return f"{self / size:.9f}".rstrip("0").rstrip(".") + unit
            return "0s"
        minutes, rest = divmod(abs(self), 60 * 10**9)
        hours, minutes = divmod(minutes, 60)
        whole, part = divmod(rest, 10**9)
        seconds = f"{whole}" + (f".{part:09d}".rstrip("0") if part else "")
        sign = "-" if self < 0 else ""
        return f"{sign}{f'{hours}h' if hours else ''}{f'{minutes}m' if hours or minutes else ''}{seconds}s"


class Time(str):
    """Go's time.Time: RFC 3339 in JSON, printed as `2024-05-06 07:08:11.5 +0000 UTC`."""

    __slots__ = ()

    def spoken(self) -> str:
        """What its String gives. What is no time stays as it is."""
        date, _, rest = self.partition("T")
        at = max(rest.find(sign) for sign in "Z+-")
        if at < 0:
            return str(self)
        clock, zone = rest[:at], rest[at:].replace(":", "")
        clock = clock.rstrip("0").rstrip(".") if "." in clock else clock
        return f"{date} {clock} +0000 UTC" if zone == "Z" else f"{date} {clock} {zone} {zone}"


class _Nil:
    """Go's nil pointer: prints as `<nil>`, is null in JSON."""

    def __bool__(self) -> bool:
        return False


NIL = _Nil()


class _NoValue:
    """What a map gives for a key that it lacks."""

    def __bool__(self) -> bool:
        return False


NO_VALUE = _NoValue()


def kind(value: Any) -> str:
    """Go's name for the type of `value`."""
    if value is None or value is NO_VALUE or value is NIL:
        return "nil"
    if isinstance(value, Record):
        return "struct"
    for known, name in (
        (bool, "bool"),
        (int, "int"),
        (float, "float64"),
        (str, "string"),
        (dict, "map[string]interface {}"),
    ):
        if isinstance(value, known):
            return name
    if value and all(isinstance(item, str) for item in value):
        return "[]string"
    return "[]interface {}"


def printed(value: Any) -> str:
    """`value` as `%v` prints it."""
    if value is NO_VALUE or value is None:
        return "<no value>"
    return _inner(value)


def _inner(value: Any) -> str:
    if value is None or value is NO_VALUE or value is NIL:
        return "<nil>"
    if isinstance(value, Time):
        return value.spoken()
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Record):
        return "{" + " ".join(_inner(item) for item in value.values() if not callable(item)) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_inner(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_inner, value)) + "]"
    return str(value)


def _float(value: float) -> str:
    text = repr(value).removesuffix(".0")
    if abs(value) >= 1e21 or "e" not in text:
        return text
    return f"{value:.0f}" if abs(value) >= 1 else text


def spaced(values: Sequence[Any]) -> str:
    """Go's Sprint: a space between two operands when neither is a string."""
    text = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text += " "
        text += _inner(value)
    return text


def printf(form: str, values: Sequence[Any]) -> str:
    """Go's Sprintf. Never raises: a verb that does not fit prints what is wrong, as Go does."""
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb is None:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        flags = match["flags"]
        width, precision = (_measure(match[name], rest) for name in ("width", "precision"))
        if not rest:
            return f"%!{verb}(MISSING)"
        text = _verb(verb, rest.pop(0), flags, precision)
        if width is None:
            return text
        if width < 0 or "-" in flags:
            return text.ljust(abs(width))
        if "0" in flags and verb not in "sqvT":
            sign = text[:1] if text[:1] in ("-", "+") else ""
            return sign + text[len(sign) :].rjust(width - len(sign), "0")
        return text.rjust(width)

    text = _VERB.sub(one, form)
    if rest:
        text += "%!(EXTRA " + ", ".join(f"{kind(value)}={_inner(value)}" for value in rest) + ")"
    return text


def _measure(text: str | None, rest: list[Any]) -> int | None:
    """A width or precision; `*` takes it from the arguments."""
    if text == "*":
        return int(rest.pop(0)) if rest and isinstance(rest[0], int) else None
    return None if text is None else int(text or 0)


def _verb(verb: str, value: Any, flags: str, precision: int | None) -> str:
    text = None
    if verb == "v":
        text = _inner(value)
    elif verb == "T":
        text = kind(value)
    elif isinstance(value, (list, tuple)):
        return "[" + " ".join(_verb(verb, item, flags, precision) for item in value) + "]"
    elif isinstance(value, bool):
        text = _inner(value) if verb == "t" else None
    elif isinstance(value, int):
        text = _whole(verb, value, flags)
    elif isinstance(value, float):
        text = _real(verb, value, flags, precision)
    elif isinstance(value, str):
        text = _string(verb, value, precision)
    return f"%!{verb}({kind(value)}={_inner(value)})" if text is None else text


def _whole(verb: str, value: int, flags: str) -> str | None:
    plus = "+" if "+" in flags and value >= 0 else " " if " " in flags and value >= 0 else ""
    if verb in "dboxX":
        prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in flags else ""
        sign = "-" if value < 0 else plus
        return f"{sign}{prefix}{abs(value):{verb}}"
    if verb == "c":
        return chr(value)
    if verb == "q":
        return f"'{chr(value)}'"
    return f"U+{value:04X}" if verb == "U" else None


def _real(verb: str, value: float, flags: str, precision: int | None) -> str | None:
    if verb not in "feEgGF":
        return None
    if verb in "gG" and precision is None:
        return _float(value)
    sign = "+" if "+" in flags else ""
    return f"{value:{sign}.{6 if precision is None else precision}{verb}}"


def _string(verb: str, value: str, precision: int | None) -> str | None:
    if precision is not None:
        value = value[:precision]
    if verb == "s":
        return value
    if verb == "q":
        return quote(value)
    if verb in "xX":
        encoded = value.encode("utf-8", "surrogateescape").hex()
        return encoded.upper() if verb == "X" else encoded
    return None


def quote(text: str) -> str:
    """`text` as a Go string literal in double quotes: what cannot be printed is escaped (strconv.Quote)."""
    special = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b"}
    special |= {"\f": "\\f", "\v": "\\v"}

    def one(character: str) -> str:
        code = ord(character)
        if character in special:
            return special[character]
        if character.isprintable():
            return character
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(map(one, text)) + '"'

"""The functions of Go templates and docker's own, and how Go prints values. Takes values, gives values.

https://pkg.go.dev/text/template#hdr-Functions (Go 1.22), https://docs.docker.com/engine/cli/formatting/
"""

from __future__ import annotations

from veloci.cli.template_print import NIL, NO_VALUE, NilList, NilMap, Record, kind, printed, printf, spaced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Problem(Exception):
    """A function cannot take what it was given.

    argument: which one it cannot take; None: the call as a whole; NAME: there are too many or too few.
    constant: the message if that argument is written in the template.
    """

    NAME = -1

    def __init__(self, message: str, argument: int | None = None, constant: str = "") -> None:
        super().__init__(message)
        self.argument, self.constant = argument, constant


def called(name: str, function: tuple[Callable[..., Any], int, int], arguments: list[Any]) -> Any:
    """What the function gives.

    function: itself, and the least and most arguments it takes; -1: no most. Raises Problem.
    """
    call, least, most = function
    if len(arguments) < least or (most >= 0 and len(arguments) > most):
        want = str(least) if least == most else f"at least {least}"
        raise Problem(f"wrong number of args for {name}: want {want} got {len(arguments)}", Problem.NAME)
    try:
        return call(*arguments)
    except _Refused as refused:
        raise Problem(f"error calling {name}: {refused}") from None


def truth(value: Any) -> bool:
    """Go's truth: not zero, not empty; a struct is always true."""
    return isinstance(value, Record) or (value is not NO_VALUE and bool(value))


def plain(value: Any) -> Any:
    """`value` as Go encodes it in JSON: maps sorted, nil as null, no methods."""
    if isinstance(value, Record):
        if value.shown is not None:
            return value.shown
        return {key: plain(item) for key, item in value.items() if not callable(item)}
    if value is NO_VALUE or value is NIL or isinstance(value, (NilMap, NilList)):
        return None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


class _Refused(Exception):
    """A function's own complaint; `called` puts its name before it."""


def _text(value: Any, argument: int) -> str:
    if not isinstance(value, str):
        raise _mistyped(value, argument, "string", "string")
    return value


def _number(value: Any, argument: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mistyped(value, argument, "int", "integer")
    return value


def _mistyped(value: Any, argument: int, wanted: str, constant: str) -> Problem:
    if value is NO_VALUE:
        return Problem(f"invalid value; expected {wanted}", argument)
    problem = f"wrong type for value; expected {wanted}; got {kind(value)}"
    return Problem(problem, argument, f"expected {constant}; found")


def _json(value: Any) -> str:
    from veloci.spec.document import dumps

    return dumps(plain(value)).decode("utf-8", "backslashreplace")


def _join(items: Any, separator: Any) -> str:
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise _mistyped(items, 0, "[]string", "[]string")
    return _text(separator, 1).join(items)


def _split(text: Any, separator: Any) -> list[str]:
    return _text(text, 0).split(separator) if _text(separator, 1) else list(text)


def _title(text: Any) -> str:
    words = _text(text, 0)
    return "".join(c.upper() if not before.isalnum() and before not in "_'" else c for before, c in _pairs(words))


def _pairs(text: str) -> list[tuple[str, str]]:
    return list(zip(" " + text, text, strict=False))


def _truncate(text: Any, length: Any) -> str:
    return _text(text, 0)[: _number(length, 1)]


def _pad(text: Any, before: Any, after: Any) -> str:
    return " " * _number(before, 1) + text + " " * _number(after, 2) if _text(text, 0) else ""


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (list, tuple)) or (isinstance(value, dict) and not isinstance(value, Record)):
        return len(value)
    raise _Refused(f"len of type {kind(value)}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = _item(value, key)
    return value


def _item(value: Any, key: Any) -> Any:
    if value is None or value is NO_VALUE or value is NIL:
        raise _Refused("index of untyped nil")
    if isinstance(value, (list, tuple, str)):
        if not isinstance(key, int) or isinstance(key, bool):
            raise _Refused(f"cannot index slice/array with type {kind(key)}")
        if not 0 <= key < len(value):
            raise _Refused(f"index out of range: {key}")
        return value[key]
    if isinstance(value, dict):
        if not isinstance(key, str):
            raise _Refused(f"value has type {kind(key)}; should be string")
        found = value.get(key, NO_VALUE)
        # A map of strings, as labels are, gives its zero value for a key it lacks.
        return "" if found is NO_VALUE and all(isinstance(item, str) for item in value.values()) else found
    raise _Refused(f"can't index item of type {kind(value)}")


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, (list, tuple, str)):
        raise _Refused(f"can't slice item of type {kind(value)}")
    ends = [_number(bound, index) for index, bound in enumerate(bounds, 1)]
    for end in ends:
        if not 0 <= end <= len(value):
            raise _Refused(f"index out of range: {end}")
    start, stop = (*ends, *(0, len(value))[len(ends) :])[:2] if len(ends) < 2 else ends[:2]
    if start > stop:
        raise _Refused(f"invalid slice index: {start} > {stop}")
    return value[start:stop]


def _equal(one: Any, *others: Any) -> bool:
    return any([_same(one, other) for other in others])  # noqa: C419 -- Go compares them all: each may be refused


def _same(one: Any, other: Any) -> bool:
    one, other = (None if value is NO_VALUE or value is NIL else value for value in (one, other))
    if isinstance(one, (list, dict)) and isinstance(other, (list, dict)):
        raise _Refused("non-comparable type")
    if one is not None and other is not None and _family(one) != _family(other):
        raise _Refused("incompatible types for comparison")
    return bool(one == other)


def _family(value: Any) -> str:
    return {"bool": "bool", "int": "number", "float64": "float", "string": "string"}.get(kind(value), "other")


def _less(one: Any, other: Any) -> bool:
    if _family(one) != _family(other):
        raise _Refused("incompatible types for comparison")
    if _family(one) in ("bool", "other"):
        raise _Refused("invalid type for comparison")
    return bool(one < other)


def _url(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(spaced(values))


FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "and": (lambda *values: values[-1], 1, -1),  # evaluated by the call itself: it stops early
    "or": (lambda *values: values[-1], 1, -1),
    "not": (lambda value: not truth(value), 1, 1),
    "eq": (_equal, 2, -1),
    "ne": (lambda one, other: not _same(one, other), 2, 2),
    "lt": (_less, 2, 2),
    "le": (lambda one, other: _less(one, other) or _same(one, other), 2, 2),
    "gt": (lambda one, other: not _less(one, other) and not _same(one, other), 2, 2),
    "ge": (lambda one, other: not _less(one, other), 2, 2),
    "len": (_len, 1, 1),
    "index": (_index, 1, -1),
    "slice": (_slice, 1, 4),
    "print": (lambda *values: spaced(values), 0, -1),
    "printf": (lambda form, *values: printf(_text(form, 0), values), 1, -1),
    "println": (lambda *values: " ".join(map(printed, values)) + "\n", 0, -1),
    "urlquery": (_url, 0, -1),
    "json": (_json, 1, 1),
    "join": (_join, 2, 2),
    "split": (_split, 2, 2),
    "title": (_title, 1, 1),
    "lower": (lambda text: _text(text, 0).lower(), 1, 1),
    "upper": (lambda text: _text(text, 0).upper(), 1, 1),
    "truncate": (_truncate, 2, 2),
    "pad": (_pad, 3, 3),
}

# On column headings docker's functions change nothing but the width.
HEADER_FUNCTIONS = {
    **FUNCTIONS,
    "json": (lambda text: text, 1, 1),
    "title": (lambda text: text, 1, 1),
    "lower": (lambda text: text, 1, 1),
    "upper": (lambda text: text, 1, 1),
    "truncate": (lambda text, _length: text, 2, 2),
    "split": (lambda text, _separator: text, 2, 2),
    "join": (lambda text, _separator: text, 2, 2),
}

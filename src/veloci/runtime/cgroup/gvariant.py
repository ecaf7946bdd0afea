"""Annotations org.systemd.property.NAME: properties of a container's unit, as CRI-O and podman give them.

Values are GVariants as text: 'text', true, 5, uint64 5, ['a', 'b'] — https://docs.gtk.org/glib/gvariant-text-format.html
"""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from veloci.runtime.cgroup.properties import Property

_PREFIX = "org.systemd.property."
_NUMBERS = {"byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t"}


def annotated(annotations: Mapping[str, str]) -> Iterator[Property]:
    """The properties among `annotations`; a NAMESec in seconds is the NAMEUSec that D-Bus has. Raises InvalidInput."""
    for key, text in annotations.items():
        if not key.startswith(_PREFIX):
            continue
        where, name = f"config.json: $.annotations.{key}", key.removeprefix(_PREFIX)
        if not (name.isascii() and name.isalpha() and name[0].isupper()):
            raise InvalidInput(f"{name!r} is no name of a property", where=where)
        signature, value = _parsed(text.strip(), where)
        if name.endswith("Sec") and not name.endswith("USec"):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InvalidInput(f"{text!r} is not a number of seconds", where=where)
            name, signature, value = f"{name.removesuffix('Sec')}USec", "t", value * 1_000_000
        yield name, (signature, value)


def _parsed(text: str, where: str) -> tuple[str, object]:
    kind, _, rest = text.partition(" ")
    if text in ("true", "false"):
        return "b", text == "true"
    if kind in _NUMBERS:
        return _NUMBERS[kind], _number(rest.strip(), where)
    if text[:1] == "[" and text[-1:] == "]":
        return "as", [_quoted(each.strip(), where) for each in text[1:-1].split(",") if each.strip()]
    if text[:1] in ("'", '"'):
        return "s", _quoted(text, where)
    return "i", _number(text, where)


def _number(text: str, where: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise InvalidInput(f"{text!r} is not a value as 'text', true, 5, uint64 5 or ['a']", where=where) from None


def _quoted(text: str, where: str) -> str:
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0] or text[0] in text[1:-1] or "\\" in text:
        raise InvalidInput(f"{text!r} is no text in quotes", where=where)
    return text[1:-1]

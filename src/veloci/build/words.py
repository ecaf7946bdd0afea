"""How a Dockerfile's arguments divide into words: flags, JSON arrays, names with values.

https://docs.docker.com/reference/dockerfile/#format
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veloci.errors import InvalidInput
from veloci.spec.document import loads

if TYPE_CHECKING:
    from typing import TypeAlias

    Pairs: TypeAlias = tuple[tuple[str, str | None], ...]

BLANKS = " \t\v\f\r\n"


def first(text: str) -> tuple[str, str]:
    """The first word and what follows it."""
    words = text.strip(BLANKS).split(None, 1)
    return (words[0], words[1] if len(words) > 1 else "") if words else ("", "")


def flags(text: str, *, escape: str, where: str) -> tuple[Pairs, str]:
    """The flags that lead `text`, as (name, value or None), and what follows them. `--` alone ends them."""
    found: list[tuple[str, str | None]] = []
    rest = text.lstrip(BLANKS)
    while rest.startswith("--"):
        word, rest = _flag(rest, escape)
        rest = rest.lstrip(BLANKS)
        if word == "--":
            break
        name, equals, value = word.removeprefix("--").partition("=")
        if not name:
            raise InvalidInput(f"flag without a name: {word}", where=where)
        found.append((name.lower(), value if equals else None))
    return tuple(found), rest


def _flag(text: str, escape: str) -> tuple[str, str]:
    """The first word, its quotes and escapes taken away, and the rest."""
    word, quote, position = "", "", 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == escape and position < len(text):
            word += text[position]
            position += 1
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote = char
        elif char in BLANKS:
            break
        else:
            word += char
    return word, text[position:]


def split(text: str, escape: str) -> list[str]:
    """Words between blanks; quotes and escapes protect blanks and stay in the word."""
    words: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == escape and quote != "'":
            if position < len(text):  # an escape that ends the line is dropped
                word += char + text[position]
                position += 1
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in BLANKS:
            if word:
                words.append(word)
            word = ""
            continue
        word += char
    return [*words, word] if word else words


def array(text: str, *, where: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None when `text` is none, which makes it shell form.

    Raises InvalidInput for an array that holds something else than strings.
    """
    if not text.startswith("["):
        return None
    try:
        value = loads(text.encode())
    except (ValueError, StopIteration):
        return None
    if not isinstance(value, list):
        return None
    for item in value:
        if not isinstance(item, str):
            raise InvalidInput(f"only string type is allowed in JSON format arrays, got {item!r}", where=where)
    return tuple(value)


def named(text: str, *, keyword: str, escape: str, where: str) -> Pairs:
    """`A=1 B="two words"`, or the old form `A all the rest`, as pairs with their quotes still on."""
    words = split(text, escape)
    if not words:
        raise InvalidInput(f"{keyword} requires at least one argument", where=where)
    if "=" not in words[0]:
        name, *values = text.split(None, 1)
        if not values:
            raise InvalidInput(f"{keyword} must have two arguments", where=where, hint=f"{keyword} {name}=VALUE")
        return ((name, values[0].rstrip(BLANKS)),)
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidInput(f"can't find = in {word!r}", where=where, hint=f'{keyword} {word}="VALUE"')
        if not name:
            raise InvalidInput(f"{keyword} names can not be blank", where=where)
        pairs.append((name, value))
    return tuple(pairs)

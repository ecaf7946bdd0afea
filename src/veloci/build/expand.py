"""Variables and quotes in a Dockerfile's words.

https://docs.docker.com/reference/dockerfile/#environment-replacement

`$V ${V} ${V:-word} ${V:+word} ${V:?word}`, the three without colon, `${V#p} ${V##p} ${V%p}
${V%%p} ${V/p/r} ${V//p/r}`. Single quotes keep everything, double quotes keep blanks, the
escape character keeps the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veloci.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS = frozenset("0123456789")
_SPECIAL = frozenset("@*#?-$!")


def word(text: str, variables: Mapping[str, str], *, escape: str = "\\", where: str = "") -> str:
    """`text` as one word, variables replaced, quotes taken away. Raises InvalidInput for bad syntax."""
    return _Reader(text, variables, escape, where).until("")


def words(text: str, variables: Mapping[str, str], *, escape: str = "\\", where: str = "") -> list[str]:
    """`text` as words: unquoted blanks divide, also those which a variable brought."""
    reader = _Reader(text, variables, escape, where)
    reader.words = []
    last = reader.until("")
    return [*reader.words, last] if last or reader.quoted else reader.words


def missing(text: str, variables: Mapping[str, str], *, escape: str = "\\", where: str = "") -> list[str]:
    """The variables in `text` that have no value, in their order. Raises InvalidInput for bad syntax."""
    reader = _Reader(text, variables, escape, where)
    reader.until("")
    return list(reader.missing)


def body(text: str, variables: Mapping[str, str], *, where: str = "") -> str:
    """A here-document's text with variables replaced; quotes stay, `\\$` is a dollar."""
    reader = _Reader(text, variables, "\\", where)
    reader.raw = True
    return reader.until("")


class _Reader:
    """One pass over a text."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str, where: str) -> None:
        self.text, self.variables, self.escape, self.where = text, variables, escape, where
        self.position = 0
        self.raw = False  # quotes are ordinary characters
        self.quoted = False  # the word had quotes: it counts even when empty
        self.words: list[str] | None = None
        self.missing: dict[str, None] = {}  # names without a value

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def next(self) -> str:
        char = self.peek()
        self.position += 1
        return char

    def wrong(self, problem: str) -> InvalidInput:
        return InvalidInput(f"{problem} in {self.text!r}", where=self.where)

    def until(self, stop: str, *, escapes: bool = False) -> str:
        """Everything up to the unquoted character `stop` ("": the end). escapes: they stay, a pattern needs them."""
        result = ""
        while char := self.next():
            if char == stop:
                return result
            if char == "$":
                result = self._value(result)
            elif self.raw and char != self.escape:
                result += char
            elif char in "'\"":
                self.quoted = True
                result += self._single() if char == "'" else self._double()
            elif char == self.escape:
                result += self._escaped(escapes)
            elif self.words is not None and not stop and char in " \t\r\n\v\f":
                result = self._end_of_word(result)
            else:
                result += char
        if stop:
            raise self.wrong(f"missing {stop!r}")
        return result

    def _value(self, before: str) -> str:
        value = self._dollar()
        if self.words is None:
            return before + value
        first, *others = _divided(value)
        before += first
        for other in others:
            before = self._end_of_word(before) + other
        return before

    def _end_of_word(self, text: str) -> str:
        assert self.words is not None
        if text or self.quoted:
            self.words.append(text)
        self.quoted = False
        return ""

    def _escaped(self, keep: bool) -> str:
        char = self.next()
        if self.raw:
            return char if char in ("$", self.escape) else self.escape + char
        return self.escape + char if keep else char

    def _single(self) -> str:
        end = self.text.find("'", self.position)
        if end < 0:
            raise self.wrong("unexpected end of statement while looking for matching single-quote")
        found, self.position = self.text[self.position : end], end + 1
        return found

    def _double(self) -> str:
        result = ""
        while char := self.next():
            if char == '"':
                return result
            if char == "$":
                result += self._dollar()
            elif char == self.escape:
                following = self.next()
                result += following if following in ('"', "$", self.escape) else char + following
            else:
                result += char
        raise self.wrong("unexpected end of statement while looking for matching double-quote")

    def _name(self) -> str:
        if self.peek() in _SPECIAL or self.peek() in _DIGITS:
            return self.next() if self.peek() else ""
        start = self.position
        while self.peek() in _LETTERS or (self.position > start and self.peek() in _DIGITS):
            self.position += 1
        return self.text[start : self.position]

    def _found(self, name: str) -> str | None:
        if name not in self.variables:
            self.missing[name] = None
        return self.variables.get(name)

    def _dollar(self) -> str:
        if self.peek() != "{":
            name = self._name()
            return self._found(name) or "" if name else "$"
        self.position += 1
        name = self._name()
        if not name:
            raise self.wrong("bad substitution")
        value = self._found(name)
        operator = self.next()
        if operator == "}":
            return value or ""
        if operator == ":":
            operator, value = self.next(), value or None
            if operator not in ("-", "+", "?"):
                raise self.wrong(f"unsupported modifier (:{operator})")
        return self._modified(name, value, operator)

    def _modified(self, name: str, value: str | None, operator: str) -> str:
        if operator == "-":
            default = self.until("}")
            return default if value is None else value
        if operator == "+":
            other = self.until("}")
            return "" if value is None else other
        if operator == "?":
            message = self.until("}")
            if value is None:
                raise InvalidInput(f"{name}: {message or 'not allowed to be unset'}", where=self.where)
            return value
        if operator in ("#", "%"):
            longest = self.peek() == operator
            self.position += longest
            return _trimmed(value or "", self.until("}", escapes=True), operator, longest=longest)
        if operator == "/":
            everywhere = self.peek() == "/"
            self.position += everywhere
            pattern = self.until("/", escapes=True)
            return _replaced(value or "", pattern, self.until("}"), everywhere=everywhere)
        raise self.wrong(f"unsupported modifier ({operator})" if operator else "missing '}'")


def _divided(value: str) -> list[str]:
    """`value` at its blanks; blanks at an end give an empty part there."""
    parts = value.split()
    if not parts:
        return ["", ""] if value else [""]
    return [""] * value[0].isspace() + parts + [""] * value[-1].isspace()


def _expression(pattern: str, *, shortest: bool) -> str:
    """A shell pattern as a regular expression."""
    import re

    result, position = "", 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            result += ".*?" if shortest else ".*"
        elif char == "?":
            result += "."
        elif char == "\\" and position < len(pattern):
            result += re.escape(pattern[position])
            position += 1
        else:
            result += re.escape(char)
    return result


def _trimmed(value: str, pattern: str, side: str, *, longest: bool) -> str:
    import re

    if side == "#":
        found = re.match(_expression(pattern, shortest=not longest), value, re.DOTALL)
        return value[found.end() :] if found else value
    # The shortest suffix is the one that starts last.
    expression = re.compile(_expression(pattern, shortest=False), re.DOTALL)
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    return next((value[:start] for start in starts if expression.fullmatch(value, start)), value)


def _replaced(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    import re

    expression = re.compile(_expression(pattern, shortest=False), re.DOTALL)
    return expression.sub(lambda _found: replacement, value, count=0 if everywhere else 1)

"""Which paths of a context are left out: .dockerignore, and COPY's --exclude. Pure.

https://docs.docker.com/build/concepts/context/#dockerignore-files

A pattern that matches a path or any directory above it counts; of several the last one wins.
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import TYPE_CHECKING

from veloci.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

_LITERAL = frozenset(".$+()|{}^")


class Ignore:
    """An ordered list of patterns. Nothing is left out by an empty one."""

    def __init__(self, patterns: Iterable[tuple[str, str]] = ()) -> None:
        """patterns: each with where it stands, for messages. Raises InvalidInput for one that cannot be read."""
        self.rules: list[tuple[re.Pattern[str], bool, str]] = []  # expression, leaves out, where
        for pattern, where in patterns:
            kept = pattern.startswith("!")
            text = pattern.removeprefix("!").strip()
            if kept and not text:
                raise InvalidInput("illegal exclusion pattern: '!'", where=where)
            if text := _cleaned(text):
                self.rules.append((_compiled(text, where), not kept, where))
        self.returns = any(not leaves_out for _, leaves_out, _ in self.rules)  # something below may come back

    @classmethod
    def read(cls, raw: bytes, *, name: str) -> Ignore:
        """The rules of an ignore file's bytes; name: how messages call it."""
        text = raw.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
        lines = enumerate(text.splitlines(), 1)
        return cls((line.strip(), f"{name}:{number}") for number, line in lines if line.strip() and line[0] != "#")

    def rule(self, path: str) -> str:
        """Where the pattern stands that leaves out `path` (relative, clean); "" when it stays."""
        if not self.rules or not path:
            return ""
        parts = path.split("/")
        chain = ["/".join(parts[: size + 1]) for size in range(len(parts))]
        found = ""
        for expression, leaves_out, where in self.rules:
            if leaves_out != bool(found) and any(expression.fullmatch(step) for step in chain):
                found = where if leaves_out else ""
        return found


def _cleaned(text: str) -> str:
    text = normpath(text)
    if text.startswith("/"):
        text = text.lstrip("/") or "/"
    return "" if text == "." else text


def _compiled(text: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(expression(text), re.DOTALL)
    except re.error:
        raise InvalidInput(f"syntax error in pattern {text!r}", where=where) from None


def expression(pattern: str, *, deep: bool = True) -> str:
    """A path pattern as a regular expression. deep: `**` crosses directories, as in .dockerignore."""
    result, position = "", 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*" and deep and pattern[position : position + 1] == "*":
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
            result += "(.*/)?" if position < len(pattern) else ".*"
        elif char == "*":
            result += "[^/]*"
        elif char == "?":
            result += "[^/]"
        elif char == "[":
            text, position = _set(pattern, position)
            result += text
        elif char == "\\":
            result += re.escape(pattern[position : position + 1] or "\\")
            position += 1
        else:
            result += "\\" + char if char in _LITERAL else char
    return result


def _set(pattern: str, position: int) -> tuple[str, int]:
    """A `[…]` of a pattern that starts before `position`, as an expression, and where it ends."""
    end = pattern.find("]", position + 1)
    if end < 0:
        return "[", len(pattern)  # re refuses it
    inside = pattern[position:end].replace("[", "\\[")
    return f"[{inside}]", end + 1

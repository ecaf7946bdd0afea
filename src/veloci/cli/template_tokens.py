"""A Go template cut into words. Takes text, gives tokens.

https://pkg.go.dev/text/template#hdr-Text_and_spaces
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"""(?P<close>\s-}}|}})
    | (?P<space>\s+)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    | (?P<character>'(?:[^'\\\n]|\\.)+')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))
    | (?P<variable>\$\w*)
    | (?P<field>\.[^\W\d]\w*)
    | (?P<dot>\.)
    | (?P<word>[^\W\d]\w*)
    | (?P<mark>:=|[=|(),])""",
    re.VERBOSE,
)
_ENDS = re.compile(r"[\s.,|:()=]|}}")  # what may follow a name
_COMMENT = re.compile(r"\s*/\*.*?\*/(?P<close>\s-}}|}})", re.DOTALL)


class Token(NamedTuple):
    """A word of a template."""

    kind: str  # "text", "open", "close", "end of text" or a group of _TOKEN
    text: str
    position: int
    spaced: bool = False  # whether white space stands before it


def malformed(text: str, position: int, problem: str) -> NoReturn:
    """Refuse the template `text` for what stands at `position`. Raises InvalidInput."""
    line = text.count("\n", 0, position) + 1
    raise InvalidInput(f"template parsing error: template: :{line}: {problem}")


def tokens(text: str) -> Iterator[Token]:
    """`text` cut into words; trimming is done, comments are gone."""
    position, trim = 0, False
    while True:
        start = text.find("{{", position)
        piece = text[position : start if start >= 0 else len(text)]
        if trim:
            piece = piece.lstrip()
        marked = start >= 0 and text.startswith("-", start + 2) and text[start + 3 : start + 4].isspace()
        if marked:
            piece = piece.rstrip()
        if piece:
            yield Token("text", piece, position)
        if start < 0:
            yield Token("end of text", "", len(text))
            return
        position = start + (3 if marked else 2)
        if comment := _COMMENT.match(text, position):
            position, trim = comment.end(), comment["close"] != "}}"
            continue
        if text.startswith("/*", position):
            malformed(text, position, "unclosed comment")
        yield Token("open", "{{", start)
        for token in _action(text, position):
            yield token
            position, trim = token.position + len(token.text), token.kind == "close" and token.text != "}}"


def _action(text: str, position: int) -> Iterator[Token]:
    """The words from `position` to the end of the action, its mark included."""
    spaced = False
    while True:
        match = _TOKEN.match(text, position)
        if match is None:
            if position >= len(text):
                malformed(text, position, "unclosed action")
            if text[position] in "\"`'":
                kind = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}[text[position]]
                malformed(text, position, f"unterminated {kind}")
            malformed(text, position, f'unexpected "{text[position]}" in command')
        position = match.end()
        kind = str(match.lastgroup)
        if kind == "space":
            spaced = True
            continue
        following = text[position : position + 1]
        if kind in ("field", "variable", "word") and following and not _ENDS.match(text, position):
            malformed(text, position, f"bad character U+{ord(following):04X} {following!r}")
        if kind == "number" and (following.isalnum() or following == "_"):
            malformed(text, position, f'bad number syntax: "{match[0]}{following}"')
        yield Token(kind, match[0], match.start(), spaced)
        spaced = False
        if kind == "close":
            return

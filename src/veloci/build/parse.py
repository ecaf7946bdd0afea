"""A Dockerfile's bytes as instructions, each with its line.

https://docs.docker.com/reference/dockerfile/#format

Comments, continuation lines, parser directives and here-documents are settled here;
what an instruction's words mean is `instructions`' part. Nothing is expanded yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veloci.build.words import BLANKS, first, split
from veloci.errors import InvalidInput
from veloci.spec.document import Document

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 65_535  # bytes in one line
_WITH_HEREDOC = ("ADD", "COPY", "RUN")
_DIRECTIVES = ("syntax", "escape", "check")


class Heredoc(Document):
    """A here-document: `<<NAME` in a line, then text up to a line that says NAME."""

    word: str  # as it stands in the line, quotes and all
    name: str
    expand: bool  # the name was not quoted
    chomp: bool  # <<-: leading tabs do not count
    content: str

    def text(self) -> str:
        """The content, without leading tabs if `<<-` asked so."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


class Line(Document):
    """One instruction as written: its continuation lines joined, its comments gone."""

    keyword: str  # upper case
    rest: str  # everything after it
    number: int  # of its first line, from 1
    heredocs: tuple[Heredoc, ...]
    word: str = ""  # the keyword as it stands there
    last: int = 0  # the number of its last line
    hollow: bool = False  # it goes on over an empty line
    comment: str = ""  # the comment on the line before it


class Dockerfile(Document):
    """A parsed file. name: how messages call it. escape: the escape character. check: the directive's text."""

    name: str
    escape: str
    lines: tuple[Line, ...]
    check: str = ""


def parse(raw: bytes, *, name: str = "Dockerfile") -> Dockerfile:
    """`raw` as lines. Raises InvalidInput that says the file and the line."""
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidInput("not UTF-8 text", where=f"{name}:{line}") from None
    source = text.split("\n")
    for number, physical in enumerate(source, 1):
        if len(physical.encode()) > LONGEST:
            raise InvalidInput(f"line is longer than {LONGEST:,} bytes", where=f"{name}:{number}")
    directives = _directives(source, name)
    escape = directives.get("escape", "\\")
    lines = tuple(_Lines(source, escape, name).read())
    if not lines:
        raise InvalidInput("file with no instructions", where=name, hint="start it with FROM IMAGE")
    return Dockerfile(name=name, escape=escape, lines=lines, check=directives.get("check", ""))


def _directives(source: list[str], name: str) -> dict[str, str]:
    """The `# key=value` lines at the top; the first line that is none ends them."""
    found: dict[str, str] = {}
    for number, line in enumerate(source, 1):
        key, equals, value = line.strip().removeprefix("#").partition("=")
        key, value = key.strip().lower(), value.strip()
        if not (line.lstrip().startswith("#") and equals and key in _DIRECTIVES):
            break
        where = f"{name}:{number}"
        if key in found:
            raise InvalidInput(f"only one {key} parser directive can be used", where=where)
        if key == "escape" and value not in ("\\", "`"):
            raise InvalidInput(f"invalid escape token {value!r} does not match ` or \\", where=where)
        found[key] = value
    return found


class _Lines:
    """Physical lines to logical ones."""

    def __init__(self, source: list[str], escape: str, name: str) -> None:
        self.source, self.escape, self.name = source, escape, name
        self.position = 0  # index of the next physical line
        self.hollow = False
        self.comment = ""

    def read(self) -> Iterator[Line]:
        while self.position < len(self.source):
            number = self.position + 1
            line = self.take().lstrip(BLANKS)
            if not line or line.startswith("#"):
                self.comment = line.removeprefix("#").strip()
                continue
            self.hollow = False
            text = self._continued(line)
            keyword, rest = first(text)
            if keyword:
                where = f"{self.name}:{number}"
                heredocs = tuple(self._heredocs(keyword, rest, where))
                yield Line(
                    keyword=keyword.upper(),
                    rest=rest,
                    number=number,
                    heredocs=heredocs,
                    word=keyword,
                    last=self.position,
                    hollow=self.hollow,
                    comment=self.comment,
                )
            self.comment = ""

    def take(self) -> str:
        self.position += 1
        return self.source[self.position - 1].removesuffix("\r")

    def _continued(self, line: str) -> str:
        """The whole logical line that starts with `line`."""
        text, more = self._cut(line)
        while more and self.position < len(self.source):
            line = self.take()
            if not line.strip(BLANKS) or line.lstrip(BLANKS).startswith("#"):
                self.hollow |= not line.strip(BLANKS)
                continue
            part, more = self._cut(line)
            text += part
        return text

    def _cut(self, line: str) -> tuple[str, bool]:
        """The line without its continuation mark, and whether it had one; a doubled mark is none."""
        bare = line.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            return bare[:-1], True
        return line, False

    def _heredocs(self, keyword: str, rest: str, where: str) -> Iterator[Heredoc]:
        keywords = [keyword.upper(), *rest.upper().split(None, 1)[:1]]
        inner = rest
        if keywords[0] == "ONBUILD":
            keywords, inner = keywords[1:], rest.partition(" ")[2]
        if "<<" not in rest or not keywords or keywords[0] not in _WITH_HEREDOC or inner.lstrip().startswith("["):
            return
        for word in split(rest, self.escape):
            if found := _opening(word, self.escape):
                yield self._content(word, *found, where=where)

    def _content(self, word: str, name: str, expand: bool, chomp: bool, *, where: str) -> Heredoc:
        start = self.position
        while self.position < len(self.source):
            line = self.take()
            if (line.lstrip("\t") if chomp else line) == name:
                content = "".join(f"{text}\n" for text in self.source[start : self.position - 1])
                return Heredoc(word=word, name=name, expand=expand, chomp=chomp, content=content)
        raise InvalidInput(f"unterminated heredoc <<{name}", where=where, hint=f"end it with a line that says {name}")


def _opening(word: str, escape: str) -> tuple[str, bool, bool] | None:
    """Name, expand and chomp of a word that opens a here-document: `<<EOF`, `3<<-"EOF"`."""
    number, mark, name = word.partition("<<")
    if not mark or number.strip("0123456789") or "<" in name:
        return None
    chomp = name.startswith("-")
    quoted = name.removeprefix("-")
    bare = "".join(char for char in quoted if char not in "'\"" and char != escape)
    return (bare, bare == quoted, chomp) if bare else None

"""Text made to fit a terminal: what is wide is counted as wide, what is too long is cut. Takes text, gives text."""

from __future__ import annotations

from unicodedata import category, east_asian_width

from veloci.cli.output import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST = 8  # columns that a table's last cell should have


def width(text: str) -> int:
    """How many columns of a terminal it takes (Unicode's UAX #11): wide letters two, combining marks none."""
    return sum(map(_width, text))


def _width(character: str) -> int:
    if character.isascii():
        return 1
    if category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int, *, end: bool = False) -> str:
    """So much of it as fits, and … for the rest. end: its end stays, not its beginning."""
    if width(text) <= columns:
        return text
    if columns < 1:
        return ""
    kept, left = [], columns - 1
    for character in reversed(text) if end else text:
        left -= _width(character)
        if left < 0:
            break
        kept.append(character)
    while end and kept and not _width(kept[-1]):  # a mark without its letter
        kept.pop()
    return "…" + "".join(reversed(kept)) if end else "".join(kept) + "…"


def wrapped(text: str, columns: int) -> str:
    """One line of phrases, broken between them where it is too long. columns: 0 for any number."""
    if not columns:
        return text + "\n"
    lines = [""]
    for phrase in text.replace(", ", ",\0").replace(": ", ":\0").replace(" (", "\0(").split("\0"):
        line = f"{lines[-1]} {phrase}" if lines[-1] else phrase
        if lines[-1] and width(line) > columns:
            lines.append(phrase)
        else:
            lines[-1] = line
    return "".join(f"{cut(line, columns)}\n" for line in lines)


def fitted(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: int,
    *,
    needless: Sequence[int] = (),
    end: bool = False,
) -> str:
    """A table in so many columns (0: as wide as it is). Its last cells are cut.

    needless: the columns that go, in this order, until the last one has room. end: the last cells keep their end, as
    paths should.
    """
    if not columns:
        return table(headers, rows)
    lines = table(headers, rows).splitlines()
    for count in range(1, len(needless) + 1):
        if columns - _last(lines) >= LEAST:
            break
        kept = [number for number in range(len(headers)) if number not in needless[:count]]
        lines = table([headers[n] for n in kept], [[row[n] for n in kept] for row in rows]).splitlines()
    at = _last(lines)
    room = columns - at
    return "".join(
        (line[:at] + cut(line[at:], room, end=True) if end and room > 1 else cut(line, columns)) + "\n"
        for line in lines
    )


def _last(lines: Sequence[str]) -> int:
    """Where the last column of a table begins."""
    return lines[0].rfind(" ") + 1

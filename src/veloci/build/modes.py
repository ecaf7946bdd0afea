"""COPY --chmod: `755`, or symbols as chmod(1) reads them, `u=rwX,go=rX`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veloci.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

_BITS = {"r": 4, "w": 2, "x": 1}
_SHIFTS = {"u": 6, "g": 3, "o": 0}


def mode(text: str, *, where: str) -> Callable[[int, bool], int]:
    """A function of a file's mode and whether it is a directory, to its new mode. Raises InvalidInput."""
    if text and not text.strip("01234567"):
        number = int(text, 8)
        if number > 0o7777:
            raise InvalidInput(f"invalid mode {text!r}", where=where)
        return lambda _mode, _directory: number
    changes = [_change(clause, text, where) for clause in text.split(",")]

    def apply(old: int, directory: bool) -> int:
        for change in changes:
            old = change(old, directory)
        return old

    return apply


def _change(clause: str, text: str, where: str) -> Callable[[int, bool], int]:
    index = next((index for index, char in enumerate(clause) if char in "=+-"), -1)
    who, letters = clause[:index] or "a", clause[index + 1 :]
    if index < 0 or who.strip("ugoa") or letters.strip("rwxXst"):
        raise InvalidInput(f"invalid mode {text!r}", where=where, hint="octal as 755, or symbols as u=rwX,go=rX")
    operator = clause[index]
    classes = "ugo" if "a" in who else who

    def change(old: int, directory: bool) -> int:
        bits = sum(_BITS.get(letter, 0) for letter in set(letters))
        if "X" in letters and (directory or old & 0o111):
            bits |= 1
        wanted = sum(bits << _SHIFTS[name] for name in set(classes))
        if "s" in letters:
            wanted |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
        if "t" in letters:
            wanted |= 0o1000
        if operator == "+":
            return old | wanted
        if operator == "-":
            return old & ~wanted
        mask = sum(7 << _SHIFTS[name] for name in set(classes))
        return old & ~mask | wanted

    return change

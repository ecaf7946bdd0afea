"""What each instruction's words are, checked before anything runs.

https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veloci.build.parse import Heredoc, Line
from veloci.build.words import array, first, flags, named, split
from veloci.errors import InvalidInput, Unsupported
from veloci.spec.document import Document

if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.build.words import Pairs

# The flags that each instruction takes; a * marks those that may be repeated, a ? those without a value.
_COPYING = "--chown --chmod --exclude* --link?"
FLAGS = {
    "ADD": f"{_COPYING} --checksum --keep-git-dir? --unpack?",
    "COPY": f"{_COPYING} --from --parents?",
    "FROM": "--platform",
    "HEALTHCHECK": "--interval --timeout --start-period --start-interval --retries",
    "RUN": "--mount* --network --security",
}
# Flags that exist elsewhere and cannot be honoured yet: better said than ignored.
UNSUPPORTED = {"RUN": "--device"}
KEYWORDS = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER "
    "VOLUME WORKDIR"
).split()


class Instruction(Document):
    """One instruction, its words divided but not expanded.

    words: the arguments; in shell form (not `json`) of CMD, ENTRYPOINT, RUN and HEALTHCHECK one word, the command.
    pairs: names and values of ARG, ENV and LABEL. flags: (name, value); a flag that was left out is not there.
    """

    keyword: str
    line: int
    where: str  # "Dockerfile:7"
    text: str  # the whole instruction on one line, as messages and progress show it
    words: tuple[str, ...] = ()
    pairs: Pairs = ()
    flags: tuple[tuple[str, str], ...] = ()
    json: bool = False
    heredocs: tuple[Heredoc, ...] = ()

    def flag(self, name: str) -> str:
        """The flag's value; "" when it was not given."""
        return next((value for key, value in self.flags if key == name), "")

    def on(self, name: str) -> bool:
        """Whether a flag without a value was given, and not as =false."""
        return self.flag(name) == "true"

    def every(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may be repeated."""
        return tuple(value for key, value in self.flags if key == name)


def instruction(line: Line, *, name: str, escape: str) -> Instruction:
    """The line as an instruction. Raises InvalidInput with file and line for whatever is wrong in it."""
    where = f"{name}:{line.number}"
    if line.keyword not in KEYWORDS:
        raise InvalidInput(f"unknown instruction: {line.keyword}{_meant(line.keyword, KEYWORDS)}", where=where)
    given: Pairs = ()
    rest = line.rest
    if line.keyword in FLAGS or rest.startswith("--"):
        given, rest = flags(rest, escape=escape, where=where)
    shape = _SHAPES[line.keyword](line.keyword, rest.strip(), escape, where)
    return Instruction(
        keyword=line.keyword,
        line=line.number,
        where=where,
        text=f"{line.keyword} {line.rest}",
        flags=_checked(line.keyword, given, where),
        heredocs=line.heredocs,
        words=shape.words,
        pairs=shape.pairs,
        json=shape.json,
    )


class _Shape:
    """The arguments of one instruction."""

    def __init__(self, words: tuple[str, ...] = (), *, pairs: Pairs = (), json: bool = False) -> None:
        self.words, self.pairs, self.json = words, pairs, json


def _checked(keyword: str, given: Pairs, where: str) -> tuple[tuple[str, str], ...]:
    table = {name.strip("-*?"): name for name in FLAGS.get(keyword, "").split()}
    checked: list[tuple[str, str]] = []
    for name, value in given:
        if f"--{name}" in UNSUPPORTED.get(keyword, "").split():
            raise Unsupported(f"{keyword} --{name} is not supported yet", where=where)
        if name not in table:
            raise InvalidInput(f"unknown flag: --{name}{_meant(name, list(table), '--')}", where=where)
        if not table[name].endswith("*") and any(name == earlier for earlier, _ in checked):
            raise InvalidInput(f"duplicate flag specified: {name}", where=where)
        if table[name].endswith("?"):
            if value not in (None, "true", "false"):
                raise InvalidInput(f"expecting boolean value for flag {name}, not: {value}", where=where)
            checked.append((name, value or "true"))
        elif value is None:
            raise InvalidInput(f"missing a value on flag: {name}", where=where)
        else:
            checked.append((name, value))
    return tuple(checked)


def _meant(word: str, known: list[str], prefix: str = "") -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def _command(keyword: str, rest: str, _escape: str, where: str) -> _Shape:
    """RUN, CMD, ENTRYPOINT: JSON, or all of it for a shell."""
    words = array(rest, where=where)
    if words is not None:
        return _Shape(words, json=True)
    if not rest and keyword == "RUN":
        raise InvalidInput("RUN requires at least one argument", where=where)
    return _Shape((rest,) if rest else ())


def _copy(keyword: str, rest: str, _escape: str, where: str) -> _Shape:
    listed = array(rest, where=where)
    words = tuple(rest.split()) if listed is None else listed
    if len(words) < 2:
        number = "but only one was provided. Destination could not be determined" if words else "none were provided"
        raise InvalidInput(f"{keyword} requires at least two arguments, {number}", where=where)
    return _Shape(words, json=listed is not None)


def _some(keyword: str, rest: str, _escape: str, where: str) -> _Shape:
    """VOLUME (JSON or words) and EXPOSE (words): at least one."""
    words = array(rest, where=where) if keyword == "VOLUME" else None
    words = tuple(rest.split()) if words is None else words
    if not words:
        raise InvalidInput(f"{keyword} requires at least one argument", where=where)
    if keyword == "VOLUME" and not all(word.strip() for word in words):
        raise InvalidInput("VOLUME specified can not be an empty string", where=where)
    return _Shape(words)


def _one(keyword: str, rest: str, _escape: str, where: str) -> _Shape:
    """USER, WORKDIR, STOPSIGNAL, MAINTAINER: the rest of the line is one argument."""
    if not rest:
        raise InvalidInput(f"{keyword} requires exactly one argument", where=where)
    return _Shape((rest,))


def _shell(_keyword: str, rest: str, _escape: str, where: str) -> _Shape:
    words = array(rest, where=where)
    if not words:
        raise InvalidInput(
            "SHELL requires the arguments to be in JSON form", where=where, hint='SHELL ["/bin/sh", "-c"]'
        )
    return _Shape(words, json=True)


def _from(_keyword: str, rest: str, _escape: str, where: str) -> _Shape:
    words = rest.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise InvalidInput("FROM requires either one or three arguments", where=where, hint="FROM IMAGE [AS NAME]")
    return _Shape((words[0], words[2]) if len(words) == 3 else (words[0],))


def _pairs(keyword: str, rest: str, escape: str, where: str) -> _Shape:
    return _Shape(pairs=named(rest, keyword=keyword, escape=escape, where=where))


def _arg(_keyword: str, rest: str, escape: str, where: str) -> _Shape:
    words = split(rest, escape)
    if not words:
        raise InvalidInput("ARG requires at least one argument", where=where)
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidInput("ARG names can not be blank", where=where)
        pairs.append((name, value if equals else None))
    return _Shape(pairs=tuple(pairs))


def _health(_keyword: str, rest: str, escape: str, where: str) -> _Shape:
    kind, command = first(rest)
    if kind.upper() == "NONE":
        if command:
            raise InvalidInput("HEALTHCHECK NONE takes no arguments", where=where)
        return _Shape(("NONE",))
    if kind.upper() != "CMD":
        what = f"unknown type {kind!r} in HEALTHCHECK" if kind else "HEALTHCHECK requires at least one argument"
        raise InvalidInput(what, where=where, hint="HEALTHCHECK CMD command, or HEALTHCHECK NONE")
    shape = _command("HEALTHCHECK", command, escape, where)
    if not shape.words:
        raise InvalidInput("missing command after HEALTHCHECK CMD", where=where)
    return _Shape(("CMD", *shape.words) if shape.json else ("CMD-SHELL", *shape.words), json=shape.json)


def _onbuild(_keyword: str, rest: str, escape: str, where: str) -> _Shape:
    """The trigger is checked now and parsed again when a later build meets it."""
    keyword, arguments = first(rest)
    if keyword.upper() == "ONBUILD":
        raise InvalidInput("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", where=where)
    if keyword.upper() in ("FROM", "MAINTAINER"):
        raise InvalidInput(f"{keyword.upper()} isn't allowed as an ONBUILD trigger", where=where)
    name, _, number = where.rpartition(":")
    line = Line(keyword=keyword.upper(), rest=arguments, number=int(number), heredocs=())
    if not keyword:
        raise InvalidInput("ONBUILD requires at least one argument", where=where)
    instruction(line, name=name, escape=escape)
    return _Shape((rest,))


_SHAPES: dict[str, Callable[[str, str, str, str], _Shape]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _command,
    "COPY": _copy,
    "ENTRYPOINT": _command,
    "ENV": _pairs,
    "EXPOSE": _some,
    "FROM": _from,
    "HEALTHCHECK": _health,
    "LABEL": _pairs,
    "MAINTAINER": _one,
    "ONBUILD": _onbuild,
    "RUN": _command,
    "SHELL": _shell,
    "STOPSIGNAL": _one,
    "USER": _one,
    "VOLUME": _some,
    "WORKDIR": _one,
}

"""RUN --mount: what it asks for. Pure.

https://docs.docker.com/reference/dockerfile/#run---mount
"""

from __future__ import annotations

from posixpath import join, normpath
from typing import TYPE_CHECKING

from veloci.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veloci.build.config import Configuration
    from veloci.build.instructions import Instruction

_KEYS = {
    "bind": "target source from rw",
    "cache": "target source from ro id sharing mode uid gid",
    "tmpfs": "target size",
    "secret": "target id required mode uid gid env",
    "ssh": "target id required mode uid gid",
}
_NAMES = {
    "dst": "target",
    "destination": "target",
    "src": "source",
    "readonly": "ro",
    "readwrite": "rw",
}
SHARING = ("shared", "private", "locked")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Wanted:
    """One mount: kind, and its options by name; a flag that stands alone has the value "true"."""

    def __init__(self, kind: str, options: dict[str, str], target: str) -> None:
        self.kind, self.options, self.target = kind, options, target

    def true(self, name: str) -> bool:
        """Whether an option is on."""
        return self.options.get(name, "false") != "false"

    def number(self, name: str, default: int, base: int = 10) -> int:
        """An option that is a number, already checked."""
        return int(self.options[name], base) if name in self.options else default

    @property
    def identity(self) -> str:
        """What a cache mount is known by."""
        return self.options.get("id") or self.target

    def effect(self) -> list[object]:
        """What of it may change the step's result: never an id or a secret's value."""
        shown = {key: value for key, value in self.options.items() if key not in ("id", "sharing")}
        return [self.kind, self.target, sorted(shown.items())]


def wanted(step: Instruction, image: Configuration) -> list[Wanted]:
    """The mounts of a RUN, variables replaced. Raises InvalidInput with the line."""
    found: list[Wanted] = []
    for text in step.every("mount"):
        found.append(_one(image.word(text, step), step, image, found))
    return found


def _one(text: str, step: Instruction, image: Configuration, earlier: Sequence[Wanted]) -> Wanted:
    options: dict[str, str] = {}
    for field in text.split(","):
        name, equals, value = field.partition("=")
        name = _NAMES.get(name.strip().lower(), name.strip().lower())
        options[name] = value if equals else "true"
    kind = options.pop("type", "bind")
    if kind not in _KEYS:
        raise InvalidInput(
            f"unsupported mount type {kind!r}", where=step.where, hint=f"one of {', '.join(sorted(_KEYS))}"
        )
    if kind == "cache" and options.get("sharing", "shared") not in SHARING:
        raise InvalidInput(
            f"unsupported sharing {options['sharing']!r}", where=step.where, hint=f"one of {', '.join(SHARING)}"
        )
    if kind == "bind" and "ro" in options:
        options["rw"] = "false" if options.pop("ro") != "false" else "true"
    if kind == "cache" and "rw" in options:
        options["ro"] = "false" if options.pop("rw") != "false" else "true"
    for name, value in options.items():
        _check(kind, name, value, text, step)
    return Wanted(kind, options, _target(kind, options, text, step, image, earlier))


def _check(kind: str, name: str, value: str, text: str, step: Instruction) -> None:
    if name not in _KEYS[kind].split():
        raise InvalidInput(f"unexpected key {name!r} in --mount={text}", where=step.where)
    digits = "01234567" if name == "mode" else "0123456789"
    if name in ("mode", "uid", "gid") and (not value or value.strip(digits)):
        raise InvalidInput(f"invalid {name} {value!r} in --mount={text}", where=step.where)
    if name == "size":
        number = value.lower().removesuffix("b").rstrip("kmg")
        if not number.isdecimal() or value.lower().removesuffix("b")[len(number) :] not in _UNITS:
            raise InvalidInput(f"invalid size {value!r} in --mount={text}", where=step.where, hint="64m, 1g")


def _target(
    kind: str, options: dict[str, str], text: str, step: Instruction, image: Configuration, earlier: Sequence[Wanted]
) -> str:
    target = options.pop("target", "")
    if kind == "secret":
        identity = options.get("id") or target.rpartition("/")[2]
        if not identity:
            raise InvalidInput(f"--mount={text} needs an id", where=step.where)
        options["id"] = identity
        target = target or ("" if "env" in options else f"/run/secrets/{identity}")
    elif kind == "ssh":
        number = sum(want.kind == "ssh" for want in earlier)
        target = target or f"/run/buildkit/ssh_agent.{number}"
    elif not target:
        raise InvalidInput(f"--mount={text} needs a target", where=step.where)
    target = normpath(join(image.workdir, target)) if target else ""
    if target == "/":
        raise InvalidInput("a mount's target cannot be /", where=step.where)
    return target

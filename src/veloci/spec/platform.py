"""Platforms: what an image runs on, and which of several fits.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md#image-index-property-descriptions
"""

from __future__ import annotations

from os import uname

from veloci.errors import InvalidInput
from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# uname's machine -> architecture (Go's GOARCH), variant
_MACHINES = {
    "x86_64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", None),
    "ppc64le": ("ppc64le", None),
    "s390x": ("s390x", None),
    "riscv64": ("riscv64", None),
}
_MARKS = str.maketrans("", "", "-_.")
_USUAL = {"arm64": "v8", "arm": "v7", "amd64": "v1"}  # the variant that no variant is
_SPELLINGS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}


class Platform(Document, os_version="os.version", os_features="os.features"):
    """An operating system on a kind of processor."""

    architecture: str
    os: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def host() -> Platform:
    """The platform of this machine."""
    machine = uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, None))
    return Platform(architecture=architecture, os="linux", variant=variant)


def parse(text: str) -> Platform:
    """`linux/arm64/v8`, `linux/amd64` or just `arm64` as a platform. Raises InvalidInput."""
    parts = text.lower().split("/")
    if len(parts) == 1:
        parts = [parts[0], host().architecture] if parts[0] == "linux" else ["linux", *parts]
    if len(parts) > 3 or not all(part and part.translate(_MARKS).isalnum() for part in parts):
        raise InvalidInput(f"{text!r} is not a platform", hint="write it as os/architecture[/variant]: linux/arm64/v8")
    architecture = _SPELLINGS.get(parts[1], parts[1])
    return Platform(os=parts[0], architecture=architecture, variant=parts[2] if len(parts) == 3 else None)


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether an image for `offered` runs on `wanted`: what an earlier variant of a processor runs, later ones run too.

    As in docker and podman no variant is arm's v7, arm64's v8, amd64's v1: an image for amd64/v3 is not taken for one
    that every amd64 runs.
    """
    return _fit(wanted, offered) is not None


def preferred(wanted: Platform, offered: Sequence[Platform | None]) -> list[int]:
    """Which of these fit, by their places, the best first: the nearest variant, of equal ones the first; None last.

    image-index.md#image-index-property-descriptions has the first of those that match; that debian for arm/v7 is not
    its arm/v5, which stands before it, is how all clients read that.
    """
    fits = [(_fit(wanted, each) if each else (-1,), place) for place, each in enumerate(offered)]
    return [place for fit, place in sorted(((f, p) for f, p in fits if f), key=lambda each: each[0], reverse=True)]


def others(wanted: Platform, offered: Sequence[Platform | None]) -> list[str]:
    """Those that do not fit, to be told; an attestation is for no platform."""
    return [str(each) for each in offered if each and each.os != "unknown" and not matches(wanted, each)]


def _fit(wanted: Platform, offered: Platform) -> tuple[int, ...] | None:
    """How well an image for `offered` does on `wanted`, more is better; None: not at all."""
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    usual = _USUAL.get(wanted.architecture)
    mine, theirs = wanted.variant or usual, offered.variant or usual
    if usual and (have := _version(mine)) and (needed := _version(theirs)):
        return needed if needed <= have else None
    return (1,) if mine == theirs else None if wanted.variant and offered.variant else (0,)


def _version(variant: str | None) -> tuple[int, ...]:
    """`v8.2` as numbers; nothing for another form."""
    parts = (variant or "").removeprefix("v").split(".")
    return tuple(map(int, parts)) if all(part.isascii() and part.isdecimal() for part in parts) else ()

"""Platforms: what an image runs on, and which of several fits.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md#image-index-property-descriptions
"""

from __future__ import annotations

from os import uname

from veloci.errors import InvalidInput
from veloci.spec.document import Document

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
    if len(parts) > 3 or not all(part and part.replace("-", "").replace("_", "").isalnum() for part in parts):
        raise InvalidInput(f"{text!r} is not a platform", hint="write it as os/architecture[/variant]: linux/arm64/v8")
    architecture = _SPELLINGS.get(parts[1], parts[1])
    return Platform(os=parts[0], architecture=architecture, variant=parts[2] if len(parts) == 3 else None)


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether an image for `offered` runs on `wanted`. As in docker, no variant fits any; arm64 is v8, arm v7."""
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return False
    usual = {"arm64": "v8", "arm": "v7"}.get(wanted.architecture)
    mine, theirs = wanted.variant or usual, offered.variant or usual
    if wanted.architecture == "arm" and mine and theirs:
        return theirs <= mine  # v6 runs on v7
    return wanted.variant is None or offered.variant is None or mine == theirs

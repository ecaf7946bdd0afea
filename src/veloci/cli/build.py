"""veloci build."""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from time import monotonic

from veloci.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def build(
    context: str,
    /,
    *,
    tag: tuple[str, ...] = (),
    file: str = "",
    build_arg: tuple[str, ...] = (),
    target: str = "",
    platform: str = "",
    no_cache: bool = False,
    pull: bool = False,
    network: str = "default",
    label: tuple[str, ...] = (),
    secret: tuple[str, ...] = (),
    format: str = "oci",
    iidfile: str = "",
    progress: str = "auto",
    quiet: bool = False,
) -> int:
    """Build an image from a Dockerfile and the directory CONTEXT.

    -t, --tag NAME         name the image; may be repeated
    -f, --file FILE        the Dockerfile (default CONTEXT/Dockerfile)
    --build-arg NAME=VALUE  set an ARG; NAME alone takes it from the environment; may be repeated
    --target STAGE         build this stage, not the last
    --platform PLATFORM    build for this platform
    --no-cache             run every step again
    --pull                 ask the registry for newer base images
    --network MODE         of RUN: default (the bridge), host or none
    --label NAME=VALUE     add a label; may be repeated
    --secret SECRET        id=ID,src=FILE or id=ID,env=NAME for RUN --mount=type=secret; may be repeated
    --format FORMAT        of the manifest: oci (default) or docker
    --iidfile FILE         write the image's ID to FILE
    --progress KIND        auto or plain
    -q, --quiet            print the image's ID alone
    """
    from veloci.engine.builds import Request
    from veloci.engine.engine import Engine

    if progress not in ("auto", "plain"):
        raise InvalidInput(f"unknown kind {progress!r}", where="--progress", hint="auto or plain")
    request = Request(
        context=context,
        file=file,
        tags=tag,
        arguments=_arguments(build_arg),
        labels=dict(_pair(text, "--label") for text in label),
        secrets=dict(_secret(text) for text in secret),
        target=target,
        platform=platform,
        network=network,
        no_cache=no_cache,
        pull=pull,
        epoch=_epoch(build_arg),
        format=format,
    )
    shown = _Quiet() if quiet else Plain(sys.stderr)
    image = Engine().builds.build(request, shown, warn=lambda text: print(f"[Warning] {text}", file=sys.stderr))
    if iidfile:
        with open(iidfile, "w", encoding="ascii") as output:
            output.write(image.id)
    if quiet:
        print(image.id)
        return 0
    shown.line(f"writing image {image.id}")
    for name in tag:
        from veloci.spec.reference import Reference

        shown.line(f"naming to {Reference.parse(name).with_default_tag()}")
    return 0


def _arguments(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if equals or name in os.environ:
            found[name] = value if equals else os.environ[name]
    return found


def _epoch(given: tuple[str, ...]) -> int | None:
    text = _arguments(given).get("SOURCE_DATE_EPOCH") or os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdecimal():
        raise InvalidInput(f"{text!r} is not a number of seconds", where="SOURCE_DATE_EPOCH")
    return int(text)


def _pair(text: str, where: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise InvalidInput(f"{text!r} has no name", where=where, hint="NAME=VALUE")
    return name, value


def _secret(text: str) -> tuple[str, bytes]:
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    identity = fields.get("id", "")
    if not identity:
        raise InvalidInput(f"{text!r} has no id", where="--secret", hint="id=ID,src=FILE")
    if "env" in fields or (fields.get("type") == "env" and "src" not in fields):
        name = fields.get("env") or identity
        if name not in os.environ:
            raise NotFound(f"environment variable {name} is not set", where="--secret")
        return identity, os.environb[name.encode()]
    path = fields.get("src") or fields.get("source") or identity
    try:
        with open(path, "rb") as source:
            return identity, source.read()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}", where="--secret") from None


class Plain:
    """A line a step, as buildkit's plain progress."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = allocate_lock()
        self._number = 0
        self._rest: dict[int, bytes] = {}
        self._began: dict[int, float] = {}

    def line(self, text: str) -> None:
        """Print one line; control characters of a program's output stay harmless."""
        from veloci.cli.output import visible

        self._stream.write(f"{visible(text)}\n")
        self._stream.flush()

    def start(self, title: str) -> int:
        """A step begins."""
        with self._lock:
            self._number += 1
            self._began[self._number] = monotonic()
            self.line(f"#{self._number} {title}")
            return self._number

    def output(self, number: int, data: bytes) -> None:
        """Whole lines of what its program printed."""
        with self._lock:
            *lines, self._rest[number] = (self._rest.get(number, b"") + data).split(b"\n")
            for line in lines:
                self._program(number, line)

    def _program(self, number: int, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2].expandtabs()
        self.line(f"#{number} {monotonic() - self._began[number]:.3f} {text}")

    def _flush(self, number: int) -> None:
        if rest := self._rest.pop(number, b""):
            self._program(number, rest)

    def done(self, number: int, seconds: float | None) -> None:
        """CACHED, or how long it took."""
        with self._lock:
            self._flush(number)
            self.line(f"#{number} CACHED" if seconds is None else f"#{number} DONE {seconds:.1f}s")

    def failed(self, number: int, message: str) -> None:
        """ERROR and why."""
        with self._lock:
            self._flush(number)
            self.line(f"#{number} ERROR: {message}")


class _Quiet(Plain):
    """Prints nothing, but keeps what the failing program said."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._kept: dict[int, bytes] = {}

    def start(self, title: str) -> int:  # noqa: ARG002 -- the interface's
        self._number += 1
        return self._number

    def output(self, number: int, data: bytes) -> None:
        self._kept[number] = (self._kept.get(number, b"") + data)[-65_536:]

    def done(self, number: int, seconds: float | None) -> None:  # noqa: ARG002 -- the interface's
        self._kept.pop(number, None)

    def failed(self, number: int, message: str) -> None:  # noqa: ARG002 -- the interface's
        sys.stderr.write(self._kept.pop(number, b"").decode(errors="replace"))

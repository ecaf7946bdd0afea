"""A root file system's tar as an image of one layer, in one pass: decompress, check, hash, compress, store."""

from __future__ import annotations

import os

from veloci.errors import Corrupt, HostError, InvalidInput
from veloci.image.assemble import assemble
from veloci.layer.stream import Hashed, compressed, decompressed
from veloci.spec import media
from veloci.spec.platform import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from veloci.content.store import Store
    from veloci.spec.image import Descriptor
    from veloci.spec.platform import Platform

CHUNK = 1 << 20  # bytes
CHANGES = "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR".split()


def import_(
    store: Store,
    file: str | Iterable[bytes],
    *,
    changes: tuple[str, ...] = (),
    message: str = "",
    platform: Platform | None = None,
) -> Descriptor:
    """Store an image made from a tar, plain or compressed (gzip, bzip2, xz, zstd). Returns its manifest's descriptor.

    file: its path, "-" for standard input, or its chunks. changes: Dockerfile instructions on the
    configuration (`ENV A=1`). message: the comment in its history. SOURCE_DATE_EPOCH is the time it gets.
    Raises InvalidInput for what is no tar or no such instruction, NotFound, HostError.
    """
    from veloci.engine.tasks import spread

    if isinstance(file, str) and file.startswith(("http://", "https://")):
        raise InvalidInput("an import reads a file", where=file, hint=f"curl {file} | veloci import -")
    config = configuration(changes)
    where = "standard input" if file == "-" else file if isinstance(file, str) else "the archive"
    chunks = _read(file) if isinstance(file, str) else file
    tar = Hashed(decompressed(chunks))
    try:
        layer = store.adopt(compressed(checked(tar), spread=spread), media.LAYER_GZIP)
    except (InvalidInput, Corrupt) as error:
        raise InvalidInput(
            f"not a root file system's tar: {error}",
            where=where,
            hint="give a tar archive; plain, or compressed by gzip, bzip2, xz or zstd",
        ) from None
    created = _now()
    wanted = platform or host()
    comment = message or f"Imported from {file if isinstance(file, str) else 'a stream'}"
    document: dict[str, Any] = {
        "created": created,
        "architecture": wanted.architecture,
        "os": wanted.os,
        **({"variant": wanted.variant} if wanted.variant else {}),
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [tar.digest]},
        "history": [{"created": created, "comment": comment}],
    }
    return assemble(store, document, [layer])


def configuration(changes: Iterable[str], base: dict[str, Any] | None = None) -> dict[str, Any]:
    """The image's config object, `base` at first, after Dockerfile instructions. Raises InvalidInput with the flag."""
    from veloci.build.config import PATH, Configuration
    from veloci.build.instructions import instruction
    from veloci.build.parse import parse

    lines = list(changes)
    base = base or {}
    if not lines:
        return base
    image = Configuration({"config": base}, given={}, known={}, escape="\\")
    for line in lines:
        for parsed in parse(line.encode(), name="--change").lines:
            if parsed.keyword not in CHANGES:
                raise InvalidInput(
                    f"{parsed.keyword} is not a valid change command",
                    where="--change",
                    hint=f"one of {', '.join(CHANGES)}",
                )
            step = instruction(parsed, name="--change", escape="\\")
            if step.keyword == "WORKDIR":
                image.config["WorkingDir"] = image.absolute(image.word(step.words[0], step))
            else:
                image.apply(step)
    config = image.config
    ours = f"PATH={PATH}"  # which Configuration adds
    environment = [entry for entry in config.get("Env") or () if entry != ours or ours in (base.get("Env") or ())]
    return {
        **{key: value for key, value in config.items() if key != "Env"},
        **({"Env": environment} if environment else {}),
    }


def checked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass a tar through, a few chunks at a time. Raises InvalidInput where it is none, is cut, or is empty."""
    from veloci.layer.tar import Reader

    passed: list[bytes] = []

    def recorded() -> Iterator[bytes]:
        for chunk in chunks:
            passed.append(chunk)
            yield chunk

    reader = Reader(recorded())
    for _entry in reader:
        for _part in reader.body():
            if passed:
                yield from passed
                passed.clear()
    yield from passed
    if not reader.entries:
        raise InvalidInput("there is nothing in it")


def _read(path: str) -> Iterator[bytes]:
    try:
        file = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"open {path}", error) from None
    try:
        while chunk := os.read(file, CHUNK):
            yield chunk
    except OSError as error:
        raise HostError(f"read {path}", error) from None
    finally:
        if file:
            os.close(file)


def _now() -> str:
    """The time, or SOURCE_DATE_EPOCH, in RFC 3339."""
    from datetime import UTC, datetime

    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not epoch.isdecimal():
        raise InvalidInput(f"{epoch!r} is no time", where="SOURCE_DATE_EPOCH", hint="seconds since 1970")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.isoformat().replace("+00:00", "Z")

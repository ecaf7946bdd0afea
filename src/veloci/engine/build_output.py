"""Where a build's result goes: --output.

https://docs.docker.com/build/exporters/
"""

from __future__ import annotations

import os
import sys

from veloci.content.files import appear
from veloci.errors import HostError, InvalidInput
from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.build.execute import Build, Shown
    from veloci.build.stage import Stage
    from veloci.engine.engine import Engine
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference

KINDS = ("image", "registry", "local", "tar", "oci", "docker", "cacheonly")


class Output(Document):
    """kind: one of KINDS. dest: a path, "-" for standard output. push: send the image to its registry, too.

    whole: false for type=oci,tar=false, a directory.
    """

    kind: str
    dest: str = ""
    names: tuple[str, ...] = ()
    push: bool = False
    whole: bool = True


def parse(text: str) -> Output:
    """`type=local,dest=DIR`, or a directory alone, or - for a tar on standard output. Raises InvalidInput."""
    if "=" not in text and "," not in text:
        return Output(kind="tar", dest="-") if text == "-" else Output(kind="local", dest=text)
    fields: dict[str, str] = {}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            raise InvalidInput(f"invalid output {text!r}: {field!r} has no =", where="--output")
        fields[key.strip().lower()] = value
    kind, dest = fields.pop("type", ""), fields.pop("dest", "")
    names = tuple(name for name in fields.pop("name", "").split(",") if name)
    push, whole = fields.pop("push", "false"), fields.pop("tar", "true")
    if kind not in KINDS:
        raise InvalidInput(f"unknown output type {kind!r}", where="--output", hint=", ".join(KINDS))
    if fields:
        raise InvalidInput(
            f"unknown output field {min(fields)!r}", where="--output", hint="type, dest, name, push, tar"
        )
    if kind in ("local", "oci", "tar") and not dest:
        if kind == "local":
            raise InvalidInput(f"dest is required for {kind} output", where="--output", hint=f"type={kind},dest=PATH")
        dest = "-"
    if dest == "-" and sys.stdout.isatty():
        raise InvalidInput("dest file is required: standard output is a terminal", where="--output")
    return Output(kind=kind, dest=dest, names=names, push=push == "true", whole=whole != "false")


def keeps(outputs: tuple[Output, ...]) -> bool:
    """Whether the result becomes an image of the store."""
    return not outputs or any(
        one.kind in ("image", "registry") or (one.kind == "docker" and not one.dest) for one in outputs
    )


class Part:
    """One platform's image."""

    def __init__(self, build: Build, stage: Stage, descriptor: Descriptor) -> None:
        self.build, self.stage, self.descriptor = build, stage, descriptor


def write(
    engine: Engine,
    parts: list[Part],
    descriptor: Descriptor,
    tags: list[Reference],
    output: Output,
    shown: Shown,
) -> None:
    """Give the result to one output. descriptor: the image's, or the index's of several.

    Raises InvalidInput for what the output cannot hold, HostError, and what a push raises.
    """
    if output.kind == "local" and len(parts) > 1:
        for part in parts:
            here = output.replace(dest=f"{output.dest}/{str(part.build.platform).replace('/', '_')}")
            write(engine, [part], part.descriptor, tags, here, shown)
    elif output.kind in ("local", "tar"):
        _several(parts, output)
        build = parts[0].build
        root = engine.snapshots.view(build.unpacked(parts[0].stage, shown))
        try:
            if output.kind == "local":
                _local(root, output.dest)
            else:
                _tar(root, output.dest, build.options.epoch)
        finally:
            os.close(root)
    elif output.kind in ("oci", "docker") and output.dest:
        if output.kind == "docker":
            _several(parts, output)
        _archive(engine, descriptor, tags, output, shown)
    if output.push or output.kind == "registry":
        if not tags:
            raise InvalidInput("tag is needed when pushing to registry", where="--output", hint="-t HOST/NAME")
        for tag in tags:
            engine.images.push(str(tag), progress=shown.transfers)
            parts[0].build.parts.progress.note(shown.number, f"pushing {tag} done")


def _several(parts: list[Part], output: Output) -> None:
    if len(parts) > 1:
        raise InvalidInput(
            f"type={output.kind} holds one platform's image", where="--output", hint="type=oci, or one --platform"
        )


def _local(root: int, path: str) -> None:
    """All files into a directory, as the user's own; what is there already and has another name stays."""
    from veloci.build.context import Tree
    from veloci.build.copy import Target

    os.makedirs(path, exist_ok=True)
    target = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Tree(os.dup(root), name="the result", owners=True) as tree:
            Target(target, owner=(os.geteuid(), os.getegid())).copy(tree, "/", "/", into=True)
    finally:
        os.close(target)


def _tar(root: int, path: str, epoch: int | None) -> None:
    from veloci.layer.diff import tree

    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        _written(tree(directory, epoch=epoch), path)
    finally:
        os.close(directory)


def _written(chunks: Iterator[bytes], path: str) -> None:
    """To standard output, or to a file that appears whole."""
    if path == "-":
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            appear(file.fileno(), temporary, path)
    except OSError as error:
        raise HostError(f"write {path}", error) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _archive(engine: Engine, descriptor: Descriptor, tags: list[Reference], output: Output, shown: Shown) -> None:
    from veloci.transport.copy import copy
    from veloci.transport.docker_archive import DockerArchive
    from veloci.transport.layout import LayoutArchive, LayoutFolder
    from veloci.transport.store import StorePlace

    names = [str(tag) for tag in tags] or [""]
    path = 1 if output.dest == "-" else output.dest
    source = StorePlace(engine.store, engine.names, None, descriptor)
    if output.kind == "docker":
        copy(source, DockerArchive(path, tags), progress=shown.transfers)
    elif output.whole:
        copy(source, LayoutArchive(path, names[0], more=names[1:]), all=True, progress=shown.transfers)
    else:
        copy(source, LayoutFolder(output.dest, names[0], more=names[1:]), all=True, progress=shown.transfers)

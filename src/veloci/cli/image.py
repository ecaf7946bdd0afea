"""`veloci image new | append | flatten | squash | rebase | recompress | convert`: an image's layers changed."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it
from veloci.cli.surgery import WriteOptions  # noqa: TC001

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.transport.edited import Edited


def new(place: str, /, *, platform: str | None = None, quiet: bool = False, registry: RegistryOptions) -> int:
    """Write an image of nothing to PLACE, to begin with; append and config make more of it.

    --platform OS/ARCH    what it is for (default: this machine)
    -q, --quiet           print nothing
    """
    from veloci.cli.surgery import Way
    from veloci.spec.platform import host, parse
    from veloci.transport.blank import Blank
    from veloci.transport.copy import copy

    done = copy(Blank(parse(platform) if platform else host()), Way(registry).destination(place))
    if not quiet:
        print(f"{place}: digest: {done.digest} size: {done.size}")
    return 0


def append(
    image: str,
    /,
    *files: str,
    at: str = "/",
    remove: tuple[str, ...] = (),
    opaque: bool = False,
    compress: str = "gzip",
    created_by: str | None = None,
    comment: str = "",
    author: str = "",
    no_history: bool = False,
    written: WriteOptions,
    registry: RegistryOptions,
) -> int:
    """Put layers on top of an image, one for each FILE: a tar, compressed or not, or a directory or plain file.

    --at PATH             where a directory's content, or a plain file, goes in the image (default: /)
    --remove PATH         remove a path of the layers below; may be repeated
    --opaque              hide what the layers below have in the directory --at
    --compress KIND[:LEVEL]  how the new layers are compressed: gzip (default), zstd or none
    --created-by TEXT     the history's command (default: veloci image append)
    --comment TEXT        the history's comment
    --author NAME         the history's author
    --no-history          leave no step in the history
    """
    from veloci.cli.copy import compression
    from veloci.cli.surgery import changed
    from veloci.errors import InvalidInput
    from veloci.image.draft import epoch, step
    from veloci.image.folder import layer_of, removal

    if not (files or remove):
        raise InvalidInput("takes IMAGE FILE...", where="image append", hint="veloci image append --help")
    kind, level = compression(compress) or ("gzip", None)

    def work(edited: Edited) -> None:
        tars = [layer_of(file, at, opaque=opaque, epoch=epoch()) for file in files]
        if remove:
            tars.append(removal(remove))
        for tar in tars:
            layer, diff_id = edited.add(tar, kind, level)
            made = None if no_history else step(created_by or "veloci image append", comment, author)
            edited.draft.append(layer, diff_id, made)

    return changed(image, work, written, registry)


def flatten(
    image: str,
    /,
    *,
    compress: str = "gzip",
    written: WriteOptions,
    registry: RegistryOptions,
) -> int:
    """Make all layers of an image one.

    --compress KIND[:LEVEL]  how the layer is compressed: gzip (default), zstd or none
    """

    def work(edited: Edited) -> None:
        _squash(edited, 0, compress, "veloci image flatten")

    from veloci.cli.surgery import changed

    return changed(image, work, written, registry)


def squash(
    image: str,
    /,
    *,
    layers: int = 0,
    base: str | None = None,
    compress: str = "gzip",
    written: WriteOptions,
    registry: RegistryOptions,
) -> int:
    """Make the upper layers of an image one: the last N, or those above the image it is based on.

    -n, --layers N        so many layers, from the top
    --base IMAGE          those above this image's layers
    --compress KIND[:LEVEL]  how the layer is compressed: gzip (default), zstd or none
    """
    from veloci.cli.surgery import Way, changed
    from veloci.errors import InvalidInput
    from veloci.transport.reshape import shared

    if (layers > 0) == (base is not None):
        raise InvalidInput("takes --layers N or --base IMAGE", where="image squash")

    def work(edited: Edited) -> None:
        have = len(edited.draft.diff_ids)
        if base is not None:
            with Way(registry).opened(base, written.platform) as below:
                keep = shared(edited, below)
        elif layers > have:
            raise InvalidInput(f"it has {have} layers", where="--layers")
        else:
            keep = have - layers
        _squash(edited, keep, compress, "veloci image squash")

    return changed(image, work, written, registry)


def rebase(
    image: str,
    /,
    *,
    old_base: str | None = None,
    new_base: str | None = None,
    written: WriteOptions,
    registry: RegistryOptions,
) -> int:
    """Put an image's own layers on another base; nothing is built again.

    --old-base IMAGE      what it is based on (default: the annotation org.opencontainers.image.base.digest)
    --new-base IMAGE      what it shall be based on (default: the annotation org.opencontainers.image.base.name)
    """
    from veloci.cli.surgery import Way, changed
    from veloci.transport.reshape import rebase

    def work(edited: Edited) -> None:
        old, new, name = _bases(edited, old_base, new_base)
        way = Way(registry)
        with way.opened(old, written.platform) as below:
            rebase(edited, below, way.opened(new, written.platform), name)

    return changed(image, work, written, registry)


def recompress(
    image: str,
    /,
    *,
    compress: str = "zstd",
    to: str | None = None,
    all: bool = False,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Compress an image's layers otherwise; what they hold stays.

    --compress KIND[:LEVEL]  gzip (0-9), zstd (1-19, the default kind) or none
    -t, --to PLACE        write the image there (default: where it was)
    -a, --all             all images of an index
    -q, --quiet           print nothing
    """
    from veloci.cli.surgery import copied

    return copied(image, to, registry, compress=compress, all=all, quiet=quiet)


def convert(
    image: str,
    /,
    *,
    format: str = "oci",
    to: str | None = None,
    all: bool = False,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Write an image's documents in the other family: OCI's, or Docker version 2 schema 2. Layers stay.

    -f, --format FORMAT   oci, or docker (v2s2)
    -t, --to PLACE        write the image there (default: where it was)
    -a, --all             all images of an index
    -q, --quiet           print nothing
    """
    from veloci.cli.surgery import copied

    return copied(image, to, registry, format=format, all=all, quiet=quiet)


def export(
    image: str,
    /,
    *,
    output: str | None = None,
    platform: str | None = None,
    registry: RegistryOptions,
) -> int:
    """Write an image's whole file system as a tar, without running it.

    -o, --output FILE     write to FILE (default: standard output)
    --platform OS/ARCH    of an index, the image for this platform
    """
    import os
    import sys

    from veloci.cli.surgery import Way
    from veloci.errors import HostError, InvalidInput
    from veloci.image.draft import epoch
    from veloci.layer.diff import tree
    from veloci.transport.reshape import pairs
    from veloci.transport.unpacked import unpacked

    if output is None and os.isatty(1):
        raise InvalidInput("cowardly refusing to write a tar to a terminal", hint="-o FILE, or redirect")
    with (
        Way(registry).opened(image, platform) as edited,
        unpacked(edited.base, pairs(edited), scratch()) as root,
    ):
        sys.stdout.flush()
        try:
            with open(1 if output is None else output, "wb", closefd=output is not None) as file:
                file.writelines(tree(root, epoch=epoch()))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise HostError("write the tar", error, where=output or "standard output") from error
    return 0


def scratch() -> str:
    """Where trees are for a while."""
    from veloci import paths

    return f"{paths.data()}/scratch"


def _squash(edited: Edited, keep: int, compress: str, created_by: str) -> None:
    """Make all layers but the first `keep` one."""
    from veloci.cli.copy import compression
    from veloci.transport.reshape import squash

    kind, level = compression(compress) or ("gzip", None)
    squash(edited, keep, scratch(), kind=kind, level=level, created_by=created_by)


def _bases(edited: Edited, old: str | None, new: str | None) -> tuple[str, str, str]:
    """The places of both bases, from the annotations where they are not given, and the new one's name if it has one."""
    from veloci.errors import InvalidInput
    from veloci.spec.reference import Reference
    from veloci.transport.reshape import BASE_DIGEST, BASE_NAME

    notes = edited.draft.manifest.get("annotations") or {}
    if BASE_NAME in notes:
        new = new or f"docker://{notes[BASE_NAME]}"
        if BASE_DIGEST in notes:
            named = Reference.parse(notes[BASE_NAME])
            old = old or f"docker://{named.registry}/{named.repository}@{notes[BASE_DIGEST]}"
    for place, flag in ((new, "--new-base IMAGE"), (old, "--old-base IMAGE")):
        if place is None:
            raise InvalidInput("its annotations name no base", where=edited.name, hint=flag)
    assert new is not None
    assert old is not None
    return old, new, new.removeprefix("docker://") if new.startswith("docker://") else ""

"""`veloci artifact push | pull | attach | discover | copy`: files as OCI artifacts, and what refers to what."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.transport.artifact import Artifact
    from veloci.transport.place import Source


def push(
    name: str,
    /,
    *files: str,
    artifact_type: str | None = None,
    annotation: tuple[str, ...] = (),
    config: str | None = None,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Put files into an artifact named NAME, in any place; each FILE is a path, or PATH:MEDIA-TYPE.

    A directory is packed, and unpacked again by pull.

    --artifact-type TYPE    what the artifact is: application/spdx+json
    --annotation KEY=VALUE  an annotation of its manifest; may be repeated
    --config FILE[:TYPE]    its config (default: an empty one)
    -q, --quiet             print nothing
    """
    from veloci.cli.surgery import Way

    way = Way(registry)
    with _made(files, artifact_type, annotation, config) as artifact, way.destination(name) as target:
        done = _copied(artifact, target)
    if not quiet:
        print(f"{name}: digest: {done.digest} size: {done.size}")
    return 0


def attach(
    subject: str,
    /,
    *files: str,
    artifact_type: str,
    annotation: tuple[str, ...] = (),
    platform: str | None = None,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Put files into an artifact that refers to SUBJECT, an image or artifact, beside it: a signature, an SBOM.

    --artifact-type TYPE    what the artifact is: application/spdx+json
    --annotation KEY=VALUE  an annotation of its manifest; may be repeated
    --platform OS/ARCH      let it refer to an index's image for this platform, not to the index
    -q, --quiet             print nothing
    """
    from veloci.cli.surgery import Way
    from veloci.spec.platform import parse
    from veloci.transport.referrers import beside
    from veloci.transport.select import select

    way = Way(registry)
    with way.source(subject) as source:
        descriptor, raw = source.manifest()
        if platform:
            descriptor, _ = select(source, descriptor, raw, parse(platform))
    with _made(files, artifact_type, annotation, None) as artifact:
        artifact.subject = descriptor.replace(annotations={}, platform=None)
        with beside(way.places, subject, way.session(subject))(artifact.manifest()[0]) as target:
            done = _copied(artifact, target)
    if not quiet:
        print(f"{subject}: {done.digest} refers to {descriptor.digest}")
    return 0


def pull(
    name: str,
    /,
    *,
    output: str = ".",
    keep_old_files: bool = False,
    platform: str | None = None,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Write an artifact's files.

    -o, --output DIRECTORY  where to (default: here)
    -k, --keep-old-files    replace no file
    --platform OS/ARCH      of an index, the artifact for this platform
    -q, --quiet             print nothing
    """
    from veloci.cli.main import escaped
    from veloci.cli.surgery import Way
    from veloci.errors import InvalidInput
    from veloci.spec import media
    from veloci.spec.platform import parse
    from veloci.transport.artifact import files, write
    from veloci.transport.select import select

    with Way(registry).source(name) as source:
        descriptor, raw = source.manifest()
        if media.is_index(descriptor.media_type):
            descriptor, raw = select(source, descriptor, raw, parse(platform) if platform else None)
        named = files(source, descriptor, raw)
        if not named:
            raise InvalidInput("none of its blobs has a file's name", where=name, hint=f"veloci inspect --raw {name}")
        for blob in named:
            title = write(source, blob, output, keep=keep_old_files)
            if not quiet:
                print(escaped(title))
    return 0


def discover(
    name: str,
    /,
    *,
    artifact_type: str | None = None,
    format: str = "tree",
    platform: str | None = None,
    registry: RegistryOptions,
) -> int:
    """Show what refers to an image or artifact, and what refers to that.

    --artifact-type TYPE    of this type only
    --format FORMAT         tree, or json: an index of what refers to NAME itself
    --platform OS/ARCH      of an index, the image for this platform
    """
    from veloci.cli.main import escaped
    from veloci.cli.output import show
    from veloci.cli.surgery import Way
    from veloci.errors import InvalidInput
    from veloci.spec import media
    from veloci.spec.document import dumps
    from veloci.spec.platform import parse
    from veloci.transport.referrers import referrers
    from veloci.transport.select import select

    if format not in ("tree", "json"):
        raise InvalidInput(f"{format!r} is unknown", where="--format", hint="tree or json")
    with Way(registry).source(name) as source:
        descriptor, raw = source.manifest()
        if platform:
            descriptor, _ = select(source, descriptor, raw, parse(platform))
        if format == "json":
            found = [entry.plain() for entry in referrers(source, descriptor.digest, artifact_type)]
            listed = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": found}
            show(dumps(listed, indent=2).decode() + "\n")
            return 0
        print(f"{name}@{descriptor.digest}")
        for line in _tree(source, descriptor.digest, artifact_type, "", set()):
            print(escaped(line))
    return 0


def copy(
    source: str,
    destination: str,
    /,
    *,
    referrers: bool = False,
    artifact_type: str | None = None,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Copy an artifact or image, an index with all that it lists, to another place, as it is.

    -r, --referrers         and all that refers to it: signatures, SBOMs, attestations, and cosign's tags
    --artifact-type TYPE    of what refers to it, this type only
    -q, --quiet             print nothing
    """
    from veloci.cli.surgery import Way
    from veloci.engine.tasks import parallel
    from veloci.transport.copy import copy
    from veloci.transport.referrers import beside, copy_referrers, telling

    way = Way(registry)
    place = beside(way.places, destination, way.session(destination)) if referrers else None
    if place:
        telling(source)
    target = way.destination(destination)
    more: list[Descriptor] = []
    with way.source(source) as opened:
        with target:
            done = copy(opened, target, all=True, preserve=True, parallel=parallel, stay_open=True)
        if place:
            more = copy_referrers(opened, done, place, artifact_type=artifact_type, parallel=parallel)
    if not quiet:
        print(f"{destination}: digest: {done.digest} size: {done.size}")
        for entry in more:
            print(f"{destination}: {entry.digest} {entry.artifact_type or entry.media_type}")
    return 0


def _made(
    files: tuple[str, ...], artifact_type: str | None, annotation: tuple[str, ...], config: str | None
) -> Artifact:
    """The artifact of some files. Raises InvalidInput, NotFound."""
    from veloci.image.settings import set_pairs
    from veloci.transport.artifact import UNKNOWN, Artifact

    artifact = Artifact(artifact_type or UNKNOWN, set_pairs(None, annotation, "--annotation"))
    try:
        if config:
            path, kind = _typed(config)
            artifact.configure(path, kind or "application/vnd.unknown.config.v1+json")
        for each in files:
            artifact.add(*_typed(each))
    except BaseException:
        artifact.__exit__()
        raise
    return artifact


def _typed(text: str) -> tuple[str, str]:
    """PATH[:MEDIA-TYPE] as the two."""
    path, colon, kind = text.rpartition(":")
    return (path, kind) if colon and "/" in kind and path else (text, "")


def _copied(artifact: Artifact, target: object) -> Descriptor:
    from veloci.engine.tasks import parallel
    from veloci.transport.copy import copy

    return copy(artifact, target, parallel=parallel, preserve=True, stay_open=True)  # type: ignore[arg-type]


def _tree(source: Source, digest: Digest, artifact_type: str | None, indent: str, seen: set[Digest]) -> Iterator[str]:
    from veloci.transport.referrers import referrers

    entries = [entry for entry in referrers(source, digest, artifact_type) if entry.digest not in seen]
    for number, entry in enumerate(entries):
        seen.add(entry.digest)
        last = number == len(entries) - 1
        yield f"{indent}{'└── ' if last else '├── '}{entry.artifact_type or entry.media_type} {entry.digest}"
        yield from _tree(source, entry.digest, None, indent + ("    " if last else "│   "), seen)

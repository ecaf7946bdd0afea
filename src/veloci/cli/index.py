"""`veloci index create | add | remove | annotate | push`: images of several platforms under one name."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.cli.surgery import Way
    from veloci.transport.collected import Collected


def create(
    name: str,
    /,
    *images: str,
    annotation: tuple[str, ...] = (),
    format: str | None = None,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Make an index of images, in any place; what the images need is copied there.

    NAME and each IMAGE are places (see veloci copy --help). An IMAGE that is an index adds all that it lists.

    --annotation KEY=VALUE  an annotation of the index; may be repeated
    -f, --format FORMAT     oci, or docker (v2s2): a manifest list; the images are written in it too
                            (default: an OCI index, and images as they are)
    -q, --quiet             print nothing
    """
    from veloci.cli.copy import wanted_format
    from veloci.cli.surgery import Way
    from veloci.image.settings import set_pairs
    from veloci.transport.collected import Collected

    to, way = wanted_format(format), Way(registry)
    with Collected(name, to or "oci") as collected:
        for image in images:
            collected.add(way.source(image))
        if annotation:
            collected.document["annotations"] = set_pairs(None, annotation, "--annotation")
        return _written(way, collected, name, quiet=quiet, format=to)


def add(name: str, image: str, /, *images: str, quiet: bool = False, registry: RegistryOptions) -> int:
    """Add images to an index; one that it lists already stays.

    -q, --quiet           print nothing
    """
    from veloci.cli.surgery import Way
    from veloci.transport.collected import Collected

    way = Way(registry)
    with Collected(name) as collected:
        to = _begun(way, collected, name)
        for each in (image, *images):
            collected.add(way.source(each))
        return _written(way, collected, to, quiet=quiet)


def remove(name: str, entry: str, /, *entries: str, quiet: bool = False, registry: RegistryOptions) -> int:
    """Take images out of an index, each named by its digest, the beginning of that, or its platform (linux/arm64).

    -q, --quiet           print nothing
    """
    from veloci.cli.surgery import Way
    from veloci.transport.collected import Collected

    way = Way(registry)
    with Collected(name) as collected:
        to = _begun(way, collected, name)
        for each in (entry, *entries):
            gone = collected.chosen(each)
            collected.document["manifests"] = [other for other in collected.entries if other not in gone]
        return _written(way, collected, to, quiet=quiet)


def annotate(
    name: str,
    entry: str = "",
    /,
    *,
    annotation: tuple[str, ...] = (),
    os: str | None = None,
    arch: str | None = None,
    variant: str | None = None,
    os_version: str | None = None,
    os_features: tuple[str, ...] = (),
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Change what an index says of an image, named by digest or platform; without ENTRY, the index's annotations.

    --annotation KEY=VALUE  set an annotation, KEY- removes one; may be repeated
    --os OS                 the operating system it is for
    --arch ARCH             the processor: arm64
    --variant VARIANT       the processor's variant: v8
    --os-version VERSION    the operating system's version
    --os-features NAME      what it needs of the system; may be repeated
    -q, --quiet             print nothing
    """
    from veloci.cli.surgery import Way
    from veloci.errors import InvalidInput
    from veloci.image.settings import set_pairs
    from veloci.transport.collected import Collected

    words = {"os": os, "architecture": arch, "variant": variant, "os.version": os_version}
    platform = {key: value for key, value in words.items() if value is not None}
    if os_features:
        platform["os.features"] = list(os_features)  # type: ignore[assignment]
    if platform and not entry:
        raise InvalidInput("an index as a whole has no platform", where="index annotate", hint="name an ENTRY")
    way = Way(registry)
    with Collected(name) as collected:
        to = _begun(way, collected, name)
        for each in collected.chosen(entry) if entry else [collected.document]:
            each["annotations"] = set_pairs(each.get("annotations"), annotation, "--annotation")
            if not each["annotations"]:
                del each["annotations"]
            if platform:
                each["platform"] = {"architecture": "", "os": "", **(each.get("platform") or {}), **platform}
        return _written(way, collected, to, quiet=quiet)


def push(name: str, destination: str, /, *, quiet: bool = False, registry: RegistryOptions) -> int:
    """Copy an index, with all the images that it lists, to another place.

    -q, --quiet           print nothing
    """
    from veloci.cli.surgery import copied

    return copied(name, destination, registry, all=True, quiet=quiet)


def _begun(way: Way, collected: Collected, name: str) -> str:
    """Begin with the index at the place `name`. Returns the place to write it back to. Raises InvalidInput."""
    from veloci.transport.home import home

    source = way.source(name)
    collected.start(source)
    return home(name, source)[0]


def _written(way: Way, collected: Collected, name: str, *, quiet: bool, format: str | None = None) -> int:
    """Bring the index, and what it lists, to the place `name`; a list of Docker's lists images in Docker's form."""
    from veloci.engine.tasks import parallel
    from veloci.spec import media
    from veloci.transport.copy import copy

    if collected.document["mediaType"] == media.DOCKER_LIST:
        format = "docker"
    target = way.destination(name)
    with target:
        done = copy(collected, target, format=format, all=True, parallel=parallel, stay_open=True)
    if not quiet:
        print(f"{name}: digest: {done.digest} size: {done.size}")
    return 0

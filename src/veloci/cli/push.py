"""`veloci push`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference


def push(
    name: str,
    /,
    *,
    all_tags: bool = False,
    format: str | None = None,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Upload an image to a registry.

    NAME is [HOST[:PORT]/]REPOSITORY[:TAG]; without a tag it is "latest". Layers that are there
    already are not uploaded.

    -a, --all-tags      upload every tag of the repository that is here
    --format FORMAT     oci, or docker (v2s2): Docker version 2 schema 2 (default: what the image is)
    -q, --quiet         print the name only
    """
    from veloci.cli.copy import wanted_format
    from veloci.cli.progress import progress
    from veloci.cli.sessions import session
    from veloci.engine.engine import Engine
    from veloci.engine.journal import travelled
    from veloci.engine.tasks import parallel
    from veloci.spec.reference import Reference
    from veloci.transport.exchange import push

    reference = Reference.parse(name)
    if not (reference.tag or all_tags or quiet):
        print("Using default tag: latest")
    engine, opened, to = Engine(), session(registry), wanted_format(format)
    images = _tags(engine, reference) if all_tags else [_here(engine, reference.with_default_tag())]
    if not quiet:
        print(f"The push refers to repository [{reference.registry}/{reference.repository}]", flush=True)
    for tagged, descriptor in images:
        with progress(quiet=quiet) as told:
            done = push(
                engine.store,
                engine.names,
                descriptor,
                tagged,
                session=opened,
                format=to,
                progress=told,
                parallel=parallel,
            )
        travelled(engine, "push", tagged, descriptor)
        if quiet:
            print(str(tagged))
        else:
            print(f"{tagged.tag}: digest: {done.digest} size: {done.size}")
    return 0


def _here(engine: Engine, reference: Reference) -> tuple[Reference, Descriptor]:
    from veloci.errors import InvalidInput, NotFound

    if reference.digest:
        raise InvalidInput("cannot push by digest", where=reference.familiar(), hint="veloci push NAME:TAG")
    try:
        return reference, engine.names.get(str(reference))
    except NotFound:
        raise NotFound(
            f"An image does not exist locally with the tag: {reference.familiar_name()}", hint="veloci images"
        ) from None


def _tags(engine: Engine, reference: Reference) -> list[tuple[Reference, Descriptor]]:
    """Every tag of the repository that is here."""
    from veloci.errors import InvalidInput, NotFound
    from veloci.spec.reference import Reference

    if reference.tag or reference.digest:
        raise InvalidInput("cannot be used with a tag", where="--all-tags", hint=reference.familiar_name())
    found = []
    for name, descriptor in sorted(engine.names.all(), key=lambda pair: pair[0]):
        other = Reference.parse(name)
        if (other.registry, other.repository) == (reference.registry, reference.repository) and other.tag:
            found.append((other, descriptor))
    if not found:
        raise NotFound(f"An image does not exist locally with the tag: {reference.familiar()}", hint="veloci images")
    return found

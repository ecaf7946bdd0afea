"""`veloci pull`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine
    from veloci.registry.session import Session
    from veloci.spec.reference import Reference


def pull(
    name: str,
    /,
    *,
    all_tags: bool = False,
    platform: str | None = None,
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Download an image from a registry.

    NAME is [HOST[:PORT]/]REPOSITORY[:TAG|@DIGEST]; without a tag it is "latest". Layers that are
    here already are not downloaded, and an interrupted download goes on where it stopped. A NAME
    without a host is docker.io's, but for the aliases and search registries of registries.conf.

    -a, --all-tags         download every tag of the repository
    --platform OS/ARCH     the image for this platform, not for this machine's
    -q, --quiet            print the name only
    """
    from veloci.cli.sessions import session as session_of
    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput
    from veloci.registry.client import Repository
    from veloci.registry.configuration import first
    from veloci.spec.reference import Reference
    from veloci.transport.exchange import NoImage

    reference = Reference.parse(name)
    engine, session = Engine(), session_of(registry)
    candidates = session.configuration.candidates(name)
    if not all_tags:
        if not (reference.tag or reference.digest or quiet):
            print("Using default tag: latest")
        reference, changed = first(
            [candidate.with_default_tag() for candidate in candidates],
            lambda candidate: (candidate, _one(engine, session, candidate, platform, quiet=quiet)),
        )
    else:
        if reference.tag or reference.digest:
            raise InvalidInput(
                "tag can't be used with --all-tags/-a", where="--all-tags", hint=reference.familiar_name()
            )
        reference, tags = first(
            candidates, lambda candidate: (candidate, list(Repository(candidate, session=session).tags()))
        )
        changed = False
        for tag in tags:
            try:
                changed |= _one(engine, session, Reference.parse(f"{reference}:{tag}"), platform, quiet=quiet)
            except NoImage as error:  # signatures and the like stand under tags beside the images
                session.warn(str(error))
    shown = reference if all_tags else reference.with_default_tag()
    if not quiet:
        what = "Downloaded newer image" if changed else "Image is up to date"
        print(f"Status: {what} for {shown.familiar()}")
    print(str(shown))
    return 0


def _one(engine: Engine, session: Session, reference: Reference, platform: str | None, *, quiet: bool) -> bool:
    """Pull one tag and tell how it goes; root unpacks the layers while they come. Whether anything changed."""
    from os import geteuid

    from veloci.cli.progress import progress
    from veloci.engine.journal import travelled
    from veloci.engine.tasks import ahead, parallel
    from veloci.spec.platform import parse
    from veloci.transport.exchange import pull

    if not quiet:
        print(f"{reference.tag or reference.digest}: Pulling from {reference.repository}", flush=True)
    with progress(quiet=quiet) as told:
        done = pull(
            engine.store,
            engine.names,
            reference,
            session=session,
            platform=parse(platform) if platform else None,
            progress=told,
            parallel=parallel,
            ahead=ahead,
            snapshots=engine.snapshots if geteuid() == 0 else None,
        )
    travelled(engine, "pull", done.reference, done.descriptor)
    if not quiet:
        print(f"Digest: {done.digest}")
    return done.changed

"""`veloci sync`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from veloci.registry.session import Session
    from veloci.spec.reference import Reference
    from veloci.transport.place import Destination
    from veloci.transport.registry import RegistryPlace
    from veloci.transport.sync import Origin, Wanted

    Done = TypeVar("Done")


def sync(
    file: str,
    destination: str,
    /,
    *,
    all: bool = False,
    dry_run: bool = False,
    format: str | None = None,
    keep_going: bool = False,
    preserve_digests: bool = False,
    quiet: bool = False,
    scoped: bool = False,
    registry: RegistryOptions,
) -> int:
    """Copy the images that a file lists to another registry or a directory; what is there already stays.

    FILE is YAML, as skopeo sync reads it: registries, below each `images` (repositories with tags and
    digests, none for all tags), `images-by-tag-regex`, `images-by-semver`, `credentials`, `tls-verify`,
    `cert-dir`. DESTINATION is docker://HOST[:PORT][/PATH] or dir:DIRECTORY. The options for registries
    are for the destination.

    -a, --all            of an index, all images
    --dry-run            say what would be copied, and copy nothing
    -f, --format FORMAT  oci, or docker (v2s2): Docker version 2 schema 2 (default: what the image is)
    --keep-going         go on with the next image when one fails
    --preserve-digests   fail rather than change a digest
    -q, --quiet          print nothing
    --scoped             keep the source's registry and whole path in the name at the destination
    """
    from functools import partial

    from veloci.cli.copy import wanted_format
    from veloci.cli.sessions import session
    from veloci.transport.sync import read

    job = _Sync(destination, session(registry), wanted_format(format), scoped=scoped, all=all)
    job.dry_run, job.keep_going, job.preserve, job.quiet = dry_run, keep_going, preserve_digests, quiet
    for origin in read(file):
        source = _session(origin, registry)
        for wanted in origin.repositories:
            references = job.attempt(partial(_images, wanted, source)) or []
            for reference in references:
                job.attempt(partial(job.image, reference, source))
    if not quiet:
        print(job.told())
    return 1 if job.counts["failed"] else 0


def _session(origin: Origin, options: RegistryOptions) -> Session:
    """What speaks to the registry that the images come from."""
    from veloci.cli.sessions import opened

    creds = ":".join(origin.credentials) if origin.credentials else None
    return opened(creds, "credentials", origin.tls_verify, authfile=options.authfile, cert_dir=origin.cert_dir)


def _images(wanted: Wanted, session: Session) -> list[Reference]:
    from veloci.registry.client import Repository

    return wanted.images(lambda repository: Repository(repository, session=session).tags())


class _Sync:
    """One synchronisation: where to, how, and how it goes."""

    dry_run = keep_going = preserve = quiet = False

    def __init__(self, destination: str, session: Session, format: str | None, *, scoped: bool, all: bool) -> None:
        from veloci.errors import InvalidInput
        from veloci.transport.names import split

        kind, rest = split(destination)
        if kind not in ("docker://", "dir:") or not rest:
            hint = "docker://HOST[:PORT][/PATH] or dir:DIRECTORY"
            raise InvalidInput(f"{destination!r} is no place to synchronise to", hint=hint)
        self.base, self.session, self.format = destination.rstrip("/"), session, format
        self.scoped, self.all = scoped, all
        self.counts = {"copied": 0, "to copy": 0, "there already": 0, "failed": 0}

    def attempt(self, work: Callable[[], Done]) -> Done | None:
        """What `work` gives; None where it fails and the others are to go on."""
        from veloci.cli.main import complain
        from veloci.errors import VelociError

        try:
            return work()
        except VelociError as error:
            if not self.keep_going:
                raise
            complain(error)
            self.counts["failed"] += 1
            return None

    def image(self, reference: Reference, session: Session) -> None:
        """Copy one image, if it is not there already."""
        from veloci.cli.progress import progress
        from veloci.engine.tasks import parallel
        from veloci.transport.copy import copy
        from veloci.transport.registry import RegistryPlace

        target = f"{self.base}/{str(reference) if self.scoped else str(reference).rpartition('/')[2]}"
        source = RegistryPlace(reference, session)
        place = self._place(target)
        if self._is_there(source, place):
            self._say("there already", f"{reference}: there already, as {target}")
        elif self.dry_run:
            self._say("to copy", f"{reference}: would be copied to {target}")
        else:
            with progress(quiet=self.quiet) as told:
                done = copy(
                    source,
                    place,
                    format=self.format,
                    all=self.all,
                    preserve=self.preserve,
                    progress=told,
                    parallel=parallel,
                )
            self._say("copied", f"{reference}: copied to {target}, digest: {done.digest}")

    def _say(self, what: str, text: str) -> None:
        from veloci.cli.output import visible

        self.counts[what] += 1
        if not self.quiet:
            print(visible(text), flush=True)

    def told(self) -> str:
        """How it went, in one line."""
        return ", ".join(f"{count} {what}" for what, count in self.counts.items() if count) or "nothing to copy"

    def _place(self, target: str) -> Destination:
        from veloci.engine.engine import Engine
        from veloci.transport.names import Places

        engine = Engine()
        return Places(engine.store, engine.names).destination(target, self.session)

    def _is_there(self, source: RegistryPlace, place: Destination) -> bool:
        """Whether the destination has the very manifest that a copy without changes would give it."""
        from contextlib import suppress

        from veloci.errors import NotFound
        from veloci.spec import media
        from veloci.transport.directory import Directory
        from veloci.transport.registry import RegistryPlace
        from veloci.transport.select import select

        there = place.repository.resolve() if isinstance(place, RegistryPlace) else None
        if isinstance(place, Directory):
            with suppress(NotFound):
                there = place.manifest()[0]
        if there is None:
            return False
        found = source.repository.resolve()
        if found and media.is_index(found.media_type) and not self.all:
            found = select(source, *source.manifest(), None)[0]
        return found is not None and found.digest == there.digest

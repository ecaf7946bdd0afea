"""`veloci sync`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from veloci.registry.session import Session
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.place import Destination, Source
    from veloci.transport.sync import Origin

    Done = TypeVar("Done")


def sync(
    source: str,
    destination: str,
    /,
    *,
    all: bool = False,
    dry_run: bool = False,
    format: str | None = None,
    keep_going: bool = False,
    preserve_digests: bool = False,
    quiet: bool = False,
    remove_signatures: bool = False,
    retry_times: int = 0,
    scoped: bool = False,
    src_authfile: str | None = None,
    src_cert_dir: str | None = None,
    src_creds: str | None = None,
    src_no_creds: bool = False,
    src_registry_token: str | None = None,
    src_tls_verify: bool | None = None,
    registry: RegistryOptions,
) -> int:
    """Copy the images that a file lists to another registry or a directory; what is there already stays.

    SOURCE is a YAML file as skopeo sync reads it: registries, below each `images` (repositories with tags
    and digests, none for all tags), `images-by-tag-regex`, `images-by-semver`, `credentials`, `tls-verify`,
    `cert-dir`. Or it is docker://HOST[:PORT]/NAME, for all tags, or one with :TAG; or dir:DIRECTORY, for all
    images that are below it, as a sync to there left them. DESTINATION is docker://HOST[:PORT][/PATH] or
    dir:DIRECTORY. The options for registries are for the destination.

    -a, --all            of an index, all images
    --dry-run            say what would be copied, and copy nothing
    -f, --format FORMAT  oci, or docker (v2s2): Docker version 2 schema 2 (default: what the image is)
    --keep-going         go on with the next image when one fails
    --preserve-digests   fail rather than change a digest
    -q, --quiet          print nothing
    --remove-signatures  leave the signatures of a dir: behind; else they go along, which only a dir: can hold
    --retry-times N      try so often again when a registry cannot be reached
    --scoped             keep the source's registry and whole path in the name at the destination
    --src-authfile FILE        the file with names and passwords for the source (default: that of --authfile)
    --src-cert-dir DIR         certificates for the source's registry, where the file does not say it
    --src-creds NAME:PASSWORD  who we are at the source's registry, where the file does not say it
    --src-no-creds             nobody, where the file does not say it
    --src-registry-token TOKEN  a bearer token for the source's registry, where the file does not say it
    --src-tls-verify=false     take any certificate, and plain HTTP there, where the file does not say it
    """
    from functools import partial

    from veloci.cli.copy import wanted_format
    from veloci.cli.sessions import RegistryOptions, session

    job = _Sync(destination, session(registry), wanted_format(format), scoped=scoped, all=all)
    job.dry_run, job.keep_going, job.preserve, job.quiet = dry_run, keep_going, preserve_digests, quiet
    job.retry_times, job.unsigned = retry_times, remove_signatures
    theirs = RegistryOptions(
        authfile=src_authfile or registry.authfile,
        cert_dir=src_cert_dir,
        creds=src_creds,
        no_creds=src_no_creds,
        registry_token=src_registry_token,
        tls_verify=src_tls_verify,
    )
    origins = partial(_session, options=theirs)
    for name, place in _directories(source) if source.startswith("dir:") else _images(source, origins, job):
        job.attempt(partial(job.image, name, place))
    if not quiet:
        print(job.told())
    return 1 if job.counts["failed"] else 0


def _session(origin: Origin, options: RegistryOptions) -> Session:
    """What speaks to the registry that the images come from; what the list says of it goes before the options."""
    from veloci.cli.sessions import opened

    verify = options.tls_verify if origin.tls_verify is None else origin.tls_verify
    own = options.replace(tls_verify=verify, cert_dir=origin.cert_dir or options.cert_dir)
    if origin.credentials:
        own = own.replace(creds=":".join(origin.credentials), no_creds=False, registry_token=None)
    return opened(own, "src-")


def _images(source: str, session: Callable[[Origin], Session], job: _Sync) -> Iterator[tuple[str, Source]]:
    """The images of a list or a repository: their names and where they are."""
    from functools import partial

    from veloci.spec.reference import Reference
    from veloci.transport.registry import RegistryPlace
    from veloci.transport.sync import read, repository

    at_registry = source.startswith("docker://")
    found = [repository(Reference.parse(source.removeprefix("docker://")))] if at_registry else read(source)
    for origin in found:
        opened = session(origin)
        for wanted in origin.repositories:
            for reference in job.attempt(partial(wanted.images, partial(_tags, opened))) or []:
                yield str(reference), RegistryPlace(reference, opened)


def _tags(session: Session, repository: Reference) -> Iterator[str]:
    from veloci.registry.client import Repository

    return Repository(repository, session=session).tags()


def _directories(source: str) -> Iterator[tuple[str, Source]]:
    """The images in a directory: their paths in it and where they are."""
    from os.path import abspath, basename

    from veloci.transport.directory import Directory
    from veloci.transport.sync import directories

    top = source.removeprefix("dir:").rstrip("/")
    for path in directories(top):
        yield path or basename(abspath(top)), Directory(f"{top}/{path}" if path else top)


class _Sync:
    """One synchronisation: where to, how, and how it goes."""

    dry_run = keep_going = preserve = quiet = unsigned = False
    retry_times = 0

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

    def image(self, name: str, source: Source) -> None:
        """Copy one image, if it is not there already. name: its whole name where it is."""
        from veloci.cli.copy import retried
        from veloci.transport.signatures import Signatures

        target = f"{self.base}/{name if self.scoped else name.rpartition('/')[2]}"
        place = self._place(target)
        Signatures(source, place, lost=self.unsigned).take()
        if self._is_there(source, place):
            self._say("there already", f"{name}: there already, as {target}")
        elif self.dry_run:
            self._say("to copy", f"{name}: would be copied to {target}")
        else:
            done = retried(lambda: self._copy(source, target), self.retry_times)
            self._say("copied", f"{name}: copied to {target}, digest: {done.digest}")

    def _copy(self, source: Source, target: str) -> Descriptor:
        from veloci.cli.progress import progress
        from veloci.engine.tasks import parallel
        from veloci.transport.copy import copy

        with progress(quiet=self.quiet) as told:
            return copy(
                source,
                self._place(target),
                format=self.format,
                all=self.all,
                preserve=self.preserve,
                unsigned=self.unsigned,
                progress=told,
                parallel=parallel,
            )

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

        return Places(Engine()).destination(target, self.session)

    def _is_there(self, source: Source, place: Destination) -> bool:
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
        found = source.repository.resolve() if isinstance(source, RegistryPlace) else source.manifest()[0]
        if found and media.is_index(found.media_type) and not self.all:
            found = select(source, *source.manifest(), None)[0]
        return found is not None and found.digest == there.digest

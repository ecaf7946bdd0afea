"""`veloci copy`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.engine.engine import Engine
    from veloci.registry.session import Session
    from veloci.spec.image import Descriptor

FORMATS = {None: None, "oci": "oci", "docker": "docker", "v2s2": "docker"}
WHICH = ("system", "all", "index-only")


def copy(
    source: str,
    destination: str,
    /,
    *,
    all: bool = False,
    multi_arch: str = "system",
    format: str | None = None,
    platform: str | None = None,
    compress: str | None = None,
    preserve_digests: bool = False,
    referrers: bool = False,
    additional_tag: tuple[str, ...] = (),
    digestfile: str | None = None,
    retry_times: int = 0,
    quiet: bool = False,
    authfile: str | None = None,
    src_authfile: str | None = None,
    dest_authfile: str | None = None,
    src_creds: str | None = None,
    dest_creds: str | None = None,
    cert_dir: str | None = None,
    src_cert_dir: str | None = None,
    dest_cert_dir: str | None = None,
    src_tls_verify: bool | None = None,
    dest_tls_verify: bool | None = None,
    src_daemon_host: str | None = None,
    dest_daemon_host: str | None = None,
) -> int:
    """Copy an image from any place to any other.

    SOURCE and DESTINATION are written as skopeo writes them:
      docker://HOST[:PORT]/NAME[:TAG|@DIGEST]   a registry
      oci:DIRECTORY[:NAME]                      an OCI image layout
      oci-archive:FILE[:NAME]                   the same in a tar file
      docker-archive:FILE[:NAME[:TAG]]          what docker save writes; FILE:@0 is its first image
      docker-daemon:NAME[:TAG]                  an image in a docker engine
      dir:DIRECTORY                             plain files: manifest.json and blobs
      veloci:NAME[:TAG] or just NAME[:TAG]      the local store

    -a, --all               all images of an index, not only the one for this machine
    --multi-arch WHICH      of an index: system (this machine's image), all, or index-only
    -f, --format FORMAT     oci, or docker (v2s2): Docker version 2 schema 2 (default: what the image is)
    --platform OS/ARCH      the image for this platform
    --compress, --dest-compress-format KIND[:LEVEL]   compress layers by gzip (0-9) or zstd (1-19), or none
    --preserve-digests      fail rather than change a digest
    --referrers             also what refers to it: signatures, SBOMs, attestations
    --additional-tag TAG    another name for it at the destination; may be repeated
    --digestfile FILE       write the digest of what the destination then has to FILE
    --retry-times N         try so often again when a registry cannot be reached
    -q, --quiet             print nothing
    --authfile FILE         credentials, as docker login and podman login write them
    --src-authfile FILE     the same for the source alone
    --dest-authfile FILE    the same for the destination alone
    --src-creds NAME:PASSWORD    who we are at the source's registry
    --dest-creds NAME:PASSWORD   who we are at the destination's registry
    --cert-dir DIRECTORY         certificates (*.crt, *.cert, *.key) for the registries
    --src-cert-dir DIRECTORY     the same for the source alone
    --dest-cert-dir DIRECTORY    the same for the destination alone
    --src-tls-verify=BOOL    true: only a trusted certificate will do; false: any certificate, and plain HTTP
    --dest-tls-verify=BOOL   the same for the destination
    --src-daemon-host HOST   where the docker engine is that docker-daemon: reads (unix:///path, tcp://host:port)
    --dest-daemon-host HOST  the same for the one it writes
    """
    from veloci.cli.progress import progress
    from veloci.engine.engine import Engine
    from veloci.engine.tasks import parallel
    from veloci.errors import InvalidInput
    from veloci.spec.platform import parse
    from veloci.transport.copy import copy
    from veloci.transport.names import Places

    if all and platform:
        raise InvalidInput("takes one image, --all takes all", where="--platform", hint="leave one of them out")
    if multi_arch not in WHICH:
        raise InvalidInput(f"{multi_arch!r} is unknown", where="--multi-arch", hint=", ".join(WHICH))
    engine, to, packed = Engine(), wanted_format(format), compression(compress)
    sessions = (
        side(source, src_creds, "--src-creds", src_tls_verify, src_authfile or authfile, src_cert_dir or cert_dir),
        side(
            destination,
            dest_creds,
            "--dest-creds",
            dest_tls_verify,
            dest_authfile or authfile,
            dest_cert_dir or cert_dir,
        ),
    )

    def once() -> Descriptor:
        find: Callable[[str], Descriptor] = lambda name: found(engine, name)  # noqa: E731
        origin = Places(engine.store, engine.names, find, daemon=src_daemon_host).source(source, sessions[0])
        target = Places(engine.store, engine.names, daemon=dest_daemon_host).destination(
            destination, sessions[1], more=additional_tag
        )
        with progress(quiet=quiet) as told:
            return copy(
                origin,
                target,
                format=to,
                all=all or multi_arch == "all",
                only_index=multi_arch == "index-only",
                platform=parse(platform) if platform else None,
                compress=packed,
                preserve=preserve_digests,
                progress=told,
                parallel=parallel,
            )

    def refer() -> Descriptor:
        from veloci.transport.referrers import beside, copy_referrers

        find: Callable[[str], Descriptor] = lambda name: found(engine, name)  # noqa: E731
        places = Places(engine.store, engine.names, find, daemon=src_daemon_host)
        with places.source(source, sessions[0]) as origin:
            copy_referrers(origin, done, beside(places, destination, sessions[1]), parallel=parallel)
        return done

    done = retried(once, retry_times)
    if referrers:
        retried(refer, retry_times)
    if digestfile:
        write(digestfile, done.digest.encode())
    if not quiet:
        print(f"{destination}: digest: {done.digest} size: {done.size}")
    return 0


def wanted_format(text: str | None) -> str | None:
    """`--format` as the library names it: docker's family is also v2s2. Raises InvalidInput."""
    from veloci.errors import InvalidInput

    if text not in FORMATS:
        raise InvalidInput(f"{text!r} is no image format", where="--format", hint="oci or docker")
    return FORMATS[text]


def compression(text: str | None) -> tuple[str, int | None] | None:
    """`--compress`: KIND[:LEVEL] as the library takes it. Raises InvalidInput."""
    from veloci.errors import InvalidInput

    if text is None:
        return None
    kind, colon, level = text.partition(":")
    most = {"gzip": range(10), "zstd": range(1, 20), "none": ()}.get(kind)
    if most is None or (colon and not (level.isdecimal() and int(level) in most)):
        raise InvalidInput(f"{text!r} is no compression", where="--compress", hint="gzip[:0-9], zstd[:1-19] or none")
    return ("" if kind == "none" else kind), (int(level) if colon else None)


def side(
    place: str, creds: str | None, flag: str, verify: bool | None, authfile: str | None, cert_dir: str | None
) -> Session | None:
    """What speaks to registries for one side of a copy, if `place` is at one. Raises InvalidInput, naming `flag`."""
    if not place.startswith("docker://"):
        return None
    from veloci.cli.sessions import opened

    return opened(creds, flag, verify, authfile=authfile, cert_dir=cert_dir)


def found(engine: Engine, name: str) -> Descriptor:
    """What a name or an ID is in the local store: an index as a whole. Raises NotFound, InvalidInput."""
    from veloci.errors import VelociError
    from veloci.spec.reference import Reference

    try:
        return engine.names.get(str(Reference.parse(name).with_default_tag()))
    except VelociError:
        return engine.images.find(name)


def retried(work: Callable[[], Descriptor], times: int) -> Descriptor:
    """What `work` gives, done again up to `times` times while a registry cannot be reached; what it moved stays."""
    from time import sleep

    from veloci.errors import Unavailable

    for attempt in range(times):
        try:
            return work()
        except Unavailable:
            sleep(min(2**attempt, 30))
    return work()


def write(path: str, data: bytes) -> None:
    """Write a file the user named. Raises HostError."""
    from veloci.errors import HostError

    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise HostError("write", error, where=path) from error

"""`veloci copy`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from veloci.cli.sessions import RegistryOptions
    from veloci.engine.engine import Engine
    from veloci.registry.session import Session
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Progress

    Done = TypeVar("Done")

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
    dest_compress_level: int | None = None,
    dest_decompress: bool = False,
    dest_oci_accept_uncompressed_layers: bool = False,
    image_parallel_copies: int = 0,
    remove_signatures: bool = False,
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
    src_no_creds: bool = False,
    dest_no_creds: bool = False,
    src_registry_token: str | None = None,
    dest_registry_token: str | None = None,
    cert_dir: str | None = None,
    src_cert_dir: str | None = None,
    dest_cert_dir: str | None = None,
    src_tls_verify: bool | None = None,
    dest_tls_verify: bool | None = None,
    src_daemon_host: str | None = None,
    dest_daemon_host: str | None = None,
    src_shared_blob_dir: str | None = None,
    dest_shared_blob_dir: str | None = None,
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
    --dest-compress-level N       the level alone
    --dest-decompress             as --compress none
    --dest-oci-accept-uncompressed-layers   leave layers uncompressed that an archive or engine has so
    --image-parallel-copies N     so many layers at once (default: 4)
    --remove-signatures     leave the signatures of a dir: behind; else they go along, which only a dir: can hold
    --preserve-digests      fail rather than change a digest
    --referrers             also what refers to it: signatures, SBOMs, attestations, and cosign's tags
    --additional-tag TAG    another name for it at the destination; may be repeated
    --digestfile FILE       write the digest of what the destination then has to FILE
    --retry-times N         try so often again when a registry cannot be reached
    -q, --quiet             print nothing
    --authfile FILE         credentials, as docker login and podman login write them
    --src-authfile FILE     the same for the source alone
    --dest-authfile FILE    the same for the destination alone
    --src-creds NAME:PASSWORD    who we are at the source's registry
    --dest-creds NAME:PASSWORD   who we are at the destination's registry
    --src-no-creds               use no stored login for the source's registry
    --dest-no-creds              use none for the destination's
    --src-registry-token TOKEN   a bearer token for the source's registry, instead of a login
    --dest-registry-token TOKEN  the same for the destination's
    --cert-dir DIRECTORY         certificates (*.crt, *.cert, *.key) for the registries
    --src-cert-dir DIRECTORY     the same for the source alone
    --dest-cert-dir DIRECTORY    the same for the destination alone
    --src-tls-verify=BOOL    true: only a trusted certificate will do; false: any certificate, and plain HTTP
    --dest-tls-verify=BOOL   the same for the destination
    --src-daemon-host HOST   where the docker engine is that docker-daemon: reads (unix:///path, tcp://host:port)
    --dest-daemon-host HOST  the same for the one it writes
    --src-shared-blob-dir DIR   where the blobs of the layout that oci: reads are, if not below it
    --dest-shared-blob-dir DIR  where those of the layout that oci: writes are to be, for layouts that share them
    """
    from veloci.cli.sessions import RegistryOptions
    from veloci.engine.engine import Engine
    from veloci.engine.tasks import spread
    from veloci.errors import InvalidInput
    from veloci.spec.platform import parse
    from veloci.transport.copy import copy
    from veloci.transport.names import Places

    if all and platform:
        raise InvalidInput("takes one image, --all takes all", where="--platform", hint="leave one of them out")
    if multi_arch not in WHICH:
        raise InvalidInput(f"{multi_arch!r} is unknown", where="--multi-arch", hint=", ".join(WHICH))
    if dest_decompress and compress:
        raise InvalidInput("not together with --dest-decompress", where="--compress", hint="leave one of them out")
    engine, to = Engine(), wanted_format(format)
    packed = compression("none" if dest_decompress else compress, dest_compress_level)
    theirs = RegistryOptions(
        authfile=src_authfile or authfile,
        cert_dir=src_cert_dir or cert_dir,
        creds=src_creds,
        no_creds=src_no_creds,
        registry_token=src_registry_token,
        tls_verify=src_tls_verify,
    )
    others = RegistryOptions(
        authfile=dest_authfile or authfile,
        cert_dir=dest_cert_dir or cert_dir,
        creds=dest_creds,
        no_creds=dest_no_creds,
        registry_token=dest_registry_token,
        tls_verify=dest_tls_verify,
    )
    sessions = side(source, theirs, "src-"), side(destination, others, "dest-")
    _check_blobs(source, src_shared_blob_dir, "--src-shared-blob-dir")
    _check_blobs(destination, dest_shared_blob_dir, "--dest-shared-blob-dir")
    origins = Places(engine, lambda name: found(engine, name), daemon=src_daemon_host, blobs=src_shared_blob_dir)
    targets = Places(engine, daemon=dest_daemon_host, blobs=dest_shared_blob_dir)
    at_once = side_by_side(image_parallel_copies)

    def move(report: Progress | None) -> Descriptor:
        origin = origins.source(source, sessions[0])
        target = targets.destination(destination, sessions[1], more=additional_tag)
        if dest_oci_accept_uncompressed_layers:
            target.packed = False
        return copy(
            origin,
            target,
            format=to,
            all=all or multi_arch == "all",
            only_index=multi_arch == "index-only",
            platform=parse(platform) if platform else None,
            compress=packed,
            preserve=preserve_digests,
            unsigned=remove_signatures,
            progress=report,
            parallel=at_once,
            spread=spread,
        )

    def refer() -> Descriptor:
        with origins.source(source, sessions[0]) as origin:
            copy_referrers(origin, done, place, parallel=at_once)
        return done

    if referrers:
        from veloci.transport.referrers import beside, copy_referrers, telling

        telling(source)
        place = beside(targets, destination, sessions[1])
    done = retried(lambda: reported(move, quiet=quiet), retry_times)
    if referrers:
        retried(refer, retry_times)
    if digestfile:
        write(digestfile, done.digest.encode())
    if not quiet:
        print(f"{destination}: digest: {done.digest} size: {done.size}")
    return 0


def side_by_side(limit: int) -> Callable[..., Iterable[Any]]:
    """A map that does so many at once; 0: as many as it does anyway."""
    from veloci.engine.tasks import parallel

    return (lambda work, items: parallel(work, items, limit=limit)) if limit > 0 else parallel


def reported(work: Callable[[Progress | None], Done], *, quiet: bool) -> Done:
    """What `work` gives, which tells how it goes unless all is to be `quiet`."""
    if quiet:
        return work(None)
    from veloci.cli.progress import progress

    with progress() as report:
        return work(report)


def wanted_format(text: str | None) -> str | None:
    """`--format` as the library names it: docker's family is also v2s2. Raises InvalidInput."""
    from veloci.errors import InvalidInput

    if text not in FORMATS:
        raise InvalidInput(f"{text!r} is no image format", where="--format", hint="oci or docker")
    return FORMATS[text]


def compression(text: str | None, level_alone: int | None = None) -> tuple[str, int | None] | None:
    """`--compress`: KIND[:LEVEL] as the library takes it. level_alone: if `text` has none. Raises InvalidInput."""
    from veloci.errors import InvalidInput

    if level_alone is not None:
        text = f"{text or 'gzip'}:{level_alone}"
    if text is None:
        return None
    kind, colon, level = text.partition(":")
    most = {"gzip": range(10), "zstd": range(1, 20), "none": ()}.get(kind)
    if most is None or (colon and not (level.isdecimal() and int(level) in most)):
        raise InvalidInput(f"{text!r} is no compression", where="--compress", hint="gzip[:0-9], zstd[:1-19] or none")
    return ("" if kind == "none" else kind), (int(level) if colon else None)


def side(place: str, options: RegistryOptions, flags: str) -> Session | None:
    """What speaks to registries for one side of a copy, "src-" or "dest-"; None if that is none.

    Raises InvalidInput.
    """
    from veloci.cli.sessions import opened, ways
    from veloci.errors import InvalidInput

    if place.startswith("docker://"):
        return opened(options, flags)
    if given := ways(options, flags):
        raise InvalidInput("is for a registry", where=given[0], hint=f"{place} is none: leave it out")
    return None


def _check_blobs(place: str, blobs: str | None, flag: str) -> None:
    """Refuse a directory for blobs where none is used."""
    from veloci.errors import InvalidInput

    if blobs is not None and not place.startswith("oci:"):
        raise InvalidInput("is for a layout", where=flag, hint=f"{place} is none: oci:DIRECTORY[:NAME]")


def found(engine: Engine, name: str) -> Descriptor:
    """What a name or an ID is in the local store: an index as a whole. Raises NotFound, InvalidInput."""
    from veloci.errors import VelociError
    from veloci.spec.reference import Reference

    try:
        return engine.names.get(str(Reference.parse(name).with_default_tag()))
    except VelociError:
        return engine.images.find(name)


def retried(work: Callable[[], Done], times: int) -> Done:
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

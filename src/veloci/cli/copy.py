"""`veloci copy`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine
    from veloci.registry.session import Session
    from veloci.spec.image import Descriptor


def copy(
    source: str,
    destination: str,
    /,
    *,
    all: bool = False,
    format: str | None = None,
    platform: str | None = None,
    quiet: bool = False,
    src_creds: str | None = None,
    dest_creds: str | None = None,
    src_tls_verify: bool = True,
    dest_tls_verify: bool = True,
) -> int:
    """Copy an image from any place to any other.

    SOURCE and DESTINATION are written as skopeo writes them:
      docker://HOST[:PORT]/NAME[:TAG|@DIGEST]   a registry
      oci:DIRECTORY[:NAME]                      an OCI image layout
      oci-archive:FILE[:NAME]                   the same in a tar file
      docker-archive:FILE[:NAME[:TAG]]          what docker save writes
      dir:DIRECTORY                             plain files: manifest.json and blobs
      veloci:NAME[:TAG] or just NAME[:TAG]      the local store

    -a, --all               all images of an index, not only the one for this machine
    --format FORMAT         oci, or docker (v2s2): Docker version 2 schema 2 (default: what the image is)
    --platform OS/ARCH      the image for this platform
    -q, --quiet             print nothing
    --src-creds NAME:PASSWORD    who we are at the source's registry
    --dest-creds NAME:PASSWORD   who we are at the destination's registry
    --src-tls-verify=false   take any certificate, and plain HTTP
    --dest-tls-verify=false  the same for the destination
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
    engine, to = Engine(), wanted_format(format)
    places = Places(engine.store, engine.names, lambda name: _find(engine, name))
    origin = places.source(source, _session(src_creds, "--src-creds", verify=src_tls_verify))
    target = places.destination(destination, _session(dest_creds, "--dest-creds", verify=dest_tls_verify))
    with progress(quiet=quiet) as told:
        done = copy(
            origin,
            target,
            format=to,
            all=all,
            platform=parse(platform) if platform else None,
            progress=told,
            parallel=parallel,
        )
    if not quiet:
        print(f"{destination}: digest: {done.digest} size: {done.size}")
    return 0


def wanted_format(text: str | None) -> str | None:
    """`--format` as the library names it: docker's family is also v2s2. Raises InvalidInput."""
    from veloci.errors import InvalidInput

    known = {None: None, "oci": "oci", "docker": "docker", "v2s2": "docker"}
    if text not in known:
        raise InvalidInput(f"{text!r} is no image format", where="--format", hint="oci or docker")
    return known[text]


def _session(creds: str | None, flag: str, *, verify: bool) -> Session:
    from veloci.errors import InvalidInput
    from veloci.registry.credentials import parse
    from veloci.registry.session import Session

    try:
        return Session(credentials=parse(creds) if creds else None, tls_verify=verify)
    except InvalidInput as error:
        raise InvalidInput(str(error), where=flag) from None


def _find(engine: Engine, name: str) -> Descriptor:
    """What a name or an ID is in the local store."""
    from veloci.errors import VelociError
    from veloci.spec.reference import Reference

    try:
        return engine.names.get(str(Reference.parse(name).with_default_tag()))
    except VelociError:
        return engine.images.resolve(name).descriptor

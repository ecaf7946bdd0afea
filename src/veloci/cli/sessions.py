"""The options with which commands speak to registries, and what they make of them."""

from __future__ import annotations

from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.registry.session import Session
    from veloci.spec.reference import Reference
    from veloci.transport.place import Source


class RegistryOptions(Document):
    """How to reach a registry.

    --authfile FILE          the file with names and passwords (default: $REGISTRY_AUTH_FILE, containers' auth.json,
                             docker's config.json)
    --cert-dir DIR           the directory with certificates *.crt, *.cert and *.key, instead of certs.d
    --creds NAME:PASSWORD    who we are
    --tls-verify=BOOL        true: only a trusted certificate will do; false: any certificate, and plain HTTP
                             (default: true, but for what registries.conf and daemon.json say, and for this machine)
    """

    authfile: str | None = None
    cert_dir: str | None = None
    creds: str | None = None
    tls_verify: bool | None = None


def session(options: RegistryOptions) -> Session:
    """What speaks to registries, and says what they warn of. Raises InvalidInput."""
    return opened(options.creds, "--creds", options.tls_verify, authfile=options.authfile, cert_dir=options.cert_dir)


def opened(
    creds: str | None,
    flag: str,
    tls_verify: bool | None,
    *,
    authfile: str | None = None,
    cert_dir: str | None = None,
) -> Session:
    """As `session`, for commands that have its options twice. flag: names `creds` in errors. Raises InvalidInput."""
    from veloci import paths
    from veloci.errors import InvalidInput
    from veloci.registry.credentials import parse
    from veloci.registry.session import Session

    try:
        credentials = parse(creds) if creds else None
    except InvalidInput as error:
        raise InvalidInput(str(error), where=flag) from None
    return Session(
        credentials=credentials,
        authfile=authfile,
        tls_verify=tls_verify,
        cert_dir=cert_dir,
        warn=warn,
        uploads=f"{paths.data()}/uploads",
    )


def warn(text: str) -> None:
    """Print a warning to standard error, on a line of its own."""
    import sys

    from veloci.cli.main import escaped

    print(f"veloci: warning: {escaped(text)}", file=sys.stderr, flush=True)


def registry(text: str) -> str:
    """The registry's host and port of what the user wrote, perhaps an address. Raises InvalidInput."""
    from veloci.errors import InvalidInput
    from veloci.spec.reference import Reference

    host = text.removeprefix("https://").removeprefix("http://").removeprefix("docker://").partition("/")[0]
    if host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        return "docker.io"
    if "." not in host and ":" not in host and host != "localhost":
        raise InvalidInput(f"{text!r} is not a registry's host", hint="HOST[:PORT]")
    return Reference.parse(f"{host}/x").registry


def reference(text: str) -> Reference:
    """The image at a registry that a name with or without docker:// means. Raises InvalidInput for another place."""
    from veloci.errors import InvalidInput
    from veloci.spec.reference import Reference
    from veloci.transport.names import split

    kind, rest = split(text)
    if kind not in ("docker://", "veloci:") or text.startswith("veloci:"):
        raise InvalidInput(f"{text!r} is at no registry", hint="docker://HOST[:PORT]/NAME[:TAG]")
    return Reference.parse(rest)


def source(text: str, session: Session) -> Source:
    """The place `text` to read from; without a kind, an image of the local store. Raises InvalidInput, NotFound."""
    from veloci.cli.copy import found
    from veloci.engine.engine import Engine
    from veloci.transport.names import Places

    engine = Engine()
    return Places(engine.store, engine.names, lambda name: found(engine, name)).source(text, session)

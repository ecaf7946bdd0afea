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
    --no-creds               nobody: no stored login is used
    --registry-token TOKEN   a bearer token for the registry, instead of a login
    --tls-verify=BOOL        true: only a trusted certificate will do; false: any certificate, and plain HTTP
                             (default: true, but for what registries.conf and daemon.json say, and for this machine)
    """

    authfile: str | None = None
    cert_dir: str | None = None
    creds: str | None = None
    no_creds: bool = False
    registry_token: str | None = None
    tls_verify: bool | None = None


def session(options: RegistryOptions) -> Session:
    """What speaks to registries, and says what they warn of. Raises InvalidInput."""
    return opened(options)


def opened(options: RegistryOptions, side: str = "") -> Session:
    """As `session`, for commands that have the options twice. side: "src-" or "dest-". Raises InvalidInput."""
    from veloci import paths
    from veloci.errors import InvalidInput
    from veloci.registry.credentials import parse
    from veloci.registry.session import Session

    given = ways(options, side)
    if len(given) > 1:
        raise InvalidInput(f"not together with {given[1]}", where=given[0], hint="leave one of them out")
    try:
        credentials = parse(options.creds) if options.creds else None
    except InvalidInput as error:
        raise InvalidInput(str(error), where=f"--{side}creds") from None
    if options.registry_token and not (options.registry_token.isascii() and options.registry_token.isprintable()):
        raise InvalidInput("a token is printable ASCII", where=f"--{side}registry-token")
    return Session(
        credentials=credentials,
        anonymous=options.no_creds,
        token=options.registry_token,
        authfile=options.authfile,
        tls_verify=options.tls_verify,
        cert_dir=options.cert_dir,
        warn=warn,
        uploads=f"{paths.data()}/uploads",
    )


def ways(options: RegistryOptions, side: str = "") -> list[str]:
    """The options that say who we are, as they are written: one at most makes sense."""
    given = {"creds": options.creds, "no-creds": options.no_creds, "registry-token": options.registry_token}
    return [f"--{side}{name}" for name, value in given.items() if value]


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


def source(text: str, session: Session, *, daemon: str | None = None, blobs: str | None = None) -> Source:
    """The place `text` to read from; without a kind, an image of the local store. daemon, blobs: see Places.

    Raises InvalidInput, NotFound.
    """
    from veloci.cli.copy import found
    from veloci.engine.engine import Engine
    from veloci.transport.names import Places

    engine = Engine()
    return Places(engine, lambda name: found(engine, name), daemon=daemon, blobs=blobs).source(text, session)

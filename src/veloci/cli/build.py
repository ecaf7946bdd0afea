"""veloci build."""

from __future__ import annotations

import os

from veloci.errors import InvalidInput, NotFound

ENTITLEMENTS = ("network.host", "security.insecure")


def build(
    context: str,
    /,
    *,
    tag: tuple[str, ...] = (),
    file: str = "",
    build_arg: tuple[str, ...] = (),
    target: str = "",
    platform: str = "",
    no_cache: bool = False,
    no_cache_filter: tuple[str, ...] = (),
    allow: tuple[str, ...] = (),
    pull: bool = False,
    network: str = "default",
    label: tuple[str, ...] = (),
    secret: tuple[str, ...] = (),
    ssh: tuple[str, ...] = (),
    format: str = "oci",
    iidfile: str = "",
    progress: str = "auto",
    quiet: bool = False,
) -> int:
    """Build an image from a Dockerfile and the directory CONTEXT.

    -t, --tag NAME         name the image; may be repeated
    -f, --file FILE        the Dockerfile (default CONTEXT/Dockerfile)
    --build-arg NAME=VALUE  set an ARG; NAME alone takes it from the environment; may be repeated
    --target STAGE         build this stage, not the last
    --platform PLATFORM    build for this platform
    --no-cache             run every step again
    --no-cache-filter STAGE  run every step of this stage again; may be repeated
    --allow ENTITLEMENT    let a RUN ask for network.host or security.insecure; may be repeated
    --pull                 ask the registry for newer base images
    --network MODE         of RUN: default (the bridge), host or none
    --label NAME=VALUE     add a label; may be repeated
    --secret SECRET        id=ID,src=FILE or id=ID,env=NAME for RUN --mount=type=secret; may be repeated
    --ssh ID[=SOCKET]      an SSH agent for RUN --mount=type=ssh: default, or ID=SOCKET; may be repeated
    --format FORMAT        of the manifest: oci (default) or docker
    --iidfile FILE         write the image's ID to FILE
    --progress KIND        auto (a picture on a terminal, else plain), plain, tty, rawjson or quiet
    -q, --quiet            print the image's ID alone
    """
    from veloci.cli.build_display import display
    from veloci.engine.build_agent import agents
    from veloci.engine.builds import Request
    from veloci.engine.engine import Engine

    for name in tag:
        _named(name)
    request = Request(
        context=context,
        file=file,
        tags=tag,
        arguments=_arguments(build_arg),
        labels=dict(_pair(text, "--label") for text in label),
        secrets=dict(_secret(text) for text in secret),
        target=target,
        platform=platform,
        network=network,
        no_cache=no_cache,
        pull=pull,
        epoch=_epoch(build_arg),
        format=format,
        ssh=agents(ssh),
        fresh=tuple(name.lower() for text in no_cache_filter for name in text.split(",")),
        allow=_allowed(allow),
    )
    quiet = quiet or progress == "quiet"
    if progress == "auto":
        progress = os.environ.get("BUILDKIT_PROGRESS") or progress
    with display("quiet" if quiet else progress) as shown:
        image = Engine().builds.build(request, shown, warn=lambda text: shown.line(f"[Warning] {text}"))
    if iidfile:
        with open(iidfile, "w", encoding="ascii") as output:
            output.write(image.id)
    if quiet:
        print(image.id)
    return 0


def _named(text: str) -> None:
    """Look at a --tag before anything is built. Raises InvalidInput with docker's status for a flag's grammar."""
    from veloci.spec.reference import Reference

    try:
        Reference.parse(text)
    except InvalidInput as error:
        raise InvalidInput(str(error), where="--tag", hint=error.hint, exit_status=125) from None


def _arguments(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if equals or name in os.environ:
            found[name] = value if equals else os.environ[name]
    return found


def _epoch(given: tuple[str, ...]) -> int | None:
    text = _arguments(given).get("SOURCE_DATE_EPOCH") or os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdecimal():
        raise InvalidInput(f"{text!r} is not a number of seconds", where="SOURCE_DATE_EPOCH")
    return int(text)


def _allowed(given: tuple[str, ...]) -> tuple[str, ...]:
    names = [name for text in given for name in text.split(",")]
    for name in names:
        if name not in ENTITLEMENTS:
            raise InvalidInput(f"unknown entitlement {name!r}", where="--allow", hint=" or ".join(ENTITLEMENTS))
    return tuple(names)


def _pair(text: str, where: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise InvalidInput(f"{text!r} has no name", where=where, hint="NAME=VALUE")
    return name, value


def _secret(text: str) -> tuple[str, bytes]:
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    identity = fields.get("id", "")
    if not identity:
        raise InvalidInput(f"{text!r} has no id", where="--secret", hint="id=ID,src=FILE")
    if "env" in fields or (fields.get("type") == "env" and "src" not in fields):
        name = fields.get("env") or identity
        if name not in os.environ:
            raise NotFound(f"environment variable {name} is not set", where="--secret")
        return identity, os.environb[name.encode()]
    path = fields.get("src") or fields.get("source") or identity
    try:
        with open(path, "rb") as source:
            return identity, source.read()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}", where="--secret") from None

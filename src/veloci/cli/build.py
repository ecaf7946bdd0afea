"""veloci build."""

from __future__ import annotations

import os

from veloci.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.build.lint import Warning
    from veloci.cli.build_display import Display
    from veloci.engine.build_cache import Remote
    from veloci.engine.build_output import Output
    from veloci.engine.builds import Built

ENTITLEMENTS = ("network.host", "security.insecure")


def build(
    context: str,
    /,
    *,
    tag: tuple[str, ...] = (),
    file: str = "",
    check: bool = False,
    build_arg: tuple[str, ...] = (),
    build_context: tuple[str, ...] = (),
    target: str = "",
    platform: str = "",
    no_cache: bool = False,
    no_cache_filter: tuple[str, ...] = (),
    cache_from: tuple[str, ...] = (),
    cache_to: tuple[str, ...] = (),
    output: tuple[str, ...] = (),
    push: bool = False,
    load: bool = False,
    allow: tuple[str, ...] = (),
    pull: bool = False,
    network: str = "default",
    add_host: tuple[str, ...] = (),
    shm_size: str = "",
    ulimit: tuple[str, ...] = (),
    cgroup_parent: str = "",
    label: tuple[str, ...] = (),
    annotation: tuple[str, ...] = (),
    secret: tuple[str, ...] = (),
    ssh: tuple[str, ...] = (),
    format: str = "oci",
    provenance: str = "false",
    sbom: str = "false",
    iidfile: str = "",
    metadata_file: str = "",
    progress: str = "auto",
    quiet: bool = False,
) -> int:
    """Build an image from a Dockerfile and the files of CONTEXT.

    CONTEXT is a directory, a Git repository (https://HOST/NAME.git#REF:DIRECTORY), the address of a
    tar or a Dockerfile, or - for either on standard input.

    -t, --tag NAME         name the image; may be repeated
    -f, --file FILE        the Dockerfile (default CONTEXT/Dockerfile), - for standard input
    --check                look at the Dockerfile alone and say what in it is seldom meant
    --build-arg NAME=VALUE  set an ARG; NAME alone takes it from the environment; may be repeated
    --build-context NAME=CONTEXT  what FROM NAME and --from=NAME mean: a directory, a repository, an address,
                           docker-image://IMAGE or oci-layout://DIRECTORY[:TAG]; may be repeated
    --target STAGE         build this stage, not the last
    --platform PLATFORM    build for this platform, or for several: linux/amd64,linux/arm64
    --no-cache             run every step again
    --no-cache-filter STAGE  run every step of this stage again; may be repeated
    --cache-from CACHE     look there, too: IMAGE, type=registry,ref=IMAGE or type=local,src=DIR; may be repeated
    --cache-to CACHE       write the steps there: type=registry,ref=IMAGE or type=local,dest=DIR, with mode=max those
                           of all stages; type=inline: into the image itself; may be repeated
    -o, --output OUTPUT    what becomes of the result: DIR or type=local,dest=DIR its files, type=tar,dest=FILE,
                           type=oci,dest=FILE (tar=false: a directory), type=docker,dest=FILE, type=image,
                           type=registry, type=cacheonly; may be repeated (default type=image: the local store)
    --push                 as --output type=registry
    --load                 as --output type=image
    --allow ENTITLEMENT    let a RUN ask for network.host or security.insecure; may be repeated
    --pull                 ask the registry for newer base images
    --network MODE         of RUN: default (the bridge), host or none
    --add-host NAME:ADDRESS  a line of /etc/hosts for RUN; may be repeated
    --shm-size SIZE        of /dev/shm for RUN (default 64m)
    --ulimit NAME=SOFT[:HARD]  a limit for RUN; may be repeated
    --cgroup-parent NAME   the cgroup below which those of RUN are
    --label NAME=VALUE     add a label; may be repeated
    --annotation NAME=VALUE  add an annotation to the manifest; may be repeated
    --secret SECRET        id=ID,src=FILE or id=ID,env=NAME for RUN --mount=type=secret; may be repeated
    --ssh ID[=SOCKET]      an SSH agent for RUN --mount=type=ssh: default, or ID=SOCKET; may be repeated
    --format FORMAT        of the manifest: oci (default) or docker
    --provenance BOOL      false, as it is anyway: attestations are not made
    --sbom BOOL            false, likewise
    --iidfile FILE         write the image's ID to FILE
    --metadata-file FILE   write what was built to FILE, as JSON
    --progress KIND        auto (a picture on a terminal, else plain), plain, tty, rawjson or quiet
    -q, --quiet            print the image's ID alone
    """
    from veloci.cli.build_display import display
    from veloci.engine import build_cache
    from veloci.engine.builds import Request
    from veloci.engine.engine import Engine

    for name in tag:
        _named(name)
    _no_attestations(provenance, sbom)
    request = Request(
        context=context,
        contexts=dict(_whole_pair(text, "--build-context") for text in build_context),
        file=file,
        tags=tag,
        arguments=_arguments(build_arg),
        labels=dict(_pair(text, "--label") for text in label),
        annotations=dict(_annotation(text, format) for text in annotation),
        secrets=dict(_secret(text) for text in secret),
        target=target,
        platform=platform,
        network=network,
        no_cache=no_cache,
        pull=pull,
        epoch=_epoch(build_arg),
        format=format,
        ssh=_agents(ssh),
        fresh=tuple(name.lower() for text in no_cache_filter for name in text.split(",")),
        allow=_allowed(allow),
        outputs=_outputs(output, push=push, load=load),
        cache_from=tuple(build_cache.parse(text, "--cache-from") for text in cache_from),
        cache_to=_cache_to(cache_to, build_arg),
        hosts=tuple(_host(text) for text in add_host),
        shm_size=_size(shm_size) if shm_size else 64 << 20,
        ulimits=tuple(_ulimit(text) for text in ulimit),
        cgroup_parent=cgroup_parent,
    )
    quiet = quiet or progress == "quiet"
    if progress == "auto":
        progress = os.environ.get("BUILDKIT_PROGRESS") or progress
    warnings: list[Warning] = []
    with display("quiet" if quiet or check else progress) as shown:
        if check:
            return _checked(*Engine().builds.check(request, shown))
        builds, warn = Engine().builds, lambda text: shown.line(f"[Warning] {text}")
        image = builds.build(request, shown, warn=warn, lint=warnings.extend)
    if warnings:
        _summarized(warnings, shown)
    if iidfile:
        _write(iidfile, image.id.encode())
    if metadata_file:
        _write(metadata_file, _metadata(image, request.tags))
    if quiet:
        print(image.id)
    return 0


def _no_attestations(provenance: str, sbom: str) -> None:
    from veloci.errors import Unsupported

    for flag, value in (("--provenance", provenance), ("--sbom", sbom)):
        if value.lower() not in ("false", "0"):
            raise Unsupported("attestations are not made", where=flag, hint=f"{flag}=false")


def _cache_to(given: tuple[str, ...], arguments: tuple[str, ...]) -> tuple[Remote, ...]:
    from veloci.engine.build_cache import parse

    asked = _arguments(arguments).get("BUILDKIT_INLINE_CACHE", "0").lower() in ("1", "true")
    return tuple(parse(text, "--cache-to") for text in (*given, *(["type=inline"] if asked else [])))


def _agents(given: tuple[str, ...]) -> dict[str, str]:
    if not given:
        return {}
    from veloci.engine.build_agent import agents

    return agents(given)


def _host(text: str) -> tuple[str, str]:
    from veloci.bundle.values import host

    name, address = host(text)
    return address, name


def _ulimit(text: str) -> dict[str, Any]:
    from veloci.bundle.values import ulimit

    return ulimit(text)


def _size(text: str) -> int:
    from veloci.bundle.values import size

    return size(text, "--shm-size")


def _checked(warnings: list[Warning], source: list[str], name: str) -> int:
    """Print the warnings with their lines, as buildx does. Returns 1 if there are any."""
    from veloci.build.lint import shown
    from veloci.cli.output import show

    if not warnings:
        show("Check complete, no warnings found.\n")
        return 0
    count = "1 warning has" if len(warnings) == 1 else f"{len(warnings)} warnings have"
    texts = [shown(one, source, name) for one in warnings]
    show("\n".join([f"Check complete, {count} been found!", *(f"\n{text}" for text in texts), ""]))
    return 1


def _summarized(warnings: list[Warning], shown: Display) -> None:
    count = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    for text in (
        "",
        f" {count} found (use veloci build --check to expand):",
        *(f" - {one.short()}" for one in warnings),
    ):
        shown.line(text)


def _outputs(given: tuple[str, ...], *, push: bool, load: bool) -> tuple[Output, ...]:
    from veloci.engine.build_output import Output, parse

    found = [parse(text) for text in given]
    if push:
        found.append(Output(kind="registry"))
    if load:
        found.append(Output(kind="image"))
    return tuple(found)


def _write(path: str, data: bytes) -> None:
    from veloci.errors import HostError

    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise HostError(f"write {path}", error) from error


def _metadata(image: Built, tags: tuple[str, ...]) -> bytes:
    """What buildx writes: https://docs.docker.com/reference/cli/docker/buildx/build/#metadata-file."""
    from veloci.spec.document import dumps
    from veloci.spec.reference import Reference

    found = {
        "containerimage.config.digest": image.id,
        "containerimage.descriptor": image.descriptor.plain(),
        "containerimage.digest": image.descriptor.digest,
    }
    if tags:
        found["image.name"] = ",".join(str(Reference.parse(tag).with_default_tag()) for tag in tags)
    return dumps(found, indent=2) + b"\n"


def _annotation(text: str, format: str) -> tuple[str, str]:
    """`KEY=VALUE`, `manifest:KEY=VALUE`."""
    if format != "oci":
        raise InvalidInput("Docker's manifests have no annotations", where="--annotation", hint="--format oci")
    kind, colon, rest = text.partition(":")
    if colon and kind in ("index", "manifest-descriptor", "index-descriptor"):
        raise InvalidInput(f"there is no {kind}: a build makes one manifest", where="--annotation", hint=rest)
    return _whole_pair(rest if colon and kind == "manifest" else text, "--annotation")


def _whole_pair(text: str, where: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidInput(f"{text!r} is not NAME=VALUE", where=where)
    return name, value


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

"""`veloci inspect`."""

from __future__ import annotations

from veloci.cli.go_types import typed
from veloci.cli.sessions import RegistryOptions
from veloci.errors import InvalidInput, NotFound, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.engine import Engine

KINDS = ("container", "image", "network", "volume")  # in the order in which a name is looked for, as docker does


def inspect(
    name: str,
    /,
    *names: str,
    format: str | None = None,
    type: str | None = None,
    size: bool = False,
    raw: bool = False,
    config: bool = False,
    no_tags: bool = False,
    platform: str | None = None,
    daemon_host: str | None = None,
    retry_times: int = 0,
    shared_blob_dir: str | None = None,
    registry: RegistryOptions,
) -> int:
    """Show all that is known of containers, images, networks and volumes, as JSON.

    NAME is a name, an ID or the beginning of an ID; what fits first is shown: a container, an image,
    a network, a volume. What is not found is said at the end, and the exit status is then 1. A NAME that says
    where an image is, as for `veloci copy` (docker://HOST[:PORT]/NAME, oci:DIRECTORY[:NAME], …), is
    looked at there, without pulling it, and shown as skopeo shows it.

    -f, --format TEMPLATE  a Go template on each object, as in '{{.State.Pid}}', or json
    --type KIND            only a container, an image, a network or a volume
    -s, --size             also the bytes that a container has written: SizeRw, SizeRootFs
    --raw                  an image's manifest as it is; with --config its configuration
    --config               an image's configuration
    -n, --no-tags          do not list the other tags of the repository
    --platform OS/ARCH     of an index, the image for this platform
    --daemon-host HOST     where the docker engine is that docker-daemon: reads
    --retry-times N        try so often again when a registry cannot be reached
    --shared-blob-dir DIR  where the blobs of the layout that oci: reads are, if not below it
    """
    from veloci.cli import inspect_place
    from veloci.cli.copy import retried
    from veloci.cli.main import complain
    from veloci.cli.main import each as one_by_one
    from veloci.engine.engine import Engine

    if raw or config or any(inspect_place.is_place(each) for each in (name, *names)):
        if type is not None or size:
            raise InvalidInput("--type and --size are for what is here", hint="leave them out")

        def show(text: str) -> None:
            inspect_place.inspect(
                text,
                raw=raw,
                config=config,
                format=format,
                tags=not no_tags,
                platform=platform,
                daemon=daemon_host,
                blobs=shared_blob_dir,
                registry=registry,
            )

        return one_by_one(lambda text: retried(lambda: show(text), retry_times), (name, *names))
    if no_tags or platform or daemon_host or retry_times or shared_blob_dir or registry != RegistryOptions():
        hint = f"docker://{name}"
        raise InvalidInput("--no-tags, --platform and the options of places are for images elsewhere", hint=hint)
    if type is not None and type not in KINDS:
        raise InvalidInput(f"{type!r} is not a valid value for --type", where="--type", hint=", ".join(KINDS))
    engine = Engine()
    found: list[dict[str, Any]] = []
    failures: list[VelociError] = []
    for each in (name, *names):
        try:
            found.append(_object(engine, each, [type] if type else KINDS, size=size))
        except VelociError as error:
            failures.append(error)
    _print(found, format)
    for failure in failures:
        complain(failure)
    return 1 if failures else 0


def _object(engine: Engine, name: str, kinds: Any, *, size: bool) -> dict[str, Any]:
    """The first thing of this name. Raises NotFound if there is none."""
    for kind in kinds:
        try:
            return _look(engine, kind, name, size=size)
        except NotFound:
            continue
        except InvalidInput:  # what cannot be an image's name may be a network's
            if len(kinds) == 1 or (kind == "image" and _stands(engine, name)):
                raise
    what = kinds[0] if len(kinds) == 1 else "object"
    hints = {"image": "veloci images", "network": "veloci network ls", "volume": "veloci volume ls"}
    raise NotFound(f"no such {what}: {name}", hint=hints.get(what, "veloci ps -a"))


def _stands(engine: Engine, name: str) -> bool:
    """Whether something stands under the name here, be it an artifact and no image."""
    try:
        engine.images.find(name)
    except (NotFound, InvalidInput):
        return False
    return True


def _look(engine: Engine, kind: str, name: str, *, size: bool) -> dict[str, Any]:
    """The thing of this kind and name in the shape of docker's API. Raises NotFound."""
    if kind == "container":
        from os.path import isdir

        if not isdir(f"{engine.root}/containers"):
            raise NotFound(f"no such container: {name}")  # there never was one
        found: dict[str, Any] = engine.containers.inspect(name)
        if size:
            written = engine.snapshots.usage(found["Id"])
            below = engine.images.inspect(found["Image"])["Size"]
            found = {**found, "SizeRw": written, "SizeRootFs": written + below}
        return found
    if kind == "image":
        return engine.images.inspect(name)
    if kind == "volume":
        return engine.volumes.described(name)
    from veloci.engine.networks import find

    return find(engine.networks, name)


def _print(found: list[dict[str, Any]], format: str | None) -> None:
    from veloci.cli.output import show
    from veloci.spec.document import dumps

    if format in (None, "", "json"):
        show(dumps(found, indent=0 if format else 4).decode() + "\n")
        return
    from veloci.cli.template import Template

    template = Template(format.replace("\\t", "\t").replace("\\n", "\n"))
    show("".join(template.render(typed(each)) + "\n" for each in found))

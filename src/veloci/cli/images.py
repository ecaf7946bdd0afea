"""`veloci images`, `history`, `tag`, `rmi` and `import`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.images import Listed
    from veloci.spec.reference import Reference

ELLIPSIS = 45  # characters of CREATED BY in a table
_CREATED = "{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}"
_HEADINGS = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
_HISTORY_HEADINGS = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY"}


def images(
    name: str = "",
    /,
    *,
    all: bool = False,
    digests: bool = False,
    filter: tuple[str, ...] = (),
    format: str | None = None,
    no_trunc: bool = False,
    quiet: bool = False,
) -> int:
    """List the local images, the newest first.

    NAME is a REPOSITORY[:TAG], in which * stands for any letters but /. SIZE is that of the
    uncompressed layers where they tell it, else of the compressed ones.

    -a, --all             as without it: veloci keeps no images of intermediate steps
    --digests             show the digests by which registries know them
    -f, --filter KEY=VAL  only these: reference=PATTERN, label=KEY[=VALUE], dangling=BOOL,
                          before=IMAGE, since=IMAGE; may be repeated
    --format FORMAT       table, table TEMPLATE, json, or a Go template:
                          .ID .Repository .Tag .Digest .CreatedSince .CreatedAt .Size
    --no-trunc            show whole IDs
    -q, --quiet           print the IDs only
    """
    from veloci.cli.image_filters import chosen
    from veloci.cli.output import formatted, show
    from veloci.engine.engine import Engine

    del all  # for scripts that say it to docker
    engine = Engine()
    rows = chosen(engine.images, name, filter)
    items = [_item(engine.store, listed, reference, no_trunc=no_trunc) for listed, reference in rows]
    columns = ["{{.Repository}}", "{{.Tag}}", *(["{{.Digest}}"] if digests else []), "{{.ID}}", _CREATED, "{{.Size}}"]
    table = "{{.ID}}" if quiet else "table " + "\t".join(columns)
    show(formatted(items, None if quiet and format is None else format, table, headings=_HEADINGS))
    return 0


def _item(store: Any, listed: Listed, reference: Reference | None, *, no_trunc: bool) -> dict[str, str]:
    """A line of the list, in docker's fields."""
    from veloci.cli.output import ago, moment, short, size, timestamp
    from veloci.engine.image_describe import size as bytes_of

    image = listed.image
    created = moment(image.config.created) if image else 0.0
    count = size(bytes_of(store, image)) if image else "0B"
    return {
        "ID": listed.id if no_trunc else short(listed.id),
        "Repository": reference.familiar_name() if reference else "<none>",
        "Tag": (reference.tag if reference else None) or "<none>",
        "Digest": _digest(store, listed, reference) if reference else "<none>",
        "CreatedSince": ago(created) if created else "",
        "CreatedAt": timestamp(created) if created else "0001-01-01 00:00:00 +0000 UTC",
        "Size": count,
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "VirtualSize": count,
    }


def _digest(store: Any, listed: Listed, reference: Reference) -> str:
    """The digest by which the registry knows the image of this name, `<none>` if it is not known to have it."""
    from veloci.engine.image_describe import repo_digests

    known = repo_digests(store, [reference], listed.descriptor)
    return known[0].partition("@")[2] if known else "<none>"


def history(
    image: str, /, *, format: str | None = None, human: bool = True, no_trunc: bool = False, quiet: bool = False
) -> int:
    """Show the steps that made an image, the latest first.

    SIZE is that of the layer's uncompressed tar where the layer tells it, else of what is stored.

    --format FORMAT   table, table TEMPLATE, json, or a Go template:
                      .ID .CreatedSince .CreatedAt .CreatedBy .Size .Comment
    -H, --human BOOL  sizes in units and times as spans (default: true); false: bytes and dates
    --no-trunc        show whole IDs and commands
    -q, --quiet       print the IDs only
    """
    from veloci.cli.output import formatted, show
    from veloci.engine.engine import Engine

    steps = Engine().images.history(image)
    items = [_step(step, human=human, no_trunc=no_trunc) for step in steps]
    created = _CREATED if human else "{{.CreatedAt}}"
    columns = ["{{.ID}}", created, "{{.CreatedBy}}", "{{.Size}}", "{{.Comment}}"]
    table = "{{.ID}}" if quiet else "table " + "\t".join(columns)
    headings = {**_HISTORY_HEADINGS, "CreatedAt": "CREATED AT"}
    show(formatted(items, None if quiet and format is None else format, table, headings=headings))
    return 0


def _step(step: dict[str, Any], *, human: bool, no_trunc: bool) -> dict[str, str]:
    from veloci.cli.output import ago, moment, short, size

    when, command = moment(step["Created"]), step["CreatedBy"].replace("\t", " ")
    if not no_trunc and len(command) > ELLIPSIS:
        command = command[: ELLIPSIS - 1] + "…"
    return {
        "ID": step["Id"] if no_trunc or step["Id"] == "<missing>" else short(step["Id"]),
        "CreatedSince": ago(when),
        "CreatedAt": _second(when),
        "CreatedBy": command,
        "Size": size(step["Size"]) if human else str(step["Size"]),
        "Comment": step["Comment"],
    }


def _second(moment: float) -> str:
    """RFC 3339 in local time, as Go writes it; of 0 Go's zero time."""
    from datetime import UTC, datetime

    if not moment:
        return "0001-01-01T00:00:00Z"
    local = datetime.fromtimestamp(int(moment), UTC).astimezone()
    return local.isoformat().replace("+00:00", "Z")


def tag(source_image: str, target_image: str, /) -> int:
    """Give an image one more name.

    SOURCE-IMAGE is a name or an ID; TARGET-IMAGE a name, its tag "latest" if it has none. What had
    that name keeps its content, without a name.
    """
    from veloci.engine.engine import Engine

    Engine().images.tag(source_image, target_image)
    return 0


def rmi(image: str, /, *images: str, force: bool = False, no_prune: bool = False) -> int:
    """Remove images: the name, and with an image's last name the image.

    IMAGE is a name, an ID or the beginning of an ID.

    -f, --force  also all names of an image given by its ID, and images that stopped containers use
    --no-prune   keep the content that nothing needs any more
    """
    from veloci.cli.main import each
    from veloci.engine.engine import Engine

    engine = Engine()

    def one(name: str) -> None:
        for verb, what in engine.images.remove(name, force=force, prune=not no_prune):
            print(f"{verb}: {what}", flush=True)

    return each(one, (image, *images))


def import_(
    file: str,
    name: str = "",
    /,
    *,
    change: tuple[str, ...] = (),
    message: str = "",
    platform: str | None = None,
    quiet: bool = False,
) -> int:
    """Make an image from the tar of a root file system, and print its ID.

    FILE is a tar archive, plain or compressed by gzip, bzip2, xz or zstd; - is standard input.
    NAME is REPOSITORY[:TAG]; without it the image has an ID only.

    -c, --change LINE       a Dockerfile instruction for the image's configuration:
                            CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
                            USER, VOLUME or WORKDIR; may be repeated
    -m, --message TEXT      the comment in the image's history
    --platform OS/ARCH      what the file system is for (default: this machine)
    -q, --quiet             print nothing
    """
    import sys

    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput
    from veloci.spec.platform import parse
    from veloci.spec.reference import Reference

    reference = Reference.parse(name) if name else None
    if reference and reference.digest:
        raise InvalidInput("cannot import digest reference", where=name, hint=reference.familiar_name())
    if file == "-" and sys.stdin.isatty():
        raise InvalidInput("standard input is a terminal", where="-", hint="veloci import FILE, or a pipe")
    wanted = parse(platform) if platform else None
    image = Engine().images.import_(file, reference, changes=change, message=message, platform=wanted)
    if not quiet:
        print(image.id)
    return 0

"""`veloci system df` and `veloci system check`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from veloci.engine.usage import Usage

_TABLE = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
_HEADINGS = {"TotalCount": "TOTAL"}


def df(*, format: str | None = None, verbose: bool = False) -> int:
    """Show what takes how much of the disk, and how much of it could be had back.

    An image's size is that of its blobs and of its unpacked layers; what two images share counts once. The
    build cache's is that of what only it needs.

    --format TEMPLATE  a Go template, `table TEMPLATE` or json: .Type .TotalCount .Active .Size .Reclaimable
    -v, --verbose      every image, container, volume and part of the build cache
    """
    from veloci.cli.output import formatted, show
    from veloci.engine.engine import Engine
    from veloci.engine.usage import Usage

    usage = Usage(Engine())
    if verbose:
        _details(usage)
        return 0
    show(formatted(_totals(usage), format, _TABLE, headings=_HEADINGS))
    return 0


def check(*, repair: bool = False) -> int:
    """Read everything that lasts and say what is damaged: a line each, with what to do.

    Looked at are the digests of all blobs, what layers unpack to, what names, indexes and images refer to, unpacked
    layers file by file, and what containers stand on. Containers run on meanwhile, and images are pulled. The exit
    status is 1 if something was damaged.

    --repair  take away what is damaged, so that the next pull brings it again, and unpack layers again
    """
    from veloci.cli.main import escaped
    from veloci.engine.check import Check
    from veloci.engine.engine import Engine

    looked, count = Check(Engine()), 0
    for damage in looked.damages():
        count += 1
        what = damage.hint
        if repair and damage.repair:
            done = damage.repair()
            what = f"{done}, {what.rpartition(', then ')[2]}" if ", then " in what and done == "removed" else done
        print(escaped(f"{damage}: {what}"), flush=True)
    found = f"{looked.blobs} blobs, {looked.layers} layers, {len(looked.names)} names, {looked.containers} containers"
    print(f"{found}: {'whole' if not count else '1 damage' if count == 1 else f'{count} damages'}")
    return 1 if count else 0


def _totals(usage: Usage) -> list[dict[str, str]]:
    images, containers, volumes, cache = usage.images(), usage.containers(), usage.volumes(), usage.cache()
    everything = set().union(*(each.parts for each in images))
    used = set().union(*(each.parts for each in images if each.containers))
    return [
        _row("Images", len(images), sum(bool(each.containers) for each in images), usage.size(everything),
             usage.size(everything - used)),
        _row("Containers", len(containers), sum(alive for _, alive, _ in containers),
             sum(size for *_, size in containers), sum(size for _, alive, size in containers if not alive)),
        _row("Local Volumes", len(volumes), sum(bool(users) for _, users, _ in volumes),
             sum(size for *_, size in volumes), sum(size for _, users, size in volumes if not users)),
        _row("Build Cache", len(cache), 0, sum(each.size for each in cache), sum(each.size for each in cache)),
    ]  # fmt: skip


def _row(kind: str, total: int, active: int, count: int, free: int) -> dict[str, str]:
    from veloci.cli.output import size

    share = f" ({100 * free // count}%)" if count else ""
    reclaimable = size(free) if kind == "Build Cache" else f"{size(free)}{share}"
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": size(count),
        "Reclaimable": reclaimable,
    }


def _details(usage: Usage) -> None:
    from veloci.cli.output import show, table

    for title, headers, rows in _tables(usage):
        show(f"{title}\n\n{table(headers, rows)}\n")


def _tables(usage: Usage) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    from veloci.cli.output import ago, short, size

    return [
        (
            "Images space usage:",
            ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"),
            _image_rows(usage),
        ),
        (
            "Containers space usage:",
            ("CONTAINER ID", "IMAGE", "COMMAND", "SIZE", "CREATED", "NAMES"),
            [
                [short(one.id), one.image, " ".join(one.command), size(count), ago(one.created / 1e9), one.name]
                for one, _alive, count in usage.containers()
            ],
        ),
        (
            "Local Volumes space usage:",
            ("VOLUME NAME", "LINKS", "SIZE"),
            [[volume.name, str(users), size(count)] for volume, users, count in usage.volumes()],
        ),
        (
            "Build cache usage:",
            ("CACHE ID", "CACHE TYPE", "SIZE", "LAST USED", "SHARED", "DESCRIPTION"),
            [
                [each.name[:12], each.kind, size(each.size), ago(each.used), str(each.shared).lower(), each.about]
                for each in usage.cache()
            ],
        ),
    ]  # fmt: skip


def _image_rows(usage: Usage) -> list[list[str]]:
    from veloci.cli.output import ago, moment, short, size

    images = usage.images()
    rows: list[list[str]] = []
    for each in images:
        others: set[Any] = set().union(*(other.parts for other in images if other is not each))
        image = each.listed.image
        created = ago(moment(image.config.created)) if image else "N/A"
        sizes = [each.parts, each.parts & others, each.parts - others]
        tail = [created, *(size(usage.size(parts)) for parts in sizes), str(each.containers)]
        names = [[name.familiar_name(), name.tag or "<none>"] for name in each.listed.names]
        rows += [[*name, short(each.listed.id), *tail] for name in names or [["<none>", "<none>"]]]
    return rows

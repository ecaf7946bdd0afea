"""`veloci ps`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from veloci.cli.ps_filters import Filters
    from veloci.engine.engine import Engine
    from veloci.engine.record import Record
    from veloci.monitor.state import State

_HEADINGS = {"ID": "CONTAINER ID", "RunningFor": "CREATED", "LocalVolumes": "LOCAL VOLUMES"}
_COLUMNS = ("{{.ID}}", "{{.Image}}", "{{.Command}}", "{{.RunningFor}}", "{{.Status}}", "{{.Ports}}", "{{.Names}}")
_SECOND = 1e9  # nanoseconds
_LONGEST = 20  # characters of a command; 15 of a mount


def ps(
    *,
    all: bool = False,
    quiet: bool = False,
    no_trunc: bool = False,
    size: bool = False,
    filter: tuple[str, ...] = (),
    format: str | None = None,
    last: int = -1,
    latest: bool = False,
) -> int:
    """List containers.

    -a, --all           also those that do not run
    -q, --quiet         print the IDs only
    -s, --size          show the bytes that each has written, and with its image
    --no-trunc          show whole IDs, commands and mounts
    -f, --filter FIELD=VALUE  only those with this ancestor, before, exited, expose, health, id, label, name,
                        network, publish, since, status, volume
    --format TEMPLATE   a Go template for each, table TEMPLATE, or json
    -n, --last N        the N made last, running or not; -1 is all
    -l, --latest        the one made last
    """
    from veloci.cli.output import formatted, show
    from veloci.cli.ps_filters import Filters
    from veloci.engine.engine import Engine

    engine = Engine()
    fits = Filters(engine, filter)
    count = 1 if latest else last
    found = sorted(_found(engine, fits, ended=all or fits.ended or count > 0), key=_created, reverse=True)
    found = found[: count if count > 0 else None]
    sized = size or ".Size" in (format or "")
    items = [_item(engine, *each, whole=no_trunc, size=sized) for each in found]
    if quiet:
        show("".join(f"{item['ID']}\n" for item in items))
        return 0
    columns = (*_COLUMNS, "{{.Size}}") if size else _COLUMNS
    show(formatted(items, format, "table " + "\t".join(columns), headings=_HEADINGS))
    return 0


def _created(found: tuple[Record, State]) -> int:
    return found[0].created


def _found(engine: Engine, fits: Filters, *, ended: bool) -> Iterator[tuple[Record, State]]:
    """The containers that fit. One whose files are damaged is told of and left out.

    ended: those that do not run, too; without it, only what has a state in the run directory is read.
    """
    import os

    from veloci.cli.main import complain
    from veloci.errors import NotFound, VelociError
    from veloci.monitor.state import LIVE

    records = engine.containers.records
    for id in records.ids():
        if not ended and not os.path.exists(f"{records.run(id)}/state.json"):
            continue
        try:
            record, now = records.load(id), records.current(id)
        except NotFound:  # it is being made, or removed
            continue
        except VelociError as error:
            complain(error)
            continue
        if (ended or now.status in LIVE) and fits(record, now):
            yield record, now


def _item(engine: Engine, record: Record, now: State, *, whole: bool, size: bool) -> dict[str, Any]:
    """A line of the list, in docker's fields."""
    from veloci.cli.output import ago, timestamp
    from veloci.cli.template_print import quote

    words = (f"'{word}'" if " " in word else word for word in record.command)
    mounts = [point.get("name") or point.get("source", "") for point in record.mounts if point["type"] != "tmpfs"]
    return {
        "ID": record.id if whole else record.id[:12],
        "Image": record.image if whole else _image(record.image),
        "Command": quote(_short(" ".join(words), _LONGEST, whole=whole)),
        "CreatedAt": timestamp(record.created / _SECOND),
        "RunningFor": ago(record.created / _SECOND),
        "Status": _status(now),
        "State": now.status,
        "Ports": _ports(engine, record, now),
        "Names": record.name,
        "Networks": "" if ":" in record.network else record.network,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(record.labels.items())),
        "Label": lambda key: record.labels.get(key, ""),
        "Mounts": ",".join(_short(mount, 15, whole=whole) for mount in mounts),
        "LocalVolumes": str(sum(point["type"] == "volume" for point in record.mounts)),
        "Size": _size(engine, record) if size else "0B",
    }


def _image(name: str) -> str:
    """A name as it was written, an ID in short."""
    digits = name.removeprefix("sha256:")
    return digits[:12] if len(digits) == 64 and not digits.strip("0123456789abcdef") else name


def _short(text: str, longest: int, *, whole: bool) -> str:
    return text if whole or len(text) <= longest else text[: longest - 1] + "…"


def _size(engine: Engine, record: Record) -> str:
    """What it wrote, and that with its image: `0B (virtual 1.98MB)`."""
    from veloci.cli.output import size
    from veloci.errors import NotFound

    written = engine.snapshots.usage(record.id)
    try:
        below = engine.images.inspect(record.image_id)["Size"]
    except NotFound:
        return size(written)
    return f"{size(written)} (virtual {size(written + below)})"


def _status(now: State) -> str:
    """`Up 5 minutes`, `Exited (0) 3 seconds ago`, as docker says it."""
    from time import time

    from veloci.cli.output import ago, duration

    ended = f"({now.exit_code}) {ago(now.finished_at / _SECOND)}"
    if now.status == "created":
        return "Created"
    if now.status in ("exited", "restarting"):
        return f"{now.status.capitalize()} {ended}"
    up = f"Up {duration(max(0.0, time() - now.started_at / _SECOND))}"
    if now.status == "paused":
        return f"{up} (Paused)"
    health = now.health if now.health != "starting" else "health: starting"
    return f"{up} ({health})" if health else up


def _ports(engine: Engine, record: Record, now: State) -> str:
    """`0.0.0.0:8000->80/tcp, 53/udp`; ports that follow each other as a range."""
    from veloci.engine.description import ports
    from veloci.monitor import state

    if now.status not in state.LIVE or not (record.ports or record.exposed):
        return ""
    lease = state.read(f"{engine.containers.records.run(record.id)}/lease.json")
    found = []
    for name, places in ports(record, lease).items():
        number, _, protocol = name.partition("/")
        found += [("", int(number), int(number), protocol)] if not places else []
        found += [(place["HostIp"], int(number), int(place["HostPort"]), protocol) for place in places or ()]
    return ", ".join(_ranges(sorted(found, key=lambda port: (port[3], port[0], port[1], port[2]))))


def _ranges(ports: Iterable[tuple[str, int, int, str]]) -> Iterator[str]:
    """ports: address, the container's, the host's, protocol. Only what has its own number on the host is joined."""
    first: tuple[str, int, int, str] | None = None
    last = 0
    for port in (*ports, None):
        if first and port and port == (first[0], last + 1, last + 1, first[3]) and first[1] == first[2]:
            last = port[1]
            continue
        if first:
            address, inside, outside, protocol = first
            host = f"[{address}]" if ":" in address else address
            dash = f"-{last}" if last > inside else ""
            yield (f"{host}:{outside}{dash}->" if host else "") + f"{inside}{dash}/{protocol}"
        first, last = port, port[1] if port else 0

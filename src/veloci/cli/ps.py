"""`veloci ps`."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.containers import Containers
    from veloci.engine.record import Record
    from veloci.monitor.state import State

_HEADINGS = {"ID": "CONTAINER ID", "RunningFor": "CREATED"}
_COLUMNS = ("{{.ID}}", "{{.Image}}", "{{.Command}}", "{{.RunningFor}}", "{{.Status}}", "{{.Ports}}", "{{.Names}}")
_SECOND = 1e9  # nanoseconds
_LIVE = ("running", "paused", "restarting")


def ps(
    *,
    all: bool = False,
    quiet: bool = False,
    no_trunc: bool = False,
    filter: tuple[str, ...] = (),
    format: str | None = None,
    last: int = 0,
    latest: bool = False,
) -> int:
    """List containers.

    -a, --all           also those that do not run
    -q, --quiet         print the IDs only
    --no-trunc          show whole IDs and commands
    -f, --filter FIELD=VALUE  only those with this name, id, status, label, ancestor
    --format TEMPLATE   a Go template for each, table TEMPLATE, or json
    -n, --last N        the N made last, running or not
    -l, --latest        the one made last
    """
    from veloci.cli.output import formatted, show
    from veloci.engine.engine import Engine

    containers = Engine().containers
    conditions = [_condition(text) for text in filter]
    rows = [(record, containers.records.current(record.id)) for record in containers.records.all()]
    rows.sort(key=lambda row: row[0].created, reverse=True)
    count = 1 if latest else last
    everything = all or bool(count) or any(field == "status" for field, _ in conditions)
    rows = [row for row in rows if (everything or row[1].status in _LIVE) and _fits(*row, conditions)]
    items = [_item(containers, *row, no_trunc=no_trunc) for row in rows[: count or None]]
    table = "{{.ID}}" if quiet else "table " + "\t".join(_COLUMNS)
    show(formatted(items, None if quiet and format is None else format, table, headings=_HEADINGS))
    return 0


def _condition(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals or field not in ("name", "id", "status", "label", "ancestor"):
        raise InvalidInput(
            f"unknown filter {text!r}",
            where="--filter",
            hint="name, id, status, label or ancestor=VALUE",
            exit_status=None if equals else 125,  # docker's: its flags' grammar is wrong
        )
    return field, value


def _fits(record: Record, now: State, conditions: list[tuple[str, str]]) -> bool:
    for field, value in conditions:
        key, equals, wanted = value.partition("=")
        label = record.labels.get(key)
        answers = {
            "name": value in record.name,
            "id": record.id.startswith(value),
            "status": now.status == value,
            "label": label is not None and (not equals or label == wanted),
            "ancestor": record.image == value or record.image_id.removeprefix("sha256:").startswith(value),
        }
        if not answers[field]:
            return False
    return True


def _item(containers: Containers, record: Record, now: State, *, no_trunc: bool) -> dict[str, Any]:
    """A line of the list, in docker's fields."""
    from veloci.cli.output import ago, timestamp

    command = " ".join(record.command)
    if not no_trunc and len(command) > 20:
        command = command[:19] + "…"
    return {
        "ID": record.id if no_trunc else record.id[:12],
        "Image": record.image,
        "Command": f'"{command}"',
        "CreatedAt": timestamp(record.created / _SECOND),
        "RunningFor": ago(record.created / _SECOND),
        "Status": _status(now),
        "State": now.status,
        "Ports": _ports(containers, record, now),
        "Names": record.name,
        "Networks": record.network,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(record.labels.items())),
        "Label": lambda key: record.labels.get(key, ""),
    }


def _status(now: State) -> str:
    """`Up 5 minutes`, `Exited (0) 3 seconds ago`, as docker says it."""
    from time import time

    from veloci.cli.output import ago, duration

    if now.status in _LIVE:
        up = f"Up {duration(max(0.0, time() - now.started_at / _SECOND))}"
        return {"paused": f"{up} (Paused)", "restarting": f"Restarting ({now.exit_code})"}.get(now.status, up)
    if now.status == "created":
        return "Created"
    return f"Exited ({now.exit_code}) {ago(now.finished_at / _SECOND)}"


def _ports(containers: Containers, record: Record, now: State) -> str:
    if now.status not in _LIVE or not record.ports:
        return ""
    found = containers.inspect(record.id)["NetworkSettings"]["Ports"]
    return ", ".join(
        f"{place['HostIp']}:{place['HostPort']}->{inside}" for inside, places in found.items() for place in places
    )

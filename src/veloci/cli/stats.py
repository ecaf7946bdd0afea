"""`veloci stats`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from veloci.engine.engine import Engine
    from veloci.engine.record import Record
    from veloci.engine.resources import Usage

_HEADINGS = {
    "ID": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_INTERVAL = 1.0  # seconds between two looks


def stats(
    *containers: str, all: bool = False, no_stream: bool = False, no_trunc: bool = False, format: str | None = None
) -> int:
    """Show what containers use: processor, memory, network, disk, processes. Without names: all that run.

    -a, --all          also those that do not run
    --no-stream        once, and end
    --no-trunc         whole IDs
    --format TEMPLATE  a Go template for each, table TEMPLATE, or json
    """
    import sys
    from time import sleep

    from veloci.cli.output import formatted, show
    from veloci.engine.engine import Engine
    from veloci.engine.resources import usage

    engine = Engine()
    records = engine.containers.records
    named = [records.load(records.find(word)) for word in containers]
    before: dict[str, Usage] = {}
    columns = "table " + "\t".join(f"{{{{.{name}}}}}" for name in _COLUMNS)
    while True:
        chosen = named or _running(engine, ended=all)
        first = {record.id: usage(engine, record) for record in chosen if record.id not in before}
        if first or before:
            sleep(_INTERVAL)
        before |= first
        now = {record.id: usage(engine, record) for record in chosen}
        items = [
            _item(word, record, before[record.id], now[record.id], whole=no_trunc)
            for record, word in zip(chosen, containers or [each.name for each in chosen], strict=True)
        ]
        text = formatted(items, format, columns, headings=_HEADINGS)
        if not no_stream and sys.stdout.isatty():
            sys.stdout.write("\x1b[H\x1b[J")  # from the top left, nothing below
        show(text)
        sys.stdout.flush()
        if no_stream:
            return 0
        before = now


def _running(engine: Engine, *, ended: bool) -> list[Record]:
    from veloci.monitor.state import LIVE

    records = engine.containers.records
    found: Iterable[Record] = records.all()
    return sorted(
        (record for record in found if ended or records.current(record.id).status in LIVE),
        key=lambda record: record.created,
        reverse=True,
    )


def _item(word: str, record: Record, before: Usage, now: Usage, *, whole: bool) -> dict[str, Any]:
    """A line, in docker's fields. The processor's share is of one, as docker counts."""
    from veloci.cli.output import size

    passed = now.at - before.at
    return {
        "Container": word,
        "ID": record.id if whole else record.id[:12],
        "Name": record.name,
        "CPUPerc": f"{(now.cpu - before.cpu) / passed * 100 if passed > 0 and before.at else 0:.2f}%",
        "MemUsage": f"{_binary(now.memory)} / {_binary(now.memory_limit)}",
        "MemPerc": f"{now.memory / now.memory_limit * 100 if now.memory_limit else 0:.2f}%",
        "NetIO": f"{size(now.received)} / {size(now.sent)}",
        "BlockIO": f"{size(now.read)} / {size(now.written)}",
        "PIDs": str(now.processes),
    }


def _binary(count: float) -> str:
    """`count` bytes in four digits and a binary unit: 1.5KiB, 23.54GiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            return f"{count:.4g}{unit}"
        count /= 1024
    return f"{count:.4g}PiB"

"""What a running container uses of the host, and which processes it has: read from its cgroups and from /proc."""

from __future__ import annotations

import os

from veloci.errors import Conflict
from veloci.monitor import state
from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine
    from veloci.engine.record import Record
    from veloci.runtime.cgroup import Group


class Usage(Document):
    """One look. Bytes; processor time in nanoseconds since its start; at: when it was, in nanoseconds."""

    at: int = 0
    cpu: int = 0
    memory: int = 0  # without the cache that can be dropped
    memory_limit: int = 0  # the host's where it has none
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    processes: int = 0


def usage(engine: Engine, record: Record) -> Usage:
    """What the container uses now; nothing if it does not run."""
    from time import monotonic_ns

    now = engine.containers.records.current(record.id)
    if now.status not in state.LIVE or not now.pid:
        return Usage()
    group = _group(engine, record)
    known = _unified(group.places[""]) if group.unified else _first(group.places)
    received, sent = _network(now.pid)
    limit = min(known.memory_limit or _memory(), _memory())
    return known.replace(at=monotonic_ns(), received=received, sent=sent, memory_limit=limit)


def pids(engine: Engine, word: str) -> list[int]:
    """The processes of a container, as the host numbers them. Raises NotFound, Conflict if it does not run."""
    records = engine.containers.records
    id = records.find(word)
    if records.current(id).status not in ("running", "paused"):
        raise Conflict(f"container {word} is not running", hint=f"veloci start {word}")
    return _group(engine, records.load(id)).pids()


def _group(engine: Engine, record: Record) -> Group:
    from veloci.runtime.cgroup import Group, place

    config = state.read(f"{engine.containers.records.data(record.id)}/bundle/config.json") or {}
    return Group(place(config.get("linux", {}).get("cgroupsPath", ""), record.id))


def _unified(directory: str) -> Usage:
    """From cgroup version 2 — https://docs.kernel.org/admin-guide/cgroup-v2.html."""
    moved = [pair.partition("=")[::2] for pair in _read(directory, "io.stat").split() if "=" in pair]
    return Usage(
        cpu=_field(directory, "cpu.stat", "usage_usec") * 1000,
        memory=_number(directory, "memory.current") - _field(directory, "memory.stat", "inactive_file"),
        memory_limit=_number(directory, "memory.max"),
        read=sum(int(count) for key, count in moved if key == "rbytes"),
        written=sum(int(count) for key, count in moved if key == "wbytes"),
        processes=_number(directory, "pids.current"),
    )


def _first(places: dict[str, str]) -> Usage:
    """From version 1's hierarchies — https://docs.kernel.org/admin-guide/cgroup-v1/index.html."""
    by = {name: directory for names, directory in places.items() for name in names.split(",")}
    memory, pids = by.get("memory", ""), by.get("pids", "")
    moved = [line.split() for line in _read(by.get("blkio", ""), "blkio.throttle.io_service_bytes").splitlines()]
    return Usage(
        cpu=_number(by.get("cpuacct", ""), "cpuacct.usage"),
        memory=_number(memory, "memory.usage_in_bytes") - _field(memory, "memory.stat", "total_inactive_file"),
        memory_limit=_number(memory, "memory.limit_in_bytes"),
        read=sum(int(words[2]) for words in moved if words[1:2] == ["Read"]),
        written=sum(int(words[2]) for words in moved if words[1:2] == ["Write"]),
        processes=_number(pids, "pids.current"),
    )


def _read(directory: str, file: str) -> str:
    """The file, "" where the controller or the group is missing."""
    try:
        with open(f"{directory}/{file}") as stream:
            return stream.read()
    except OSError:
        return ""


def _number(directory: str, file: str) -> int:
    """The file's number; 0 for none and for "max"."""
    text = _read(directory, file).strip()
    return int(text) if text.isdigit() else 0


def _field(directory: str, file: str, name: str) -> int:
    """A line `name NUMBER` of a file."""
    for line in _read(directory, file).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _network(pid: int) -> tuple[int, int]:
    """Bytes received and sent by the interfaces of the process's network namespace but `lo` — proc_pid_net(5)."""
    received = sent = 0
    for line in _read(f"/proc/{pid}/net", "dev").splitlines()[2:]:
        name, _, fields = line.partition(":")
        if name.strip() != "lo":
            numbers = fields.split()
            received, sent = received + int(numbers[0]), sent + int(numbers[8])
    return received, sent


def _memory() -> int:
    """The host's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

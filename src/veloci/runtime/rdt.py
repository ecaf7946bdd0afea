"""Intel RDT: the class of service of a container's processes, as directories of a mounted resctrl file system.

    MOUNT/CLOS/tasks, schemata               CLOS is closID, or the container's id; "/" is the root
    MOUNT/CLOS/mon_groups/ID/tasks           with enableMonitoring

https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#intelrdt
https://docs.kernel.org/filesystems/resctrl.html
"""

from __future__ import annotations

import posix

from veloci.errors import Conflict, HostError, InvalidInput, NotFound, Unsupported
from veloci.kernel.cgroupfs import exists, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from veloci.spec.runtime import IntelRdt

_AT = "config.json: $.linux.intelRdt"
_OURS_NOT = ("info", "mon_data", "mon_groups")  # what resctrl itself has in its root


def check(rdt: IntelRdt) -> None:
    """Raise InvalidInput, with the place, for a value that the specification forbids."""
    name = rdt.clos_id
    if name in (".", "..", *_OURS_NOT) or (name != "/" and "/" in name) or "\0" in name:
        raise InvalidInput(f"invalid intelRdt.ClosID {name!r}", where=f"{_AT}.closID")
    if rdt.mem_bw_schema and not rdt.mem_bw_schema.startswith("MB:"):
        raise InvalidInput("must start with MB:", where=f"{_AT}.memBwSchema")
    lines = {"l3CacheSchema": rdt.l3_cache_schema, "memBwSchema": rdt.mem_bw_schema}
    lines |= {f"schemata[{index}]": line for index, line in enumerate(rdt.schemata)}
    for place, line in lines.items():
        if "\n" in line:
            raise InvalidInput("must not contain a newline", where=f"{_AT}.{place}")


def mounted() -> str:
    """Where resctrl is mounted; "" if it is not."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, tail = line.partition(" - ")
            if tail.startswith("resctrl "):
                return fields.split()[4]
    return ""


class Planned:
    """What a container has in the resctrl file system mounted at `mount`, before it is made."""

    def __init__(self, rdt: IntelRdt, id: str, mount: str) -> None:
        """Raises Unsupported, NotFound and Conflict with the place in config.json."""
        _there(rdt, mount)
        self.rdt = rdt
        self.directory = mount if rdt.clos_id == "/" else f"{mount}/{rdt.clos_id or id}"
        found = exists(self.directory)
        if rdt.clos_id and found:
            self._compare()
        elif rdt.clos_id and not _lines(rdt):
            raise NotFound(
                f"{self.directory} does not exist, and there is no schema to make it with", where=f"{_AT}.closID"
            )
        self.tasks = [self.directory]  # the directories that its processes are entered in
        if rdt.enable_monitoring:
            self.tasks.append(f"{self.directory}/mon_groups/{id}")
        # Those that go with it, the last first: never a class that others may use.
        self.own = self.tasks[0 if not rdt.clos_id and not found else 1 :]

    def _compare(self) -> None:
        """Raise Conflict if the class is there with other values than are wanted."""
        for name, wanted in (("l3CacheSchema", self.rdt.l3_cache_schema), ("memBwSchema", self.rdt.mem_bw_schema)):
            if wanted:
                there = _values(read(self.directory, "schemata").splitlines())
                if not _values([wanted]).items() <= there.items():
                    raise Conflict(f"{self.directory} has other values than {wanted!r}", where=f"{_AT}.{name}")


def make(rdt: IntelRdt, directories: tuple[str, ...], pid: int) -> None:
    """Make the `tasks` of a plan, set the class's schemata, enter process `pid`. Raises HostError."""
    mount = mounted()
    for directory in directories:
        try:
            posix.mkdir(directory, 0o755)
        except FileExistsError:
            continue
        except OSError as error:
            raise failed(f"make {directory}", error, mount, _AT) from error
    schemata(directories[0], _lines(rdt), mount, _AT)
    enter(directories, pid)


def _lines(rdt: IntelRdt) -> list[str]:
    """What is written to the schemata, in the order that the specification gives."""
    return [line for line in (rdt.l3_cache_schema, rdt.mem_bw_schema, *rdt.schemata) if line]


def _there(rdt: IntelRdt, mount: str) -> None:
    """Raise Unsupported for what this host has not."""
    if not mount:
        raise Unsupported(
            "intelRdt is specified in config, but Intel RDT is not enabled: no resctrl file system is mounted",
            where=_AT,
            hint="mount -t resctrl resctrl /sys/fs/resctrl, on a processor that has it",
        )
    if rdt.l3_cache_schema and not cache(mount):
        raise Unsupported("Intel RDT/CAT is not enabled", where=f"{_AT}.l3CacheSchema")
    if rdt.mem_bw_schema and not bandwidth(mount):
        raise Unsupported("Intel RDT/MBA is not enabled", where=f"{_AT}.memBwSchema")
    if rdt.enable_monitoring and not exists(f"{mount}/info/L3_MON"):
        raise Unsupported("Intel RDT monitoring is not enabled", where=f"{_AT}.enableMonitoring")


def cache(mount: str) -> bool:
    """Whether parts of the L3 cache can be allotted."""
    return exists(f"{mount}/info/L3") or exists(f"{mount}/info/L3CODE")


def bandwidth(mount: str) -> bool:
    """Whether memory bandwidth can be allotted."""
    return exists(f"{mount}/info/MB")


def _values(lines: Iterable[str]) -> dict[tuple[str, str], int]:
    """What lines of a schemata file say: (resource, domain) -> value; "L3:0=00ff;1=c0" is {("L3", "0"): 255, …}."""
    found = {}
    for line in lines:
        name, _, parts = line.strip().partition(":")
        for part in parts.split(";"):
            domain, _, value = part.strip().partition("=")
            try:
                found[name, str(int(domain))] = int(value, 16)  # a mask; decimal numbers are as good for comparison
            except ValueError:
                found[name, domain] = -1
    return found


def enter(directories: Iterable[str], pid: int) -> None:
    """Enter process `pid` in classes and monitoring groups. Raises HostError."""
    for directory in directories:
        try:
            write(directory, "tasks", str(pid))
        except OSError as error:
            raise failed(f"enter {directory}", error, mounted(), _AT) from error


def schemata(directory: str, lines: list[str], mount: str, where: str) -> None:
    """Write `lines` to a class's schemata; without any it is left alone. Raises HostError."""
    if lines:
        try:
            write(directory, "schemata", "".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise failed(f"write {lines!r} to {directory}/schemata", error, mount, where) from error


def remove(directories: Iterable[str]) -> None:
    """Remove what is a container's own; what is gone already is no error. Raises HostError."""
    for directory in [*directories][::-1]:
        try:
            posix.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostError(f"remove {directory}", error) from error


def failed(doing: str, error: OSError, mount: str, where: str) -> HostError:
    """The error of a write, with what resctrl says of it."""
    try:
        said = read(f"{mount}/info", "last_cmd_status")
    except OSError:
        said = ""
    reason = f"{error.strerror}, last_cmd_status: {said}" if said else error.strerror
    return HostError(doing, OSError(error.errno, reason), where=where)


def update(directories: tuple[str, ...], l3_cache_schema: str, mem_bw_schema: str) -> None:
    """Set other values for the class in `directories`. Raises Conflict if there is none, Unsupported, HostError."""
    mount = mounted()
    if l3_cache_schema and not cache(mount):
        raise Unsupported("Intel RDT/CAT: l3 cache schema is not enabled", where="--l3-cache-schema")
    if mem_bw_schema and not bandwidth(mount):
        raise Unsupported("Intel RDT/MBA: memory bandwidth schema is not enabled", where="--mem-bw-schema")
    if not directories:
        raise Conflict("updating a non-existent Intel RDT configuration is not supported")
    lines = [line for line in (l3_cache_schema, mem_bw_schema) if line]
    schemata(directories[0], lines, mount, "--l3-cache-schema" if l3_cache_schema else "--mem-bw-schema")

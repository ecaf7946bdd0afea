"""What a control group has used and may use, in the shape of runc's `events`.

Numbers are bytes, nanoseconds of processor time, and counts. A controller that the host lacks gives an empty part.
"""

from __future__ import annotations

import os

from veloci.kernel.cgroupfs import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.runtime.cgroup import Group

_MAX = 2**64 - 1  # what runc says for "max"
_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
_CPUSET = (
    "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab "
    "memory_pressure sched_load_balance sched_relax_domain_level"
).split()
_OPERATIONS = ("Read", "Write")
_IO_STAT = {"ioServiceBytesRecursive": ("rbytes", "wbytes"), "ioServicedRecursive": ("rios", "wios")}


def stats(group: Group) -> dict[str, Any]:
    """The use of `group` now. Raises FileNotFoundError if it is gone."""
    if group.unified:
        directory = group.places[""]
        read(directory, "cgroup.procs")
        cpuset = dict.fromkeys(_CPUSET, 0)  # as runc says where there is nothing to say
        known = {"cpu": _cpu2(directory), "cpuset": cpuset, "memory": _memory2(directory), "pids": _pids(directory)}
        return {**known, **_rest2(directory)}
    found = {name: directory for names, directory in group.places.items() for name in names.split(",")}
    read(next(iter(group.places.values())), "cgroup.procs")
    return {
        "cpu": _cpu1(found),
        "cpuset": _cpuset(found.get("cpuset", "")),
        "memory": _memory1(found.get("memory", "")),
        "pids": _pids(found.get("pids", "")),
        "blkio": _blkio(found.get("blkio", "")),
        "hugetlb": _hugetlb(found.get("hugetlb", ""), "usage_in_bytes", "max_usage_in_bytes", "failcnt"),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def oom_kills(group: Group) -> int:
    """How many of its processes the kernel has ended for want of memory; 0 without a memory controller."""
    places = {name: directory for names, directory in group.places.items() for name in names.split(",")}
    if group.unified:
        return _pairs(places[""], "memory.events").get("oom_kill", 0)
    return _pairs(places.get("memory", ""), "memory.oom_control").get("oom_kill", 0)


def _number(directory: str, file: str) -> int:
    try:
        text = read(directory, file) if directory else "0"
    except OSError:
        return 0
    return _MAX if text == "max" else int(text)


def _pairs(directory: str, file: str) -> dict[str, int]:
    """The lines "name number" of a file; none if there is no such file."""
    try:
        lines = read(directory, file).splitlines() if directory else []
    except OSError:
        return {}
    return {line.split()[0]: int(line.split()[1]) for line in lines}


def _cpu1(found: dict[str, str]) -> dict[str, Any]:
    account, cpu = found.get("cpuacct", ""), found.get("cpu", "")
    usage: dict[str, Any] = {"total": _number(account, "cpuacct.usage")}
    try:
        usage["percpu"] = [int(word) for word in read(account, "cpuacct.usage_percpu").split()]
    except OSError:
        usage["percpu"] = []
    usage |= _each1(account)
    ticks = _pairs(account, "cpuacct.stat")
    usage |= {"kernel": ticks.get("system", 0) * _TICK, "user": ticks.get("user", 0) * _TICK}
    stat = _pairs(cpu, "cpu.stat")
    throttled = (("periods", "nr_periods"), ("throttledPeriods", "nr_throttled"), ("throttledTime", "throttled_time"))
    return {"usage": usage, "throttling": {name: stat[key] for name, key in throttled if stat.get(key)}}


def _each1(account: str) -> dict[str, list[int]]:
    """What each processor did in the kernel and outside, where the kernel tells: lines "cpu user system"."""
    try:
        rows = [line.split() for line in read(account, "cpuacct.usage_all").splitlines()[1:]]
    except OSError:
        return {}
    return {"percpu_kernel": [int(row[2]) for row in rows], "percpu_user": [int(row[1]) for row in rows]}


def _cpu2(directory: str) -> dict[str, Any]:
    stat = _pairs(directory, "cpu.stat")  # microseconds
    usage = {
        "total": stat.get("usage_usec", 0) * 1000,
        "kernel": stat.get("system_usec", 0) * 1000,
        "user": stat.get("user_usec", 0) * 1000,
    }
    throttling = {"periods": stat.get("nr_periods", 0), "throttledPeriods": stat.get("nr_throttled", 0)}
    throttling["throttledTime"] = stat.get("throttled_usec", 0) * 1000
    return {"usage": usage, "throttling": {name: value for name, value in throttling.items() if value}}


def _cpuset(directory: str) -> dict[str, Any]:
    if not directory:
        return {}
    found: dict[str, Any] = {}
    for name in ("cpus", "mems"):
        try:
            found[name] = _list(read(directory, f"cpuset.{name}"))
        except OSError:
            found[name] = []
    for name in _CPUSET:
        found[name] = _number(directory, f"cpuset.{name}")
    return found


def _list(text: str) -> list[int]:
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _memory1(directory: str) -> dict[str, Any]:
    if not directory:
        return {}
    found: dict[str, Any] = {}
    for name, prefix in (("usage", ""), ("swap", "memsw."), ("kernel", "kmem."), ("kernelTCP", "kmem.tcp.")):
        if os.path.exists(f"{directory}/memory.{prefix}usage_in_bytes"):
            values = {
                "limit": _number(directory, f"memory.{prefix}limit_in_bytes"),
                "usage": _number(directory, f"memory.{prefix}usage_in_bytes"),
                "max": _number(directory, f"memory.{prefix}max_usage_in_bytes"),
            }
            used = {key: value for key, value in values.items() if value}  # runc leaves zeros out
            found[name] = {**used, "failcnt": _number(directory, f"memory.{prefix}failcnt")}
    raw = _pairs(directory, "memory.stat")
    return {**({"cache": raw["cache"]} if raw.get("cache") else {}), **found, "raw": raw}


def _memory2(directory: str) -> dict[str, Any]:
    events, raw = _pairs(directory, "memory.events"), _pairs(directory, "memory.stat")
    usage = {
        "limit": _number(directory, "memory.max"),
        "usage": _number(directory, "memory.current"),
        "max": _number(directory, "memory.peak"),
        "failcnt": events.get("max", 0),
    }
    swap = {"limit": _number(directory, "memory.swap.max"), "usage": _number(directory, "memory.swap.current")}
    swap |= {"max": _number(directory, "memory.swap.peak"), "failcnt": 0}
    none = {"limit": 0, "failcnt": 0}  # version 1's, which runc tells all the same
    return {"usage": usage, "swap": swap, "kernel": none, "kernelTCP": none, "raw": raw} if raw else {}


def _pids(directory: str) -> dict[str, Any]:
    if not directory or not os.path.exists(f"{directory}/pids.current"):
        return {}
    limit = _number(directory, "pids.max")
    current = {"current": _number(directory, "pids.current")}
    return current if limit == _MAX else {**current, "limit": limit}


def _blkio(directory: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, file in (("ioServiceBytesRecursive", "io_service_bytes"), ("ioServicedRecursive", "io_serviced")):
        choices = [f"blkio.{policy}.{file}_recursive" for policy in ("bfq", "throttle")]
        entries = next(filter(None, (_devices(directory, file) for file in choices)), []) if directory else []
        if entries:
            found[name] = entries
    return found


def _devices(directory: str, file: str) -> list[dict[str, Any]]:
    """The lines "major:minor operation value" of a file."""
    try:
        lines = [line.split() for line in read(directory, file).splitlines()]
    except OSError:
        return []
    return [_entry(fields[0], fields[1], int(fields[2])) for fields in lines if len(fields) == 3]


def _entry(device: str, operation: str, value: int) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": operation, "value": value}


def _rest2(directory: str) -> dict[str, Any]:
    blkio: dict[str, Any] = {}
    try:
        lines = read(directory, "io.stat").splitlines()
    except OSError:
        lines = []
    for line in lines:
        device, *words = line.split()
        values = {key: int(value) for key, _, value in (word.partition("=") for word in words) if value.isdigit()}
        for name, keys in _IO_STAT.items():
            for key, operation in zip(keys, _OPERATIONS, strict=True):
                blkio.setdefault(name, []).append(_entry(device, operation, values.get(key, 0)))
    hugetlb = _hugetlb(directory, "current", "max", "events")
    return {"blkio": blkio, "hugetlb": hugetlb, "intel_rdt": {}, "network_interfaces": None}


def _hugetlb(directory: str, usage: str, most: str, failures: str) -> dict[str, Any]:
    try:
        names = os.listdir(directory) if directory else []
    except OSError:
        return {}
    found = {}
    for name in sorted(names):
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "hugetlb" and parts[2] == usage:
            size = parts[1]
            values = {"usage": _number(directory, name), "max": _number(directory, f"hugetlb.{size}.{most}")}
            if most == "max":
                failed = _pairs(directory, f"hugetlb.{size}.{failures}").get("max", 0)
                values = {"usage": values["usage"]}
            else:
                failed = _number(directory, f"hugetlb.{size}.{failures}")
            found[size] = {**{key: value for key, value in values.items() if value}, "failcnt": failed}
    return found

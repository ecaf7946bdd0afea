"""Resources as version 1 control files.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config-linux.md#control-groups
"""

from __future__ import annotations

from veloci.errors import HostError, Unsupported
from veloci.kernel.cgroupfs import exists, write, write_all
from veloci.runtime.cgroup.devices import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.runtime import BlockIo, Cpu, Memory, Resources

    Places = dict[str, str]

_AT = "config.json: $.linux.resources"


def apply(places: Places, resources: Resources, *, devices: bool) -> None:
    """Write what `resources` sets, and with `devices` its device rules. Raises HostError, Unsupported."""
    found = {name: directory for names, directory in places.items() for name in names.split(",")}
    if resources.unified:
        raise Unsupported("cannot use unified on cgroup v1", where=f"{_AT}.unified")
    if devices:
        _devices(found, resources)
    if resources.pids and resources.pids.limit is not None and resources.pids.limit != 0:
        limit = resources.pids.limit
        _set(found, "pids", "pids.max", limit if limit > 0 else "max", "pids.limit")
    if resources.memory:
        _memory(found, resources.memory)
    if resources.cpu:
        _cpu(found, resources.cpu)
    if resources.block_io:
        _block_io(found, resources.block_io)
    for index, huge in enumerate(resources.hugepage_limits):
        _set(found, "hugetlb", f"hugetlb.{huge.page_size}.limit_in_bytes", huge.limit, f"hugepageLimits[{index}]")
    for device, limits in resources.rdma.items():
        words = [device]
        words += [f"hca_handle={limits.hca_handles}"] if limits.hca_handles is not None else []
        words += [f"hca_object={limits.hca_objects}"] if limits.hca_objects is not None else []
        _set(found, "rdma", "rdma.max", " ".join(words), f"rdma.{device}")


def _set(found: Places, controller: str, file: str, value: object, at: str) -> None:
    if controller not in found:
        raise Unsupported(f"cannot set {file}: the cgroup controller {controller} is not mounted", where=f"{_AT}.{at}")
    try:
        write(found[controller], file, str(value))
    except OSError as error:
        raise HostError(f"set {file} to {value}", error, where=f"{_AT}.{at}") from error


def _devices(found: Places, resources: Resources) -> None:
    if "devices" not in found:
        raise Unsupported("the cgroup controller devices is not mounted", where=f"{_AT}.devices")
    files: list[tuple[str, list[str]]] = []  # a file, and what is written to it before another's turn
    for allow, kind, major, minor, access in rules(resources):
        numbers = ("*" if number is None else number for number in (major, minor))
        value = "a *:* rwm" if kind == "a" else f"{kind} {':'.join(map(str, numbers))} {access}"
        file = "devices.allow" if allow else "devices.deny"
        if not files or files[-1][0] != file:
            files.append((file, []))
        files[-1][1].append(value)
    for file, values in files:
        try:
            write_all(found["devices"], file, values)
        except OSError as error:
            raise HostError(f"set {file} to {error.filename2}", error, where=f"{_AT}.devices") from error


def _memory(found: Places, memory: Memory) -> None:
    limit, swap = memory.limit or None, memory.swap or None
    if limit == -1 and swap is None and exists(f"{found.get('memory')}/memory.memsw.limit_in_bytes"):
        swap = -1
    sizes = [("memory.limit_in_bytes", limit, "memory.limit"), ("memory.memsw.limit_in_bytes", swap, "memory.swap")]
    wanted = [(file, value, at) for file, value, at in sizes if value is not None]
    if len(wanted) == 2 and (swap == -1 or _current(found, "memory.memsw.limit_in_bytes") < (limit or 0)):
        wanted.reverse()  # the sum may never be below the part
    for file, value, at in wanted:
        _set(found, "memory", file, value, at)
    if memory.reservation:
        _set(found, "memory", "memory.soft_limit_in_bytes", memory.reservation, "memory.reservation")
    if memory.swappiness is not None:
        _set(found, "memory", "memory.swappiness", memory.swappiness, "memory.swappiness")
    if memory.disable_oom_killer:
        _set(found, "memory", "memory.oom_control", 1, "memory.disableOOMKiller")


def _current(found: Places, file: str) -> int:
    from veloci.kernel.cgroupfs import read

    try:
        return int(read(found["memory"], file))
    except (KeyError, OSError):
        return 2**63


def _cpu(found: Places, cpu: Cpu) -> None:
    simple = [
        ("cpu.shares", cpu.shares, "shares"),
        ("cpu.cfs_period_us", cpu.period, "period"),
        ("cpu.cfs_quota_us", cpu.quota, "quota"),
        ("cpu.cfs_burst_us", cpu.burst, "burst"),
        ("cpu.idle", cpu.idle, "idle"),
        ("cpu.rt_period_us", cpu.realtime_period, "realtimePeriod"),
        ("cpu.rt_runtime_us", cpu.realtime_runtime, "realtimeRuntime"),
    ]
    for file, value, name in simple:
        if value:
            _set(found, "cpu", file, value, f"cpu.{name}")
    for file, text, name in (("cpuset.cpus", cpu.cpus, "cpus"), ("cpuset.mems", cpu.mems, "mems")):
        if text:
            _set(found, "cpuset", file, text, f"cpu.{name}")


def _block_io(found: Places, block: BlockIo) -> None:
    if block.weight:
        plain = exists(f"{found.get('blkio')}/blkio.weight")
        _set(found, "blkio", "blkio.weight" if plain else "blkio.bfq.weight", block.weight, "blockIO.weight")
    for file, limits, name in (
        ("read_bps", block.throttle_read_bps_device, "throttleReadBpsDevice"),
        ("write_bps", block.throttle_write_bps_device, "throttleWriteBpsDevice"),
        ("read_iops", block.throttle_read_iops_device, "throttleReadIOPSDevice"),
        ("write_iops", block.throttle_write_iops_device, "throttleWriteIOPSDevice"),
    ):
        for index, limit in enumerate(limits):
            value = f"{limit.major}:{limit.minor} {limit.rate}"
            _set(found, "blkio", f"blkio.throttle.{file}_device", value, f"blockIO.{name}[{index}]")

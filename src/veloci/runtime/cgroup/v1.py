"""Resources as version 1 control files.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config-linux.md#control-groups
"""

from __future__ import annotations

from errno import EINVAL

from veloci.errors import HostError, Unsupported
from veloci.kernel.cgroupfs import exists, write, write_all
from veloci.runtime.cgroup.devices import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.runtime import BlockIo, Cpu, Memory, Network, Resources

    Setting = tuple[str, str, str]  # file, value, place below linux.resources

_AT = "config.json: $.linux.resources"
_UNLIMITED = 2**63 - 2**16  # rounded down to a page, of which the largest are of 64 KiB


class Places(dict[str, str]):
    """Controller -> directory. told: where what would be written is noted instead."""

    told: list[Setting] | None = None

    def write(self, controller: str, file: str, value: str, at: str) -> None:
        """Write `value` to a file of the controller's directory. Raises OSError."""
        if self.told is None:
            write(self[controller], file, value)
        else:
            self.told.append((file, value, at))


def apply(places: dict[str, str], resources: Resources, *, devices: bool, told: list[Setting] | None = None) -> None:
    """Write what `resources` sets, and with `devices` its device rules. Raises HostError, Unsupported.

    told: gets what would be written; nothing is.
    """
    found = Places((name, directory) for names, directory in places.items() for name in names.split(","))
    found.told = told
    if resources.unified:
        raise Unsupported("invalid configuration: cannot use unified on cgroup v1", where=f"{_AT}.unified")
    if devices:
        _devices(found, resources)
    if resources.pids and resources.pids.limit is not None:
        limit = resources.pids.limit or 1  # 0 is none but the first, as runc has it for systemd's sake
        _set(found, "pids", "pids.max", limit if limit > 0 else "max", "pids.limit")
    if resources.memory:
        _memory(found, resources.memory)
    if resources.cpu:
        _cpu(found, resources.cpu)
    if resources.block_io:
        _block_io(found, resources.block_io)
    for index, huge in enumerate(resources.hugepage_limits):
        at, file = f"hugepageLimits[{index}]", f"hugetlb.{huge.page_size}.limit_in_bytes"
        _set(found, "hugetlb", file, huge.limit, at)
        reserved = f"hugetlb.{huge.page_size}.rsvd.limit_in_bytes"
        if exists(f"{found['hugetlb']}/{reserved}"):
            _set(found, "hugetlb", reserved, huge.limit, at)
    if resources.network:
        _network(found, resources.network)
    for device, limits in resources.rdma.items():
        words = [device]
        words += [f"hca_handle={limits.hca_handles}"] if limits.hca_handles is not None else []
        words += [f"hca_object={limits.hca_objects}"] if limits.hca_objects is not None else []
        _set(found, "rdma", "rdma.max", " ".join(words), f"rdma.{device}")


def _set(found: Places, controller: str, file: str, value: object, at: str) -> None:
    if controller not in found:
        raise Unsupported(f"cannot set {file}: the cgroup controller {controller} is not mounted", where=f"{_AT}.{at}")
    try:
        found.write(controller, file, str(value), at)
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
        if found.told is not None:
            found.told += [(file, value, "devices") for value in values]
            continue
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
    if memory.use_hierarchy is not None:
        _set(found, "memory", "memory.use_hierarchy", int(memory.use_hierarchy), "memory.useHierarchy")
    for file, value, at in (
        ("memory.kmem.limit_in_bytes", memory.kernel or 0, "memory.kernel"),
        ("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp or 0, "memory.kernelTCP"),
    ):
        if value > 0 or (value < 0 and _current(found, file) < _UNLIMITED):
            _set(found, "memory", file, value, at)
            # Linux 5.16 and later take a limit of kernel memory for none.
            if found.told is None and 0 < value < _current(found, file):
                raise Unsupported(f"this kernel has no such limit: {file} stays as it is", where=f"{_AT}.{at}")


def _current(found: Places, file: str) -> int:
    from veloci.kernel.cgroupfs import read

    try:
        return int(read(found["memory"], file))
    except (KeyError, OSError):
        return _UNLIMITED


def _network(found: Places, network: Network) -> None:
    if network.class_id is not None:
        _set(found, "net_cls", "net_cls.classid", network.class_id, "network.classID")
    for index, each in enumerate(network.priorities):
        _set(found, "net_prio", "net_prio.ifpriomap", f"{each.name} {each.priority}", f"network.priorities[{index}]")


def _cpu(found: Places, cpu: Cpu) -> None:
    if cpu.shares:
        _set(found, "cpu", "cpu.shares", cpu.shares, "cpu.shares")
    period, quota = ("cpu.cfs_period_us", cpu.period, "cpu.period"), ("cpu.cfs_quota_us", cpu.quota, "cpu.quota")
    _share(found, period, quota)
    if cpu.burst is not None:
        _set(found, "cpu", "cpu.cfs_burst_us", cpu.burst, "cpu.burst")
    if cpu.idle is not None:
        _set(found, "cpu", "cpu.idle", cpu.idle, "cpu.idle")
    period = ("cpu.rt_period_us", cpu.realtime_period, "cpu.realtimePeriod")
    _share(found, period, ("cpu.rt_runtime_us", cpu.realtime_runtime, "cpu.realtimeRuntime"))
    for file, text, name in (("cpuset.cpus", cpu.cpus, "cpus"), ("cpuset.mems", cpu.mems, "mems")):
        if text:
            _set(found, "cpuset", file, text, f"cpu.{name}")


def _share(found: Places, *parts: tuple[str, int | None, str]) -> None:
    """A period and what may be used in it, whose quotient may at no time exceed 1, or what the group above has.

    parts: of each the file, the value, the field.
    """
    wanted = [each for each in parts if each[1]]
    try:
        for file, value, at in wanted:
            _set(found, "cpu", file, value, at)
    except HostError as error:
        if len(wanted) < 2 or error.errno != EINVAL:
            raise
        for file, value, at in reversed(wanted):
            _set(found, "cpu", file, value, at)


def _block_io(found: Places, block: BlockIo) -> None:
    if block.weight:
        plain = exists(f"{found.get('blkio')}/blkio.weight")
        _set(found, "blkio", "blkio.weight" if plain else "blkio.bfq.weight", block.weight, "blockIO.weight")
    if block.leaf_weight:
        _set(found, "blkio", "blkio.leaf_weight", block.leaf_weight, "blockIO.leafWeight")
    for index, device in enumerate(block.weight_device):
        at, numbers = f"blockIO.weightDevice[{index}]", f"{device.major}:{device.minor}"
        plain = exists(f"{found.get('blkio')}/blkio.weight_device")
        if device.weight:
            file = "blkio.weight_device" if plain else "blkio.bfq.weight_device"
            _set(found, "blkio", file, f"{numbers} {device.weight}", f"{at}.weight")
        if device.leaf_weight:
            _set(found, "blkio", "blkio.leaf_weight_device", f"{numbers} {device.leaf_weight}", f"{at}.leafWeight")
    for file, limits, name in (
        ("read_bps", block.throttle_read_bps_device, "throttleReadBpsDevice"),
        ("write_bps", block.throttle_write_bps_device, "throttleWriteBpsDevice"),
        ("read_iops", block.throttle_read_iops_device, "throttleReadIOPSDevice"),
        ("write_iops", block.throttle_write_iops_device, "throttleWriteIOPSDevice"),
    ):
        for index, limit in enumerate(limits):
            value = f"{limit.major}:{limit.minor} {limit.rate}"
            _set(found, "blkio", f"blkio.throttle.{file}_device", value, f"blockIO.{name}[{index}]")

"""Resources as version 2 control files.

https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

from veloci.errors import HostError, InvalidInput, Unsupported
from veloci.kernel.cgroupfs import exists, read, write
from veloci.runtime.cgroup.devices import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.spec.runtime import BlockIo, Cpu, Memory, Resources

    Setting = tuple[str, object, str]  # file, value, place below linux.resources

_AT = "config.json: $.linux.resources"


def enable(directory: str) -> None:
    """Hand every controller down from the hierarchy's root to the group `directory`. Raises HostError."""
    above = []
    while exists(f"{(directory := directory.rpartition('/')[0])}/cgroup.subtree_control"):
        above.append(directory)
    for group in reversed(above):
        try:
            wanted = set(read(group, "cgroup.controllers").split()) - set(read(group, "cgroup.subtree_control").split())
        except OSError as error:
            raise HostError(f"cgroup {group}", error) from error
        for controller in sorted(wanted):
            try:
                write(group, "cgroup.subtree_control", f"+{controller}")
            except OSError:
                continue  # busy or not delegated: a limit that needs it will say so


def apply(directory: str, resources: Resources, *, devices: bool) -> None:
    """Write what `resources` sets, and with `devices` attach its device program.

    Raises HostError, InvalidInput, and Unsupported for what only version 1 has.
    """
    for file, value, at in settings(directory, resources):
        try:
            write(directory, file, str(value))
        except OSError as error:
            raise HostError(f"set {file} to {value}", error, where=f"{_AT}.{at}") from error
    if devices:
        found = rules(resources)
        if found != [(True, "a", None, None, "rwm")]:
            from veloci.kernel.bpf import restrict_devices

            try:
                restrict_devices(directory, found)
            except OSError as error:
                raise HostError("attach the device program", error, where=f"{_AT}.devices") from error


def weight(shares: int) -> int:
    """The weight, 1 to 10000, that stands for version 1's shares, 2 to 262144; as runc 1.1."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def settings(directory: str, resources: Resources) -> Iterator[Setting]:
    """What `resources` sets, each as a file of `directory`, its value, its place. Raises InvalidInput, Unsupported."""
    _refuse(resources)
    if resources.pids and resources.pids.limit is not None:
        yield "pids.max", _or_max(resources.pids.limit or 1), "pids.limit"  # as in v1
    if resources.memory:
        yield from _memory(directory, resources.memory)
    if resources.cpu:
        yield from _cpu(directory, resources.cpu)
    if resources.block_io:
        yield from _block_io(directory, resources.block_io)
    for index, huge in enumerate(resources.hugepage_limits):
        yield f"hugetlb.{huge.page_size}.max", huge.limit, f"hugepageLimits[{index}]"
        if exists(f"{directory}/hugetlb.{huge.page_size}.rsvd.max"):
            yield f"hugetlb.{huge.page_size}.rsvd.max", huge.limit, f"hugepageLimits[{index}]"
    for device, limits in resources.rdma.items():
        handles = "max" if limits.hca_handles is None else limits.hca_handles
        objects = "max" if limits.hca_objects is None else limits.hca_objects
        yield "rdma.max", f"{device} hca_handle={handles} hca_object={objects}", f"rdma.{device}"
    for file, text in resources.unified.items():
        if "/" in file:
            raise InvalidInput(f"{file!r} is not a file name", where=f"{_AT}.unified")
        yield file, text, f"unified.{file}"


def _or_max(value: int) -> object:
    return "max" if value < 0 else value


def _refuse(resources: Resources) -> None:
    """Name what version 2 has no file for."""
    memory, cpu, block = resources.memory, resources.cpu, resources.block_io
    for value, place in (
        (memory and memory.swappiness is not None, "memory.swappiness"),
        (memory and memory.disable_oom_killer, "memory.disableOOMKiller"),
        (memory and (memory.kernel or 0) > 0, "memory.kernel"),
        (memory and (memory.kernel_tcp or 0) > 0, "memory.kernelTCP"),
        (memory and memory.use_hierarchy is False, "memory.useHierarchy"),
        (cpu and cpu.realtime_runtime, "cpu.realtimeRuntime"),
        (cpu and cpu.realtime_period, "cpu.realtimePeriod"),
        (block and block.leaf_weight, "blockIO.leafWeight"),
        (block and any(device.leaf_weight for device in block.weight_device), "blockIO.weightDevice"),
        (resources.network, "network"),
    ):
        if value:
            raise Unsupported("cgroup version 2 has nothing like it", where=f"{_AT}.{place}")


def _memory(directory: str, memory: Memory) -> Iterator[Setting]:
    if memory.check_before_update and memory.limit and memory.limit > 0 and exists(f"{directory}/memory.current"):
        used = int(read(directory, "memory.current"))
        if used > memory.limit:
            raise InvalidInput(f"{memory.limit} is less than the {used} bytes in use", where=f"{_AT}.memory.limit")
    if memory.swap:
        if memory.swap > 0 and not memory.limit:
            raise InvalidInput("needs memory.limit, of which it is the sum", where=f"{_AT}.memory.swap")
        only = memory.swap if memory.swap < 0 else memory.swap - (memory.limit or 0)
        if memory.swap > 0 > only:
            raise InvalidInput("is below memory.limit", where=f"{_AT}.memory.swap")
        yield "memory.swap.max", _or_max(only), "memory.swap"
    if memory.limit:
        yield "memory.max", _or_max(memory.limit), "memory.limit"
    if memory.reservation:
        yield "memory.low", _or_max(memory.reservation), "memory.reservation"


def _cpu(directory: str, cpu: Cpu) -> Iterator[Setting]:
    if cpu.idle is not None:
        yield "cpu.idle", cpu.idle, "cpu.idle"
    if cpu.shares:
        yield "cpu.weight", weight(cpu.shares), "cpu.shares"
    if cpu.quota or cpu.period:
        quota, period = read(directory, "cpu.max").split() if exists(f"{directory}/cpu.max") else ("max", "100000")
        if cpu.quota:
            quota = "max" if cpu.quota < 0 else str(cpu.quota)
        yield "cpu.max", f"{quota} {cpu.period or period}", "cpu.quota" if cpu.quota else "cpu.period"
    if cpu.burst is not None:
        yield "cpu.max.burst", cpu.burst, "cpu.burst"
    if cpu.cpus:
        yield "cpuset.cpus", cpu.cpus, "cpu.cpus"
    if cpu.mems:
        yield "cpuset.mems", cpu.mems, "cpu.mems"


def _block_io(directory: str, block: BlockIo) -> Iterator[Setting]:
    if block.weight:
        if exists(f"{directory}/io.bfq.weight"):
            yield "io.bfq.weight", block.weight, "blockIO.weight"
        else:
            yield "io.weight", 1 + (block.weight - 10) * 9999 // 990, "blockIO.weight"
    for index, device in enumerate(block.weight_device):
        if device.weight:
            bfq = exists(f"{directory}/io.bfq.weight")
            value = device.weight if bfq else 1 + (device.weight - 10) * 9999 // 990
            file = "io.bfq.weight" if bfq else "io.weight"
            yield file, f"{device.major}:{device.minor} {value}", f"blockIO.weightDevice[{index}].weight"
    for key, limits, name in (
        ("rbps", block.throttle_read_bps_device, "throttleReadBpsDevice"),
        ("wbps", block.throttle_write_bps_device, "throttleWriteBpsDevice"),
        ("riops", block.throttle_read_iops_device, "throttleReadIOPSDevice"),
        ("wiops", block.throttle_write_iops_device, "throttleWriteIOPSDevice"),
    ):
        for index, limit in enumerate(limits):
            yield "io.max", f"{limit.major}:{limit.minor} {key}={limit.rate}", f"blockIO.{name}[{index}]"

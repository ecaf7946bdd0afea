"""Resources as properties of a systemd unit; the control files are then set as well, for systemd knows but some.

What systemd is not told it would undo when it next looks at the unit — systemd.resource-control(5).
"""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.runtime.cgroup.devices import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from veloci.kernel.bpf import DeviceRule
    from veloci.spec.runtime import Cpu, Memory, Resources

    Property = tuple[str, tuple[str, object]]  # its name; its D-Bus signature and value

_INFINITY = 2**64 - 1
_PERIOD = 100_000  # microseconds, the kernel's own
_SIZES = {
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.max": "MemoryMax",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def properties(resources: Resources, *, unified: bool, devices: bool, version: int) -> list[Property]:
    """The properties of `resources`. unified: cgroup version 2 is alone. devices: its rules, too. version: systemd's.

    Raises InvalidInput with the place of a list or a size that is none.
    """
    found = list(_devices(rules(resources))) if devices else []
    if resources.memory:
        found += _memory(resources.memory, unified=unified)
    if resources.cpu:
        found += _cpu(resources.cpu, unified=unified, version=version)
    if resources.block_io and resources.block_io.weight and not unified:
        found.append(("BlockIOWeight", ("t", resources.block_io.weight)))
    if resources.pids and resources.pids.limit is not None:
        found.append(("TasksMax", ("t", _or_infinity(resources.pids.limit or 1))))
    return found + list(_unified(resources.unified, version))


def _or_infinity(value: int | None) -> int:
    return _INFINITY if value is None or value < 0 else value


def _memory(memory: Memory, *, unified: bool) -> Iterator[Property]:
    if memory.limit:
        yield "MemoryMax" if unified else "MemoryLimit", ("t", _or_infinity(memory.limit))
    if unified and memory.reservation:
        yield "MemoryLow", ("t", _or_infinity(memory.reservation))
    if unified and memory.swap and (memory.swap < 0 or memory.swap >= (memory.limit or 0)):
        only = memory.swap if memory.swap < 0 else memory.swap - (memory.limit or 0)
        yield "MemorySwapMax", ("t", _or_infinity(only))


def _cpu(cpu: Cpu, *, unified: bool, version: int) -> Iterator[Property]:
    if cpu.shares and unified:
        from veloci.runtime.cgroup.v2 import weight

        yield "CPUWeight", ("t", weight(cpu.shares))
    elif cpu.shares:
        yield "CPUShares", ("t", cpu.shares)
    yield from _bandwidth(cpu.quota or 0, cpu.period or 0, version)
    if version >= 244:
        for name, text, field in (("AllowedCPUs", cpu.cpus, "cpus"), ("AllowedMemoryNodes", cpu.mems, "mems")):
            if text:
                yield name, ("ay", _bits(text, f"config.json: $.linux.resources.cpu.{field}"))


def _bandwidth(quota: int, period: int, version: int) -> Iterator[Property]:
    if period and version >= 242:
        yield "CPUQuotaPeriodUSec", ("t", period)
    if quota or period:
        second = quota * 1_000_000 // (period or _PERIOD)
        # systemd keeps whole percents; rounded down it would take time away.
        yield "CPUQuotaPerSecUSec", ("t", -(-second // 10_000) * 10_000 if quota > 0 else _INFINITY)


def _bits(text: str, where: str) -> bytes:
    """A list of numbers ("0-3,6") as a mask, the lowest first."""
    from veloci.runtime.identity import processors

    mask = sum(1 << number for number in processors(text, where))
    return mask.to_bytes((mask.bit_length() + 7) // 8 or 1, "little")


def _unified(files: Mapping[str, str], version: int) -> Iterator[Property]:
    for file, text in files.items():
        where = f"config.json: $.linux.resources.unified.{file}"
        words = text.split()
        if file in _SETS and text.strip() and version >= 244:
            yield _SETS[file], ("ay", _bits(text.strip(), where))
        elif file in _SIZES:
            yield _SIZES[file], ("t", _number(text.strip(), where))
        elif file == "cpu.max" and words:
            quota = -1 if words[0] == "max" else _number(words[0], where)
            yield from _bandwidth(quota, _number(words[1], where) if len(words) > 1 else _PERIOD, version)


def _number(text: str, where: str) -> int:
    if text == "max":
        return _INFINITY
    if not (text.isascii() and text.isdecimal()):
        raise InvalidInput(f"{text!r} is not a number", where=where)
    return int(text)


def _devices(found: list[DeviceRule]) -> Iterator[Property]:
    """A list of what is allowed. What cannot be said so is left to the rules that we set ourselves."""
    allowed: dict[tuple[str, int | None, int | None], str] = {}
    for allow, kind, major, minor, access in found:
        if kind == "a":
            allowed.clear()
            if allow:
                yield "DevicePolicy", ("s", "auto")
                yield "DeviceAllow", ("a(ss)", [])
                return
            continue
        before = allowed.pop((kind, major, minor), "")
        letters = set(before) | set(access) if allow else set(before) - set(access)
        if letters:
            allowed[kind, major, minor] = "".join(letter for letter in "rwm" if letter in letters)
    named = ((_device(*numbers), access) for numbers, access in allowed.items())
    yield "DevicePolicy", ("s", "strict")
    yield "DeviceAllow", ("a(ss)", [])  # the list that follows is added to what there is
    yield "DeviceAllow", ("a(ss)", [(name, access) for name, access in named if name])


def _device(kind: str, major: int | None, minor: int | None) -> str:
    """A device as systemd names it: by its numbers or by its driver; "" for what it has no name for."""
    word = "char" if kind == "c" else "block"
    if major is not None and minor is not None:
        return f"/dev/{word}/{major}:{minor}"
    if major is None:
        return f"{word}-*" if minor is None else ""
    driver = _drivers(kind).get(str(major))
    return f"{word}-{driver}" if driver else ""


def _drivers(kind: str) -> dict[str, str]:
    """Major number -> name, of /proc/devices — proc(5)."""
    with open("/proc/devices") as file:
        characters, _, blocks = file.read().partition("Block devices:")
    lines = (line.split() for line in (characters if kind == "c" else blocks).splitlines())
    found: dict[str, str] = {}
    for words in lines:
        if len(words) == 2 and words[0].isdecimal():
            found.setdefault(words[0], words[1])
    return found

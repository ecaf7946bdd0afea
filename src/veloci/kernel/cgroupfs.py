"""Control group file systems: where they are, and device programs for version 2 — cgroups(7), bpf(2).

https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller
"""

from __future__ import annotations

import posix as os

from veloci.kernel.call import Memory, system_call, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # allow, type (a, b, c), major or None, minor or None, access (of r, w, m)
    DeviceRule = tuple[bool, str, int | None, int | None, str]

_PROG_LOAD, _PROG_ATTACH, _PROG_TYPE_CGROUP_DEVICE, _CGROUP_DEVICE, _ALLOW_MULTI = 5, 8, 15, 6, 2
_TYPES, _ACCESS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_DEV_*, BPF_DEVCG_ACC_*

_bpf = system_call("bpf", 321, 280)


class Hierarchy:
    """A mounted cgroup hierarchy. controllers: of version 1 ("name=systemd" among them); () for version 2."""

    def __init__(self, mount: str, own: str, controllers: tuple[str, ...]) -> None:
        self.mount = mount  # where it is mounted
        self.own = own  # this process's group in it, as a directory
        self.controllers = controllers

    @property
    def name(self) -> str:
        """The controllers, separated by commas; "" for version 2."""
        return ",".join(self.controllers)


def hierarchies() -> list[Hierarchy]:
    """The hierarchies that this process can see, from /proc/self/mountinfo and /proc/self/cgroup."""
    with open("/proc/self/cgroup") as file:
        groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    found: dict[str, Hierarchy] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            if " - cgroup" not in line:
                continue
            fields, _, tail = line.partition(" - ")
            kind, _, options = tail.split()[:3]
            if kind == "cgroup2":
                name = ""
            else:
                offered = options.split(",")
                name = next((name for name in groups if name and set(name.split(",")) <= set(offered)), "-")
            if name not in groups or name in found:
                continue
            root, mount = fields.split()[3:5]
            own = groups[name]
            if root != "/":
                own = own.removeprefix(root) if own == root or own.startswith(root + "/") else "/"
            found[name] = Hierarchy(mount, (mount + own).rstrip("/"), tuple(filter(None, name.split(","))))
    return list(found.values())


def write(directory: str, file: str, value: str) -> None:
    """Write `value` to a control file. Raises OSError with the file's whole name."""
    descriptor = os.open(f"{directory}/{file}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        error.filename = f"{directory}/{file}"
        raise
    finally:
        os.close(descriptor)


def read(directory: str, file: str) -> str:
    """What a control file says, without surrounding space. Raises OSError."""
    descriptor = os.open(f"{directory}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
        return b"".join(parts).decode().strip()
    finally:
        os.close(descriptor)


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """BPF code that answers as `rules` do: the last that matches decides; none: denied.

    An allowing rule must hold all the access that is asked for, a denying one any of it.
    """
    from struct import pack

    code = [
        pack("<BBhi", 0x61, 0x12, 0, 0),  # r2 = ctx->access_type
        pack("<BBhi", 0xBC, 0x23, 0, 0),  # w3 = w2
        pack("<BBhi", 0x54, 0x02, 0, 0xFFFF),  # w2 &= 0xffff: the type
        pack("<BBhi", 0x74, 0x03, 0, 16),  # w3 >>= 16: the access
        pack("<BBhi", 0x61, 0x14, 4, 0),  # r4 = ctx->major
        pack("<BBhi", 0x61, 0x15, 8, 0),  # r5 = ctx->minor
    ]
    for allow, kind, major, minor, access in reversed(rules):
        bits = sum(_ACCESS[letter] for letter in set(access))
        block = [pack("<BBhi", 0xB7, 0x00, 0, int(allow)), pack("<BBhi", 0x95, 0, 0, 0)]  # r0 = allow; exit
        for register, number in ((5, minor), (4, major)):
            if number is not None:
                block.insert(0, pack("<BBhi", 0x55, register, len(block), number))  # if rX != number: next rule
        if bits != 7:
            asked = [pack("<BBhi", 0xBC, 0x31, 0, 0), pack("<BBhi", 0x54, 0x01, 0, bits)]  # w1 = w3 & bits
            if allow:
                asked.append(pack("<BBhi", 0x5D, 0x31, len(block), 0))  # if r1 != r3: next rule
            else:
                asked.append(pack("<BBhi", 0x15, 0x01, len(block), 0))  # if r1 == 0: next rule
            block = asked + block
        if kind != "a":
            block.insert(0, pack("<BBhi", 0x55, 0x02, len(block), _TYPES[kind]))  # if r2 != type: next rule
        code += block
    return b"".join([*code, pack("<BBhi", 0xB7, 0x00, 0, 0), pack("<BBhi", 0x95, 0, 0, 0)])


def restrict_devices(directory: str, rules: Sequence[DeviceRule]) -> None:
    """Attach a device program to the version 2 group `directory`; it lasts as long as the group. Raises OSError."""
    code = device_program(rules)
    instructions, license = Memory(code), Memory(b"Apache-2.0\0")
    load = words(4, _PROG_TYPE_CGROUP_DEVICE, len(code) // 8) + words(8, instructions.address, license.address, 0, 0)
    program = _bpf(_PROG_LOAD, load, len(load))
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        attach = words(4, group, program, _CGROUP_DEVICE, _ALLOW_MULTI)
        _bpf(_PROG_ATTACH, attach, len(attach))
    finally:
        os.close(group)
        os.close(program)

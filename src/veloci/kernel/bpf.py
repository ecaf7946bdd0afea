"""Device programs for control groups of version 2 — bpf(2).

https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller
"""

from __future__ import annotations

import posix
from struct import pack

from veloci.kernel.call import Memory, system_call, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # allow, type (a, b, c), major or None, minor or None, access (of r, w, m)
    DeviceRule = tuple[bool, str, int | None, int | None, str]

_PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY, _MOST = 9, 13, 16, 64
_PROG_LOAD, _PROG_ATTACH, _PROG_TYPE_CGROUP_DEVICE, _CGROUP_DEVICE, _ALLOW_MULTI = 5, 8, 15, 6, 2
_TYPES, _ACCESS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_DEV_*, BPF_DEVCG_ACC_*

_bpf = system_call("bpf", 321, 280)


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """BPF code that answers as `rules` do: the last that matches decides; none: denied.

    An allowing rule must hold all the access that is asked for, a denying one any of it.
    """
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
        if len(block) == 2:  # it matches always; the kernel refuses code that nothing reaches
            return b"".join(code)
    return b"".join([*code, pack("<BBhi", 0xB7, 0x00, 0, 0), pack("<BBhi", 0x95, 0, 0, 0)])


def restrict_devices(directory: str, rules: Sequence[DeviceRule]) -> None:
    """Attach a device program to the version 2 group `directory`, in place of those there. Raises OSError.

    It lasts as long as the group. There is no moment without one.
    """
    code = device_program(rules)
    instructions, license = Memory(code), Memory(b"Apache-2.0\0")
    load = words(4, _PROG_TYPE_CGROUP_DEVICE, len(code) // 8) + words(8, instructions.address, license.address, 0, 0)
    program = _bpf(_PROG_LOAD, load, len(load))
    group = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        before = _attached(group)
        attach = words(4, group, program, _CGROUP_DEVICE, _ALLOW_MULTI)
        _bpf(_PROG_ATTACH, attach, len(attach))
        for number in before:
            _detach(group, number)
    finally:
        posix.close(group)
        posix.close(program)


def _attached(group: int) -> list[int]:
    """The IDs of the device programs that are attached to a group itself."""
    numbers = Memory(4 * _MOST)
    query = Memory(words(4, group, _CGROUP_DEVICE, 0, 0) + words(8, numbers.address) + words(4, _MOST, 0))
    _bpf(_PROG_QUERY, query.buffer, 32)
    return numbers.numbers(4)[: query.numbers(4)[6]]


def _detach(group: int, number: int) -> None:
    asked = words(4, number, 0, 0)
    program = _bpf(_PROG_GET_FD_BY_ID, asked, len(asked))
    try:
        detach = words(4, group, program, _CGROUP_DEVICE, 0)
        _bpf(_PROG_DETACH, detach, len(detach))
    finally:
        posix.close(program)

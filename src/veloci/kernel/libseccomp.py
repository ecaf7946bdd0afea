"""Seccomp profiles to BPF by libseccomp, which knows the calls' numbers on every architecture — seccomp_init(3).

It is needed when a profile is first seen: `compile` takes plain values, as config.json has them, so
that its result can be kept.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p
from errno import ENOSYS
from struct import pack

from veloci.kernel.seccomp import ACTIONS, OPERATORS, action

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    Argument = tuple[int, int, int, str]  # index, value, second value, operator
    Rule = tuple[tuple[str, ...], str, int | None, tuple[Argument, ...]]  # names, action, errno, arguments

_PASSING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_CTL_NNP = 3  # SCMP_FLTATR_CTL_NNP


class _Comparison(Structure):  # struct scmp_arg_cmp
    _fields_ = (("index", c_uint), ("operator", c_int), ("value", c_uint64), ("value_two", c_uint64))


def compile(default: str, default_errno: int | None, architectures: Iterable[str], rules: Iterable[Rule]) -> bytes:
    """The filter's BPF. Calls that this libseccomp does not know are left out, as the specification allows.

    A call newer than every call the profile names answers ENOSYS, as in runc, so that libc falls back.
    Raises OSError if libseccomp is missing or refuses a rule.
    """
    library = _library()
    context = library.seccomp_init(action(default, default_errno))
    if not context:
        raise OSError(22, "seccomp_init: Invalid argument")
    try:
        _check(library.seccomp_attr_set(context, _CTL_NNP, 0), "seccomp_attr_set")
        tokens = [library.seccomp_arch_native()]
        for name in architectures:
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            if token and token not in tokens:
                _check(library.seccomp_arch_add(context, token), f"seccomp_arch_add {name}")
                tokens.append(token)
        names: set[str] = set()
        for rule_names, rule_action, errno, arguments in rules:
            names.update(rule_names)
            if action(rule_action, errno) != action(default, default_errno):
                _add(library, context, rule_names, action(rule_action, errno), arguments)
        bpf = _exported(library, context)
    finally:
        library.seccomp_release(context)
    return bpf if default in _PASSING else _unknown_is_enosys(library, tokens, names) + bpf


def _add(library: Any, context: Any, names: Iterable[str], value: int, arguments: Sequence[Argument]) -> None:
    compared = [_Comparison(index, OPERATORS[operator], one, two) for index, one, two, operator in arguments]
    # libseccomp takes one comparison an argument: further ones are rules of their own, either of them enough.
    split = len({comparison.index for comparison in compared}) < len(compared)
    sets = [[comparison] for comparison in compared] if split else [compared]
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:  # __NR_SCMP_ERROR
            continue
        for some in sets:
            array = (_Comparison * len(some))(*some)
            result = library.seccomp_rule_add_array(context, value, number, len(some), array)
            _check(result, f"seccomp_rule_add {name}")


def _unknown_is_enosys(library: Any, tokens: Iterable[int], names: Iterable[str]) -> bytes:
    """BPF to run first: ENOSYS for a call beyond the highest that the profile names."""
    highest: list[tuple[int, int]] = []
    for token in tokens:
        numbers = [library.seccomp_syscall_resolve_name_arch(token, name.encode()) for name in names]
        if numbers and token & 0xC0000000 != 0x40000000:  # x32 shares x86-64's architecture and has a bit of its own
            highest.append((token, max(numbers)))
    code = pack("<HBBI", 0x20, 0, 0, 4)  # load seccomp_data.arch
    for left, (token, number) in zip(range(len(highest) - 1, -1, -1), highest, strict=True):
        after = left * 5
        code += pack("<HBBI", 0x15, 0, 4, token)  # this architecture, or on to the next
        code += pack("<HBBI", 0x20, 0, 0, 0)  # load seccomp_data.nr
        code += pack("<HBBI", 0x35, after + 2, 0, 0x40000000)  # x32: to the profile
        code += pack("<HBBI", 0x25, 0, after + 1, number & 0xFFFFFFFF)
        code += pack("<HBBI", 0x06, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS)
    return code


def _exported(library: Any, context: Any) -> bytes:
    descriptor = os.memfd_create("bpf", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, descriptor), "seccomp_export_bpf")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def _check(result: int, doing: str) -> None:
    if result < 0:
        raise OSError(-result, f"{doing}: {os.strerror(-result)}")


def version() -> str:
    """The library's version, as 2.5.4. Raises OSError if it is missing."""
    function = _library().seccomp_version
    function.restype = POINTER(c_uint * 3)  # struct scmp_version
    return ".".join(map(str, function().contents))


def _library() -> Any:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = c_void_p
    library.seccomp_init.argtypes = (c_uint32,)
    library.seccomp_release.argtypes = (c_void_p,)
    library.seccomp_attr_set.argtypes = (c_void_p, c_int, c_uint32)
    library.seccomp_arch_native.restype = c_uint32
    library.seccomp_arch_resolve_name.restype = c_uint32
    library.seccomp_arch_add.argtypes = (c_void_p, c_uint32)
    library.seccomp_syscall_resolve_name_arch.argtypes = (c_uint32, c_char_p)
    library.seccomp_rule_add_array.argtypes = (c_void_p, c_uint32, c_int, c_uint, c_void_p)
    library.seccomp_export_bpf.argtypes = (c_void_p, c_int)
    return library

"""Seccomp profiles of config.json as BPF, kept by the profile's digest below the runtime's root.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config-linux.md#seccomp
"""

from __future__ import annotations

import posix

from veloci.errors import HostError, InvalidInput, Unsupported
from veloci.kernel.call import MACHINE
from veloci.spec.digest import of
from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.kernel.libseccomp import Rule
    from veloci.spec.runtime import Seccomp

_AT = "config.json: $.linux.seccomp"
_NOTIFY = "SCMP_ACT_NOTIFY"
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_DEFAULT = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)  # nothing is to be slower because it has a filter
_FORM = 2  # of the BPF we make; a change makes what is kept void


def compiled(profile: Seccomp, root: str) -> tuple[bytes, int]:
    """The filter and its SECCOMP_FILTER_FLAG_* bits. Raises InvalidInput, Unsupported, HostError."""
    bits = flags(profile)
    key = dumps({"form": _FORM, "machine": MACHINE, "profile": profile.plain()})
    kept = f"{root}/.seccomp/{of(key).partition(':')[2]}.bpf"
    try:
        with open(kept, "rb") as file:
            bpf = file.read()
        if bpf and len(bpf) % 8 == 0:
            return bpf, bits
    except FileNotFoundError:
        pass
    bpf = _compile(profile)
    from os import makedirs

    makedirs(f"{root}/.seccomp", 0o700, exist_ok=True)
    temporary = f"{kept}.{posix.getpid()}"
    with open(temporary, "wb", opener=lambda path, how: posix.open(path, how, 0o600)) as file:
        file.write(bpf)
    posix.rename(temporary, kept)
    return bpf, bits


def listens(profile: Seccomp | None) -> bool:
    """Whether somebody outside is to answer for calls. Raises InvalidInput for what cannot be asked."""
    if profile is None:
        return False
    if profile.default_action == _NOTIFY:
        raise InvalidInput(f"{_NOTIFY} cannot be the default action", where=f"{_AT}.defaultAction")
    found = False
    for index, rule in enumerate(profile.syscalls):
        if rule.action == _NOTIFY:
            found = True
            if "write" in rule.names:  # with which the process says that it asks
                where = f"{_AT}.syscalls[{index}].names"
                raise InvalidInput(f"{_NOTIFY} cannot be used for the write syscall", where=where)
    if found and not profile.listener_path:
        raise InvalidInput(f"{_NOTIFY} needs listenerPath", where=f"{_AT}.listenerPath")
    if profile.listener_metadata and not profile.listener_path:
        raise InvalidInput("needs listenerPath", where=f"{_AT}.listenerMetadata")
    return found


def flags(profile: Seccomp) -> int:
    """The SECCOMP_FILTER_FLAG_* bits that the filter is loaded with; SPEC_ALLOW, as runC, where none are given.

    Raises InvalidInput, Unsupported.
    """
    from veloci.kernel.seccomp import FLAGS, NEW_LISTENER

    bits = 0
    for index, name in enumerate(_DEFAULT if profile.flags is None else profile.flags):
        if name not in FLAGS:
            raise Unsupported(f"{name!r} is not supported", where=f"{_AT}.flags[{index}]")
        bits |= FLAGS[name]
    if listens(profile):
        bits |= NEW_LISTENER
    elif bits & FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]:
        raise InvalidInput(f"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs {_NOTIFY}", where=f"{_AT}.flags")
    return bits & ~1  # one thread is in step with itself


def _compile(profile: Seccomp) -> bytes:
    from veloci.kernel import libseccomp, seccomp

    _known(profile.default_action, seccomp.ACTIONS, "defaultAction")
    _errno(profile.default_action, profile.default_errno_ret, "defaultErrnoRet")
    for index, name in enumerate(profile.architectures):
        if name not in seccomp.ARCHITECTURES:
            raise InvalidInput(f"there is no architecture {name!r}", where=f"{_AT}.architectures[{index}]")
    rules: list[Rule] = []
    for index, rule in enumerate(profile.syscalls):
        _known(rule.action, seccomp.ACTIONS, f"syscalls[{index}].action")
        _errno(rule.action, rule.errno_ret, f"syscalls[{index}].errnoRet")
        if not rule.names:
            raise InvalidInput("needs a name", where=f"{_AT}.syscalls[{index}].names")
        for number, argument in enumerate(rule.args):
            if argument.index > 5:
                where = f"{_AT}.syscalls[{index}].args[{number}].index"
                raise InvalidInput(f"a system call has the arguments 0 to 5, not {argument.index}", where=where)
            _known(argument.op, seccomp.OPERATORS, f"syscalls[{index}].args[{number}].op")
        arguments = tuple((a.index, a.value, a.value_two, a.op) for a in rule.args)
        rules.append((rule.names, rule.action, rule.errno_ret, arguments))
    try:
        return libseccomp.compile(profile.default_action, profile.default_errno_ret, profile.architectures, rules)
    except OSError as error:
        if error.errno is None:
            raise Unsupported("needs libseccomp.so.2", where=_AT, hint="apt install libseccomp2") from None
        raise HostError("compile the seccomp profile", error, where=_AT) from error


def _errno(action: str, number: int | None, place: str) -> None:
    """Refuse an error number for an action that gives none — config-linux.md#seccomp."""
    if number is not None and action not in _WITH_ERRNO:
        raise InvalidInput(f"{action} gives no error number", where=f"{_AT}.{place}")


def _known(name: str, table: dict[str, int], place: str) -> None:
    if name not in table:
        raise InvalidInput(f"expected one of {', '.join(table)}, got {name!r}", where=f"{_AT}.{place}")

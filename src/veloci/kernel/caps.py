"""Capabilities of this process — capabilities(7)."""

from __future__ import annotations

from veloci.kernel.call import Memory, system_call, words
from veloci.kernel.process import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    prctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# include/uapi/linux/capability.h, in the order of their numbers
NAMES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP "
    "CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER "
    "CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE "
    "CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL "
    "CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ "
    "CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
).split()
_NUMBERS = {name: number for number, name in enumerate(NAMES)}
SYS_ADMIN = _NUMBERS["CAP_SYS_ADMIN"]
_VERSION_3 = 0x20080522
_HEADER = words(4, _VERSION_3, 0)  # struct __user_cap_header_struct: of this thread

_capset = system_call("capset", 126, 91)
_capget = system_call("capget", 125, 90)


def mask(names: Iterable[str]) -> int:
    """The capabilities `names` ("CAP_KILL") as bits. Names that this program does not know are left out."""
    bits = 0
    for name in names:
        if name in _NUMBERS:
            bits |= 1 << _NUMBERS[name]
    return bits


def current() -> tuple[int, int, int]:
    """This thread's effective, permitted and inheritable sets, as bits — capget(2)."""
    data = Memory(24)  # two of (effective, permitted, inheritable), the low 32 bits first
    _capget(Memory(_HEADER).buffer, data.buffer)
    numbers = data.numbers(4)
    low, high = numbers[:3], numbers[3:]
    effective, permitted, inheritable = (a | b << 32 for a, b in zip(low, high, strict=True))
    return effective, permitted, inheritable


def set(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's capability sets, as bits — capset(2)."""
    sets = effective, permitted, inheritable
    data = words(4, *(bits & 0xFFFFFFFF for bits in sets), *(bits >> 32 for bits in sets))
    _capset(Memory(_HEADER).buffer, data)


def bound(keep: int) -> None:
    """Drop all capabilities but `keep` from the bounding set, for good — prctl(2), PR_CAPBSET_DROP."""
    number = 0
    while True:
        if not keep >> number & 1:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:
                if number < 64 and _known(number):
                    raise
                return  # past the last one this kernel has
        elif not _known(number):
            return
        number += 1


def bounding() -> int:
    """The bounding set, as bits — prctl(2), PR_CAPBSET_READ."""
    return sum(1 << number for number in range(len(NAMES)) if _known(number) and prctl(PR_CAPBSET_READ, number))


def _known(number: int) -> bool:
    try:
        prctl(PR_CAPBSET_READ, number)
    except OSError:
        return False
    return True


def ambient(bits: int) -> None:
    """Make the ambient set `bits` — prctl(2), PR_CAP_AMBIENT. Those not permitted and inheritable are left out."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            try:
                prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
            except PermissionError:
                continue

"""Seccomp filters: config.json's words in the kernel's numbers, and loading BPF — seccomp(2).

What makes a profile's rules BPF is veloci.kernel.libseccomp.
"""

from __future__ import annotations

from errno import EPERM

from veloci.kernel.call import Memory, system_call, words

ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x30000,
    "SCMP_ACT_ERRNO": 0x50000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER
ARCHITECTURES = tuple(
    f"SCMP_ARCH_{name}"
    for name in (
        "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X "
        "PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
    ).split()
)
_SET_MODE_FILTER = 1

_seccomp = system_call("seccomp", 317, 277)


def load(bpf: bytes, flags: int = 0) -> None:
    """Filter this process's system calls from now on — seccomp(2). Needs no_new_privs or CAP_SYS_ADMIN.

    With NEW_LISTENER in `flags` it has a new descriptor then, close-on-exec, which answers for the filter.
    """
    code = Memory(bpf)
    _seccomp(_SET_MODE_FILTER, flags, words(8, len(bpf) // 8, code.address))  # struct sock_fprog


def action(name: str, errno: int | None) -> int:
    """The kernel's value of an action of config.json; `errno` for ERRNO and TRACE, EPERM by default."""
    with_errno = name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
    return ACTIONS[name] | ((EPERM if errno is None else errno) if with_errno else 0)

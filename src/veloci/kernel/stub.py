"""A program that does nothing but execve: the last executable of ours that a container can see.

Before the user's program starts, /proc/self/exe must not be the host's python: a
`#!/proc/self/exe` script would run it inside the container, and a file descriptor of
it could be opened for writing once it has ended (CVE-2019-5736). So the child first
executes this stub from a sealed memfd. It is about 180 bytes: an ELF header, one program
header, and the code below, which calls execve(argv[1], argv + 2, envp) and exits with
the error number when that fails. Starting it costs 0.3 ms; a second interpreter, 10.
"""

from __future__ import annotations

import fcntl
import os
from struct import pack

_CODE = {
    "x86_64": (
        62,  # EM_X86_64
        b"\x48\x8b\x4c\x24\x08"  # mov rcx, [rsp + 8]    argv[0]
        b"\x80\x39\x2d"  # cmp byte [rcx], "-"         only when we started it:
        b"\xb8\x08\x00\x00\x00"  # mov eax, 8          a script naming /proc/self/exe would loop
        b"\x75\x1a"  # jne exit                         exit status 8, ENOEXEC
        b"\x48\x8b\x04\x24"  # mov rax, [rsp]            argc
        b"\x48\x8b\x7c\x24\x10"  # mov rdi, [rsp + 16]   path = argv[1]
        b"\x48\x8d\x74\x24\x18"  # lea rsi, [rsp + 24]   argv + 2
        b"\x48\x8d\x54\xc4\x10"  # lea rdx, [rsp + rax * 8 + 16]   envp
        b"\x6a\x3b\x58"  # push 59; pop rax              execve
        b"\x0f\x05"  # syscall
        b"\xf7\xd8"  # neg eax
        b"\x89\xc7"  # mov edi, eax                      the error number
        b"\x6a\x3c\x58"  # push 60; pop rax              exit
        b"\x0f\x05",  # syscall
    ),
    "aarch64": (
        183,  # EM_AARCH64
        pack(
            "<15I",
            0xF94007E4,  # ldr x4, [sp, #8]              argv[0]
            0x39400084,  # ldrb w4, [x4]
            0x7100B49F,  # cmp w4, #"-"                  only when we started it:
            0xD2800100,  # mov x0, #8                    a script naming /proc/self/exe would loop
            0x54000121,  # b.ne exit                     exit status 8, ENOEXEC
            0xF94003E3,  # ldr x3, [sp]                  argc
            0xF9400BE0,  # ldr x0, [sp, #16]             path = argv[1]
            0x910063E1,  # add x1, sp, #24               argv + 2
            0x910043E2,  # add x2, sp, #16
            0x8B030C42,  # add x2, x2, x3, lsl #3        envp
            0xD2801BA8,  # mov x8, #221                  execve
            0xD4000001,  # svc #0
            0xCB0003E0,  # neg x0, x0                    the error number
            0xD2800BA8,  # mov x8, #93                   exit
            0xD4000001,  # svc #0
        ),
    ),
}
_BASE, _HEADERS = 0x10000, 64 + 56


def image(machine: str) -> bytes:
    """The stub's ELF file for `machine` (os.uname().machine). Raises KeyError for one we have no code for."""
    number, code = _CODE[machine]
    size = _HEADERS + len(code)
    header = pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, read and execute
    return header + segment + code


def sealed() -> int:
    """A descriptor of the stub that nothing can write to: memfd_create(2), fcntl F_ADD_SEALS."""
    descriptor = os.memfd_create("stub", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, image(os.uname().machine))
    fcntl.fcntl(descriptor, 1033, 0x1 | 0x2 | 0x4 | 0x8)  # F_ADD_SEALS: seal, shrink, grow, write
    return descriptor


def execute(stub: int, path: str, args: list[str], env: dict[str, str]) -> None:
    """Become `path` by way of `stub`. Returns only by raising OSError; a failure inside the stub is its exit status."""
    os.execve(stub, ["-", path, *args], env)

r"""A program that waits, filters itself and calls execve: the last executable of ours that a container can see.

Before the user's program starts, /proc/self/exe must not be the host's python: a
`#!/proc/self/exe` script would run it inside the container, and a file descriptor of
it could be opened for writing once it has ended (CVE-2019-5736). So the child first
executes this stub from a sealed memfd: an ELF header, one program header, and the code
below. Starting it costs 0.3 ms; a second interpreter, 10. What it does, with argv:

    argv[0]  "-", and the number of a descriptor as one byte: read a byte from it first,
             then close it. A created container is this program in that read(2). SIGTERM, SIGINT and
             SIGHUP end it there: as the first of a pid namespace it would get no signal that it does not handle
    image    a seccomp filter may follow the code; it is loaded last, so that a profile
             need allow nothing of ours but execve(2)
    then     execve(argv[1], argv + 2, envp); the exit status is the error number
"""

from __future__ import annotations

import posix as os

from veloci.kernel.call import MACHINE, fsencode, words
from veloci.kernel.files import add_seals

_CODE = {
    "x86_64": (
        62,  # EM_X86_64
        b"\x48\x8b\x4c\x24\x08"  # mov rcx, [rsp + 8]    argv[0]
        b"\x80\x39\x2d"  # cmp byte [rcx], "-"           only when we started it:
        b"\x6a\x08\x58"  # push 8; pop rax               a script naming /proc/self/exe would loop
        b"\x0f\x85\x81\x00\x00\x00"  # jne exit          exit status 8, ENOEXEC
        b"\x0f\xb6\x59\x01"  # movzx ebx, byte [rcx + 1] the descriptor to wait on
        b"\x85\xdb"  # test ebx, ebx
        b"\x74\x41"  # je filter
        b"\x6a\x00"  # push 0                            struct sigaction: mask
        b"\x6a\x00"  # push 0                            restorer
        b"\x68\x00\x00\x00\x04"  # push 0x4000000        SA_RESTORER
        b"\x48\x8d\x05\x70\x00\x00\x00"  # lea rax, [rip + end]
        b"\x50"  # push rax                              handler
        b"\x48\x89\xe6"  # mov rsi, rsp
        b"\x31\xd2"  # xor edx, edx
        b"\x6a\x08\x41\x5a"  # push 8; pop r10
        b"\x6a\x0f\x5f"  # push 15; pop rdi              SIGTERM, then 2 and 1: SIGINT, SIGHUP
        b"\x6a\x0d\x58"  # next: push 13; pop rax        rt_sigaction
        b"\x0f\x05"  # syscall
        b"\xff\xcf"  # dec edi
        b"\x83\xe7\x03"  # and edi, 3
        b"\x75\xf4"  # jne next
        b"\x89\xdf"  # mov edi, ebx
        b"\x6a\x01\x5a"  # push 1; pop rdx
        b"\x31\xc0"  # xor eax, eax                      read
        b"\x0f\x05"  # syscall
        b"\x48\x83\xc4\x20"  # add rsp, 32
        b"\xff\xc8"  # dec eax
        b"\x75\x3d"  # jne fail                          not one byte
        b"\x89\xdf"  # mov edi, ebx
        b"\x6a\x03\x58"  # push 3; pop rax               close
        b"\x0f\x05"  # syscall
        b"\x48\x8d\x15\x3f\x00\x00\x00"  # filter: lea rdx, [rip + data]
        b"\x66\x83\x3a\x00"  # cmp word [rdx], 0         no filter
        b"\x74\x11"  # je run
        b"\x6a\x01\x5f"  # push 1; pop rdi               SECCOMP_SET_MODE_FILTER
        b"\x8b\x72\x04"  # mov esi, [rdx + 4]            flags
        b"\xb8\x3d\x01\x00\x00"  # mov eax, 317          seccomp
        b"\x0f\x05"  # syscall
        b"\x85\xc0"  # test eax, eax
        b"\x75\x18"  # jne fail
        b"\x48\x8b\x04\x24"  # run: mov rax, [rsp]       argc
        b"\x48\x8b\x7c\x24\x10"  # mov rdi, [rsp + 16]   path = argv[1]
        b"\x48\x8d\x74\x24\x18"  # lea rsi, [rsp + 24]   argv + 2
        b"\x48\x8d\x54\xc4\x10"  # lea rdx, [rsp + rax * 8 + 16]   envp
        b"\x6a\x3b\x58"  # push 59; pop rax              execve
        b"\x0f\x05"  # syscall
        b"\xf7\xd8"  # fail: neg eax                     the error number
        b"\x89\xc7"  # exit: mov edi, eax
        b"\x6a\x3c\x58"  # last: push 60; pop rax        exit
        b"\x0f\x05"  # syscall
        b"\x83\xef\x80"  # end: sub edi, -128            a signal's number, as a shell has it
        b"\xeb\xf6"  # jmp last
        b"\x66\x90",  # nop
    ),
    "aarch64": (
        183,  # EM_AARCH64
        words(
            4,
            0xF94007E4,  # ldr x4, [sp, #8]              argv[0]
            0x39400085,  # ldrb w5, [x4]
            0x7100B4BF,  # cmp w5, #"-"                  only when we started it:
            0xD2800100,  # mov x0, #8                    a script naming /proc/self/exe would loop
            0x54000541,  # b.ne exit                     exit status 8, ENOEXEC
            0x39400485,  # ldrb w5, [x4, #1]             the descriptor to wait on
            0x34000305,  # cbz w5, filter
            0x10000524,  # adr x4, end                   struct sigaction: handler,
            0xA93E7FE4,  # stp x4, xzr, [sp, #-32]       flags,
            0xA93F7FFF,  # stp xzr, xzr, [sp, #-16]      restorer, mask
            0xD10083E1,  # sub x1, sp, #32
            0xD2800002,  # mov x2, #0
            0xD2800103,  # mov x3, #8
            0xD28010C8,  # mov x8, #134                  rt_sigaction
            0xD28001E0,  # mov x0, #15                   SIGTERM
            0xD4000001,  # svc #0
            0xD2800040,  # mov x0, #2                    SIGINT
            0xD4000001,  # svc #0
            0xD2800020,  # mov x0, #1                    SIGHUP
            0xD4000001,  # svc #0
            0x2A0503E0,  # mov w0, w5
            0xD10043E1,  # sub x1, sp, #16               room for the byte
            0xD2800022,  # mov x2, #1
            0xD28007E8,  # mov x8, #63                   read
            0xD4000001,  # svc #0
            0xD1000400,  # sub x0, x0, #1
            0xB5000260,  # cbnz x0, fail                 not one byte
            0x2A0503E0,  # mov w0, w5
            0xD2800728,  # mov x8, #57                   close
            0xD4000001,  # svc #0
            0x10000282,  # filter: adr x2, data
            0x79400044,  # ldrh w4, [x2]
            0x340000C4,  # cbz w4, run                   no filter
            0xD2800020,  # mov x0, #1                    SECCOMP_SET_MODE_FILTER
            0xB9400441,  # ldr w1, [x2, #4]              flags
            0xD28022A8,  # mov x8, #277                  seccomp
            0xD4000001,  # svc #0
            0xB5000100,  # cbnz x0, fail
            0xF94003E3,  # run: ldr x3, [sp]             argc
            0xF9400BE0,  # ldr x0, [sp, #16]             path = argv[1]
            0x910063E1,  # add x1, sp, #24               argv + 2
            0x910043E2,  # add x2, sp, #16
            0x8B030C42,  # add x2, x2, x3, lsl #3        envp
            0xD2801BA8,  # mov x8, #221                  execve
            0xD4000001,  # svc #0
            0xCB0003E0,  # fail: neg x0, x0              the error number
            0xD2800BA8,  # exit: mov x8, #93
            0xD4000001,  # svc #0
            0x91020000,  # end: add x0, x0, #128         a signal's number, as a shell has it
            0x17FFFFFD,  # b exit
        ),
    ),
}
_BASE, _HEADERS = 0x10000, 64 + 56


def image(machine: str, bpf: bytes = b"", flags: int = 0) -> bytes:
    """The stub's ELF file for `machine` (MACHINE). Raises KeyError for one we have no code for.

    bpf: the seccomp filter it loads, an array of struct sock_filter; flags: SECCOMP_FILTER_FLAG_*.
    """
    number, code = _CODE[machine]
    program = _BASE + _HEADERS + len(code)
    # struct sock_fprog, flags in its padding
    data = words(2, len(bpf) // 8, 0) + words(4, flags) + words(8, program + 16) + bpf
    size = _HEADERS + len(code) + len(data)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + words(2, 2, number) + words(4, 1)
    header += words(8, _BASE + _HEADERS, 64, 0) + words(4, 0) + words(2, 64, 56, 1, 0, 0, 0)
    segment = words(4, 1, 5) + words(8, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, read and execute
    return header + segment + code + data


def sealed(bpf: bytes = b"", flags: int = 0) -> int:
    """A descriptor of the stub that nothing can write to: memfd_create(2), fcntl F_ADD_SEALS."""
    descriptor = os.memfd_create("stub", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, image(MACHINE, bpf, flags))
    add_seals(descriptor)
    return descriptor


def arguments(path: str, args: list[str], wait: int = 0) -> list[bytes]:
    """The stub's argv: it waits on descriptor `wait` (1 to 255; 0: does not), then becomes `path` with `args`."""
    return [b"-" + bytes((wait,)).rstrip(b"\0"), fsencode(path), *map(fsencode, args)]


def execute(stub: int, path: str, args: list[str], env: dict[str, str], wait: int = 0) -> None:
    """Become `path` by way of `stub`. Returns only by raising OSError; a failure inside the stub is its exit status."""
    os.execve(stub, arguments(path, args, wait), env)

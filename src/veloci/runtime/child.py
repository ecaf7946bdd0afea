"""What a container's first process knows while it becomes the container."""

from __future__ import annotations

import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.spec.runtime import Hooks


class Child:
    """The state that steps share. Descriptors are -1 until a step has opened them."""

    def __init__(self) -> None:
        self.parent = -1  # the socket to the parent
        self.born = False  # in its cgroup of version 2
        self.known = True  # the parent need write nothing down before the program starts
        self.root = -1  # the container's root, O_PATH
        self.late: list[int] = []  # mounts to make read-only once everything in them is made
        self.trees: list[int] = []  # mounts that only the parent may make, in the order of their steps
        self.sources: list[int] = []  # those that it opened before it changed its user, in the order of their steps
        self.console_socket = -1  # where a terminal's ptmx goes
        self.tty = -1
        self.attended: tuple[int, int] | None = None  # rows and columns of the caller's own, which shows it
        self.stdio: tuple[int, int, int] | None = None
        self.bpf = b""  # the seccomp filter
        self.bpf_flags = 0
        self.loads = False  # the filter itself, with privilege, in the stub's place
        self.listens = False  # the filter asks somebody outside
        self.null = -1  # the host's /dev/null, O_PATH
        self.empty = -1  # a read-only mount of nothing, to clone
        self.there = False  # whether the working directory is entered
        self.hooks: Hooks | None = None
        self.state: Callable[[str], bytes] | None = None  # status -> what hooks read
        self.outcome = -1  # where startContainer hooks report a failure to `start`

    def ask(self, question: str) -> None:
        """Have the parent do something, and wait. Raises OSError with its reason."""
        os.write(self.parent, b"A" + question.encode())
        answer = os.read(self.parent, 65536)
        if answer != b"ok":
            number, _, text = answer.decode().partition("\0")
            raise OSError(int(number or 32), text or "the parent is gone")  # EPIPE

"""Terminals: the socket a runtime sends a container's terminal over, its size, and raw mode.

`_socket` rather than `socket`, whose import costs more than a container's start.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket, socketpair
from fcntl import ioctl
from struct import pack, unpack

from veloci.errors import VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIOCGWINSZ, TIOCSWINSZ = 0x5413, 0x5414  # asm-generic/ioctls.h
_INT = 4  # bytes of a descriptor in a control message


class Pair:
    """A socket pair for our own runtime: it sends on `theirs`, `receive` gives the terminal."""

    def __init__(self) -> None:
        self._ours, self._theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self.theirs = self._theirs.fileno()

    def receive(self) -> int:
        """The descriptor of the terminal's controlling side. Raises VelociError if none was sent."""
        self._theirs.close()
        return _received(self._ours)

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()


class Listener:
    """A listening socket in `directory` for runtimes that are told a path (--console-socket)."""

    def __init__(self, directory: str) -> None:
        self._file = f"{directory}/console"
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        # A socket's address has 107 bytes at most; the way through the descriptor is short.
        self._socket.bind(f"/proc/self/fd/{self._directory}/console")
        self._socket.listen(1)
        self.path = f"/proc/{os.getpid()}/fd/{self._directory}/console"

    def receive(self) -> int:
        """As Pair.receive."""
        self._socket.settimeout(10)
        raw: Any = self._socket
        try:
            descriptor, _ = raw._accept()
        except OSError:
            raise VelociError("the runtime sent no terminal") from None
        return _received(socket(AF_UNIX, SOCK_STREAM, 0, descriptor))

    def close(self) -> None:
        """Close it and remove its file."""
        self._socket.close()
        os.close(self._directory)
        os.unlink(self._file)


def _received(connection: socket) -> int:
    message = connection.recvmsg(4096, CMSG_SPACE(_INT))
    connection.close()
    for level, kind, data in message[1]:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            descriptor = int.from_bytes(data[:_INT], sys.byteorder)
            os.set_inheritable(descriptor, False)
            return descriptor
    raise VelociError("the runtime sent no terminal")


def size(descriptor: int) -> tuple[int, int]:
    """Rows and columns of a terminal — TIOCGWINSZ, tty_ioctl(4)."""
    rows, columns, _, _ = unpack("HHHH", ioctl(descriptor, TIOCGWINSZ, bytes(8)))
    return rows, columns


def window() -> tuple[int, int] | None:
    """Rows and columns of the terminal that this process has as its standard output or input; None: it has none."""
    for descriptor in (1, 0):
        if os.isatty(descriptor):
            return size(descriptor)
    return None


def resize(descriptor: int, rows: int, columns: int) -> None:
    """Set them; the programs behind it get SIGWINCH — TIOCSWINSZ."""
    ioctl(descriptor, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))


def raw(descriptor: int) -> list[Any]:
    """Pass every key through as it is — cfmakeraw, termios(3). Returns the mode for `restore`."""
    import termios as t

    before = t.tcgetattr(descriptor)
    mode = t.tcgetattr(descriptor)
    mode[0] &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
    mode[1] &= ~t.OPOST
    mode[2] = (mode[2] & ~(t.CSIZE | t.PARENB)) | t.CS8
    mode[3] &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
    mode[6][t.VMIN], mode[6][t.VTIME] = 1, 0
    t.tcsetattr(descriptor, t.TCSANOW, mode)  # what was typed ahead stays
    return before


def restore(descriptor: int, mode: list[Any]) -> None:
    """Set the mode that `raw` returned."""
    import termios

    termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)

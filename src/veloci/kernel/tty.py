"""Pseudoterminals: made in a container's devpts, their other end sent over a socket."""

from __future__ import annotations

import os
from errno import ENAMETOOLONG
from fcntl import ioctl
from struct import pack, unpack

from veloci.kernel.files import open_in_root
from veloci.kernel.mount import fstype

_TIOCSCTTY, _TIOCGWINSZ, _TIOCSWINSZ, _TIOCSPTLCK, _TIOCGPTPEER = 0x540E, 0x5413, 0x5414, 0x40045431, 0x5441
_DEVPTS_SUPER_MAGIC = 0x1CD1


def pair(root: int) -> tuple[int, int]:
    """A new terminal of the devpts at /dev/pts beneath `root`: the descriptors of its ptmx and of its tty.

    Neither is found by a name that the container could have changed — TIOCGPTPEER, ioctl_tty(2).
    Raises OSError if /dev/pts is no devpts.
    """
    ptmx = open_in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    if fstype(ptmx) != _DEVPTS_SUPER_MAGIC:
        os.close(ptmx)
        raise OSError(19, "/dev/pts is not a devpts file system")  # ENODEV
    ioctl(ptmx, _TIOCSPTLCK, pack("i", 0))
    return ptmx, ioctl(ptmx, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def control(tty: int) -> None:
    """Make `tty` the controlling terminal of this session — TIOCSCTTY."""
    ioctl(tty, _TIOCSCTTY, 0)


def size(tty: int) -> tuple[int, int]:
    """The rows and columns of `tty`."""
    rows, columns, _, _ = unpack("HHHH", ioctl(tty, _TIOCGWINSZ, bytes(8)))
    return rows, columns


def resize(tty: int, rows: int, columns: int) -> None:
    """Set the size of `tty`; its foreground processes get SIGWINCH."""
    ioctl(tty, _TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))


def plain(tty: int) -> None:
    """Leave newlines as they are: whose terminal shows them makes of each what it needs — ONLCR, termios(3)."""
    import termios

    modes = termios.tcgetattr(tty)
    modes[1] &= ~termios.ONLCR
    termios.tcsetattr(tty, termios.TCSANOW, modes)


def send(socket: int, descriptor: int, name: str) -> None:
    """Send `descriptor` with the text `name` over the connected AF_UNIX `socket` — SCM_RIGHTS, unix(7)."""
    import _socket  # `socket` imports enum

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, socket)
    try:
        connection.sendmsg([name.encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("i", descriptor))])
    finally:
        connection.detach()


def receive(socket: int) -> int:
    """Receive one descriptor over the connected AF_UNIX `socket`. Raises EOFError when the other end is closed."""
    import _socket  # `socket` imports enum

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, socket)
    try:
        _, control, _, _ = connection.recvmsg(4096, _socket.CMSG_LEN(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        connection.detach()
    if not control:
        raise EOFError
    return int(unpack("i", control[0][2][:4])[0])


def connect(path: str) -> int:
    """A descriptor of a connection to the AF_UNIX socket at `path`. Raises OSError, which names it."""
    import _socket  # `socket` imports enum

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
        return connection.detach()
    except OSError as error:
        raise OSError(error.errno or ENAMETOOLONG, error.strerror or str(error), path) from None
    finally:
        connection.close()

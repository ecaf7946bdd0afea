"""What passes between a container's monitor and those who talk to it: messages on a Unix socket.

    to the monitor    a WHAT     o: send me the output;        from it   o DATA   the container wrote to stdout
                                 i: I give its standard input            e DATA   … to stderr
                      i DATA     standard input                          w        it took what came last; more may come
                      c          the end of it                           z        it reads no more
                      r ROWS COLUMNS   the terminal's size               x CODE   it ended; the last message
                      k SIGNAL   send a signal
                      h SIGNAL   … and do not start it again        y        that was done
                      p, u       pause it, let it go on              n JSON   it could not be done: why
                      U JSON     limits ("resources", as config.json has them) and a "restart" policy

SOCK_SEQPACKET, so a message is read whole; at most CHUNK bytes of data in one. The socket is in a directory of
mode 0700, and the monitor asks the kernel who connects besides.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SO_PEERCRED, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from struct import unpack

from veloci.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 32 << 10  # bytes of data in one message
PENDING = 1 << 20  # bytes kept for a client that does not read; then the container has to wait


def pair() -> tuple[socket, socket]:
    """Two connected ends: the client's, the monitor's."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


def connect(directory: str) -> socket:
    """A connection to the monitor of the container with run directory `directory`. Raises Conflict if there is none."""
    client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    # A socket's address has 107 bytes at most; the way through a descriptor is short.
    try:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Conflict("the container is not running") from None
    try:
        client.connect(f"/proc/self/fd/{place}/monitor.sock")
    except (FileNotFoundError, ConnectionRefusedError):
        client.close()
        raise Conflict("the container is not running") from None
    finally:
        os.close(place)
    return client


def say(connection: socket, message: bytes) -> None:
    """Send a monitor a message. If it has gone nothing is sent; what it said before that can still be received."""
    try:
        connection.send(message)
    except OSError:
        return


def receive(connection: socket) -> bytes:
    """The next message from a monitor, b"" when it has gone. Raises TimeoutError."""
    try:
        return connection.recv(CHUNK + 1)
    except ConnectionResetError:  # said once, because it left something of ours unread; its own words come after that
        return receive(connection)


def listen(directory: str) -> socket:
    """The monitor's end, bound in `directory`."""
    server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.path.lexists(f"{directory}/monitor.sock"):
            os.unlink(f"{directory}/monitor.sock")
        server.bind(f"/proc/self/fd/{place}/monitor.sock")
    finally:
        os.close(place)
    os.chmod(f"{directory}/monitor.sock", 0o600)
    server.listen(16)
    return server


def accept(server: socket) -> socket | None:
    """The next client; None if it is somebody else's process."""
    raw: Any = server
    descriptor, _ = raw._accept()
    client = socket(AF_UNIX, SOCK_SEQPACKET, 0, descriptor)
    _, uid, _ = unpack("iII", client.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))
    if uid not in (0, os.geteuid()):
        client.close()
        return None
    return client


class Client:
    """One connection, as the monitor sees it: what it still has to be sent waits here."""

    def __init__(self, connection: socket, *, output: bool = False) -> None:
        self.socket, self.output = connection, output
        self.input = False  # whether the container's standard input is its
        self.queue: list[bytes] = []
        self.size = 0  # bytes in the queue
        connection.setblocking(False)

    def send(self, message: bytes) -> bool:
        """Send it now, or when the client reads. Returns False if the client has gone."""
        self.queue.append(message)
        self.size += len(message)
        return self.flush()

    def flush(self) -> bool:
        """Send what can be sent. Returns False if the client has gone."""
        while self.queue:
            try:
                self.socket.send(self.queue[0])
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.size -= len(self.queue.pop(0))
        return True

    def finish(self, message: bytes) -> None:
        """Send the last message, waiting a little for a client that is slow, and close."""
        self.socket.settimeout(5)
        try:
            for waiting in (*self.queue, message):
                self.socket.send(waiting)
        except OSError:
            return  # it went away, or never reads
        finally:
            self.socket.close()

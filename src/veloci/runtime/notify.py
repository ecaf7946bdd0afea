"""What a container tells a service manager: sd_notify(3), through a socket of its own.

    service manager                  the runtime                          container
      $NOTIFY_SOCKET  ◀── READY=1 ── ROOT/ID/notify/notify.sock ◀── READY=1 ── /run/notify/notify.sock
                      ◀── MAINPID=…
                      ◀── BARRIER=1 (until it has read all that)

As runC's: `create` gives the container the directory and says where the socket will be, `start` or `run` makes it and
waits until READY=1 has come or the container has ended. It is a container's own affair whether it tells anything.
"""

from __future__ import annotations

import os
import socket
from select import POLLIN, poll

from veloci.errors import HostError
from veloci.kernel.files import absolute
from veloci.kernel.process import pidfd
from veloci.spec.runtime import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.runtime.container import Container

PLACE = "/run/notify"
ENVIRONMENT = f"NOTIFY_SOCKET={PLACE}/notify.sock"
_BARRIER = 30_000  # milliseconds for a service manager to have read what it was sent
_SIGIO = 29


class Notify:
    """The way from one container to the service manager whose socket is at `host` ("@NAME" is an abstract one)."""

    def __init__(self, host: str) -> None:
        self.host = f"\0{host[1:]}" if host.startswith("@") else host
        self._socket: socket.socket | None = None

    def mount(self, directory: str) -> Mount:
        """What the container with the state `directory` has mounted for it."""
        options = ("bind", "nosuid", "noexec", "nodev", "ro")
        return Mount(destination=PLACE, type="bind", source=f"{absolute(directory)}/notify", options=options)

    def make(self, directory: str, *, listen: bool) -> None:
        """Make the directory that is mounted, and with `listen` the socket in it. Raises HostError."""
        try:
            os.mkdir(f"{directory}/notify", 0o755)
            os.chmod(f"{directory}/notify", 0o755)  # noqa: S103 -- whatever the umask; for the container's users
        except OSError as error:
            raise HostError(f"make {directory}/notify", error) from error
        if listen:
            self.listen(directory)

    def listen(self, directory: str) -> None:
        """Make the socket. Raises HostError."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        place = os.open(f"{directory}/notify", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{place}/notify.sock"  # a socket's path has 107 bytes at most
            listening.bind(path)
            os.chmod(path, 0o777)  # noqa: S103 -- the container's users are not ours
        except OSError as error:
            listening.close()
            raise HostError(f"make {directory}/notify/notify.sock", error) from error
        finally:
            os.close(place)
        self._socket = listening

    def forward(self, pid: int) -> None:
        """Wait until the container says that it is ready, and pass that on; or until its process `pid` has ended.

        Raises HostError.
        """
        assert self._socket is not None
        try:
            process = pidfd(pid)
        except ProcessLookupError:
            process = -1
        try:
            waiting = poll()
            waiting.register(self._socket, POLLIN)
            if process >= 0:
                waiting.register(process, POLLIN)
            while ready := dict(waiting.poll(None if process >= 0 else 0)):
                if self._socket.fileno() in ready:
                    if self._ready(pid, wait=True):
                        return
                elif process in ready:
                    return
        finally:
            if process >= 0:
                os.close(process)
            self._socket.close()

    def attend(self) -> None:
        """Pass it on from a signal's handler, while this process, which is then the service's, does other things."""
        import fcntl
        import signal

        listening = self._socket
        assert listening is not None

        def look(_number: int, _frame: object) -> None:
            try:
                done = self._ready(os.getpid(), wait=False)
            except BlockingIOError:
                return
            if done:
                signal.signal(_SIGIO, signal.SIG_IGN)
                listening.close()

        signal.signal(_SIGIO, look)
        fcntl.fcntl(listening, fcntl.F_SETOWN, os.getpid())
        listening.setblocking(False)
        fcntl.fcntl(listening, fcntl.F_SETFL, fcntl.fcntl(listening, fcntl.F_GETFL) | os.O_ASYNC)
        look(0, None)  # what came before

    def _ready(self, main: int, *, wait: bool) -> bool:
        """Read one message. Returns whether it was READY=…, which is then passed on. wait: until it has been read."""
        assert self._socket is not None
        for line in self._socket.recv(4096).split(b"\n"):
            if line.startswith(b"READY="):
                try:
                    self._tell(line, main, wait=wait)
                except OSError as error:
                    raise HostError("tell the service manager", error, where="NOTIFY_SOCKET") from error
                return True
        return False

    def _tell(self, line: bytes, main: int, *, wait: bool) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(self.host)
            manager.send(line + b"\n")
            manager.send(b"MAINPID=%d\n" % main)
            if wait:
                reader, writer = os.pipe()
                try:
                    socket.send_fds(manager, [b"BARRIER=1"], [writer])
                finally:
                    os.close(writer)
                waiting = poll()
                waiting.register(reader, 0)  # until the other end is closed
                waiting.poll(_BARRIER)  # one that knows no barrier is waited for no longer
                os.close(reader)


def start(container: Container, host: str) -> None:
    """Start `container`, and wait until it is ready if it was made to tell that. Raises what its start does."""
    notify = Notify(host)
    told = os.path.isdir(f"{container.directory.path}/notify")
    if told:
        notify.listen(container.directory.path)
    container.start()
    if told:
        notify.forward(container.saved.pid)

r"""The program CRIU, asked through a socket: `criu swrk 3`, one process a request, as runC does it.

    we                                       criu swrk
      request: type, options ──────────────▶  opens the directories of images by /proc/OUR PID/fd/N
                       ◀─── NOTIFY script     a moment at which we may do something
      notify_success ──────────────────────▶
                       ◀─── the same type     done, or failed with an errno

A restored process is, with rst_sibling, a child of ours.
"""

from __future__ import annotations

import os
import socket

from veloci.errors import HostError, Unsupported, VelociError
from veloci.kernel.files import duplicate
from veloci.kernel.process import close_range
from veloci.runtime.criu import rpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, Self

    Notified = Callable[[rpc.Response, list[int]], None]

_OLDEST = 31500  # external namespaces, freezing by cgroup version 2, the moment "status-ready"
_PART = 40960  # bytes; CRIU's own limit is below
FIRST = 4  # the number of the first further descriptor: 3 is the socket


class Service:
    """CRIU, waiting for one request. As a context it ends with it."""

    def __init__(
        self,
        program: str,
        *,
        stdio: tuple[int, int, int] | None = None,
        files: Sequence[int] = (),
        prepare: Callable[[], list[int]] | None = None,
    ) -> None:
        """Start it.

        stdio: descriptors for its 0, 1 and 2; None: ours. files: those it has from FIRST on. prepare: what its
        process does before, as a copy of this one; the descriptors that it returns become `given`, this process's.
        Raises Unsupported if there is no such program, HostError, VelociError.
        """
        path = _found(program)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            _become(path, theirs, stdio or (0, 1, 2), files, prepare, writer)
        self._socket, self.given = ours, list[int]()
        theirs.close()
        os.close(writer)
        try:
            with os.fdopen(reader, "rb") as report:
                said = report.read()  # until the end of the file: it is CRIU
            self.given = self._receive() if prepare and not said else []
            if said:
                number, where, text = said.decode(errors="replace").split("\0", 2)
                if number == "0":
                    raise VelociError(text, where=where)
                raise HostError(where, OSError(int(number), text))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        for descriptor in self.given:
            os.close(descriptor)
        if self.pid:
            os.waitpid(self.pid, 0)
            self.pid = 0

    def ask(self, request: Mapping[str, object], notified: Notified | None = None) -> rpc.Response:
        """Send a request and give what comes of it. notified: called at each moment that CRIU tells.

        It gets the descriptors that came along and closes them. Raises VelociError when CRIU fails.
        """
        self._send(request)
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _PART, 16, socket.MSG_CMSG_CLOEXEC)
            if not data:
                raise VelociError("criu ended before it was done")
            try:
                response = rpc.Response(data)
            except ValueError as error:
                raise VelociError(f"criu answers what is no answer: {error}") from None
            if not response.succeeded:
                raise VelociError(f"criu failed: type {rpc.KINDS.get(response.kind)} errno {response.errno}")
            if response.kind != rpc.NOTIFY:
                return response
            if notified:
                notified(response, descriptors)
            self._send({"type": rpc.NOTIFY, "notify_success": True})

    def _receive(self) -> list[int]:
        return socket.recv_fds(self._socket, 64, 16, socket.MSG_CMSG_CLOEXEC)[1]

    def _send(self, request: Mapping[str, object]) -> None:
        try:
            self._socket.send(rpc.encode(request))
        except (BrokenPipeError, ConnectionResetError):
            raise VelociError("criu ended before it was done") from None

    def end(self) -> None:
        """Let it end. Raises VelociError unless it does so with status 0."""
        self._socket.shutdown(socket.SHUT_WR)
        pid, self.pid = self.pid, 0
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            raise VelociError(f"criu failed: it ended with status {status}")


def check(program: str, features: Sequence[str] = ()) -> None:
    """Raise Unsupported unless `program` is a CRIU that is new enough and has what is named of rpc.FEATURES."""
    with Service(program) as service:
        version = service.ask({"type": rpc.VERSION}).version
    if version < _OLDEST:
        raise Unsupported(f"criu is of version {version}, needed is {_OLDEST} or later")
    if features:
        with Service(program) as service:
            asked = {"type": rpc.FEATURE_CHECK, "features": dict.fromkeys(features, True)}
            missing = sorted({*features} - service.ask(asked).features)
        if missing:
            raise Unsupported(
                f"criu is missing features: {', '.join(missing)}", hint="the kernel may lack what they need"
            )


def explained(error: VelociError, directory: str, log: str) -> VelociError:
    """`error`, if it is CRIU's, with the first fault that CRIU wrote in its log."""
    if not str(error.args[0]).startswith("criu "):
        return error
    path = f"{directory}/{log}"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            faults = [line.partition("): ")[2].strip() for line in file if "Error (" in line]
    except OSError:
        return error
    # What it tries before to know the kernel, that it may not raise its own limits, that all has failed: no causes.
    causes = [fault for fault in faults if not fault.startswith(("rlimit: ", "tun: Unable")) and "FAILED" not in fault]
    return VelociError(f"{error.args[0]}: {causes[0]}", hint=f"cat {path}") if causes else error


def _found(program: str) -> str:
    from shutil import which

    path = which(program)
    if not path:
        raise Unsupported(f"{program} is not installed: executable file not found in $PATH", hint="apt install criu")
    return path


def _become(
    path: str,
    talk: socket.socket,
    stdio: tuple[int, int, int],
    files: Sequence[int],
    prepare: Callable[[], list[int]] | None,
    report: int,
) -> NoReturn:
    """In the child: CRIU, or a report of why not: errno, what was done, the reason; 0 for an error with its words."""
    doing = "prepare the restore"
    try:
        if prepare:
            socket.send_fds(talk, [b"given"], prepare())
        doing = f"start {path}"
        above = FIRST + len(files)
        report = duplicate(report, above)
        for number, copy in enumerate([duplicate(each, above) for each in (*stdio, talk.fileno(), *files)]):
            os.dup2(copy, number)  # which the program keeps
        os.closerange(above, report)
        close_range(report + 1)
        os.execv(path, [path, "swrk", "3"])
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        os.write(report, f"{error.errno or 5}\0{doing}\0{text}".encode(errors="replace"))
    except VelociError as error:
        os.write(report, f"0\0{error.where}\0{error.args[0]}".encode(errors="replace"))
    finally:
        os._exit(127)

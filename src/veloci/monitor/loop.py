"""A monitor: it makes one container, watches it, keeps its log and its exit status, and cleans up after it.

    create ─▶ attach the network ─▶ start ─▶ copy stdio, serve clients ─▶ it ends ─▶ clean up ─▶ again, or the end

One process with one thread, in a mount namespace of its own, in which the container's root file system is mounted:
it is gone with the last process of the container, also after kill -9.
"""

from __future__ import annotations

import os
from _signal import SIG_IGN, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, signal
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll
from time import monotonic, time_ns

from veloci.errors import VelociError
from veloci.kernel.mount import MNT_DETACH, MS_REC, MS_SLAVE, mount, move_mount, umount
from veloci.kernel.process import CLONE_NEWNS, unshare
from veloci.monitor import console, policy, runtimes, session, state
from veloci.monitor.logs import Log
from veloci.spec.document import Document, Json, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable


class Task(Document):
    """What a monitor is told. Of the container's directories, `data` lasts and `run` may be lost at a reboot."""

    id: str
    data: str
    run: str
    run_root: str  # the engine's run directory, where runtimes keep their states
    networks: str  # where networks are kept
    runtime: str = "veloci"
    config: Json = None  # config.json
    lease: Json = None  # the network's lease; None: no network of ours
    stdin: bool = False  # whether the container's standard input stays open
    stdin_once: bool = True  # it ends with the first client that had it
    restart: policy.Restart = policy.Restart()
    log: bool = True


class Monitor:
    """The one container of this process."""

    def __init__(self, task: Task, root: int, first: socket | None) -> None:
        """root: descriptor of the detached mount of the root file system. first: a client that is there already."""
        self.task, self.root = task, root
        self.bundle = f"{task.data}/bundle"
        self.clients: dict[int, session.Client] = {}
        self.first = first
        self.poll = epoll()
        self.server = session.listen(task.run)
        self.runtime = runtimes.named(task.runtime, task.run_root, task.run, networked=task.lease is not None)
        self.log = Log(f"{task.data}/log") if task.log else None
        self.sources: dict[int, str] = {}  # descriptors of the container's output -> "stdout" or "stderr"
        self.input = -1
        self.waiting_input: list[bytes] = []
        self.tty = -1
        self.pid = self.pidfd = -1
        self.by_hand = False
        self.holding: list[socket] = []
        self.restarts = 0

    def run(self, ready: Callable[[VelociError | None], None], ended: Callable[[int], None]) -> None:
        """Make it, watch it, start it again where its policy says so.

        ready: called once, when it runs, or with the reason why it does not. ended: called with the exit status
        when it has ended for good and is cleaned up, before clients are told.
        """
        self._enter()
        self.poll.register(self.server, EPOLLIN)
        if self.first is not None:
            self._welcome(self.first, output=True)
        pause = 0.0
        while True:
            began = monotonic()
            try:
                self._start()
            except VelociError as error:
                self._clean_after(error)
                if self.restarts == 0:
                    self._leave()
                    ready(error)
                    return
                code = error.exit_status or 125
                self._record(code, str(error))
            else:
                if self.restarts == 0:
                    ready(None)
                self._tell(b"s")
                code = self._watch()
                trouble = VelociError("")
                self._clean_after(trouble)  # its exit status is known, whatever the clean-up meets
                self._record(code, trouble.hint)
            if not policy.again(self.task.restart, exit_code=code, restarts=self.restarts, by_hand=self.by_hand):
                break
            self.restarts += 1
            pause = policy.pause(pause, uptime=monotonic() - began)
            if self._pause(pause):
                break
        self._leave()
        ended(code)
        for client in self.clients.values():
            client.finish(b"x%d" % code)

    # --- its making

    def _enter(self) -> None:
        """A mount namespace of our own, with the root file system in the bundle."""
        unshare(CLONE_NEWNS)
        mount("", "/", flags=MS_SLAVE | MS_REC)
        move_mount(self.root, f"{self.bundle}/rootfs")

    def _start(self) -> None:
        """Create, connect, start. Raises VelociError; `_clean` then undoes what was done."""
        task = self.task
        stdio, ours = self._pipes()
        try:
            self.pid, self.tty = self.runtime.create(task.id, self.bundle, task.config, stdio)
        finally:
            for descriptor in {*stdio}:
                os.close(descriptor)
            if self.tty >= 0 or self.pid < 0:
                for descriptor in ours:
                    os.close(descriptor)
        self.pidfd = os.pidfd_open(self.pid)
        self._connect()
        self._watch_output(ours)
        self.runtime.start(task.id)
        self._save("running", started_at=time_ns())

    def _pipes(self) -> tuple[tuple[int, int, int], tuple[int, ...]]:
        """The container's three descriptors, and our ends of them: (stdout, stderr) or (stdout, stderr, stdin)."""
        if self.task.config["process"].get("terminal"):
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            return (null, null, null), ()
        out, out_theirs = os.pipe2(os.O_CLOEXEC)
        error, error_theirs = os.pipe2(os.O_CLOEXEC)
        if not self.task.stdin:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            return (null, out_theirs, error_theirs), (out, error)
        in_theirs, into = os.pipe2(os.O_CLOEXEC)
        return (in_theirs, out_theirs, error_theirs), (out, error, into)

    def _connect(self) -> None:
        """Join the new network namespace to its network, before anything runs in it."""
        if self.task.lease is None:
            return
        from veloci.network.networks import Networks

        networks = Networks(self.task.networks)
        self.holding = list(networks.hold(self.task.lease))
        namespace = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            networks.attach(self.task.lease, namespace)
        finally:
            os.close(namespace)

    def _watch_output(self, ours: tuple[int, ...]) -> None:
        if self.tty >= 0:
            self.sources, self.input = {self.tty: "stdout"}, self.tty
        else:
            self.sources = {ours[0]: "stdout", ours[1]: "stderr"}
            self.input = ours[2] if len(ours) == 3 else -1
        for descriptor in self.sources:
            os.set_blocking(descriptor, False)
            self.poll.register(descriptor, EPOLLIN)
        if self.input >= 0:
            os.set_blocking(self.input, False)
        self.poll.register(self.pidfd, EPOLLIN)

    # --- its life

    def _watch(self) -> int:
        """Serve until it ends. Returns its exit status."""
        while True:
            for descriptor, events in self._ready(-1):
                if descriptor == self.pidfd:
                    return self._reap()
                self._serve(descriptor, events)

    def _ready(self, seconds: float) -> list[tuple[int, int]]:
        return self.poll.poll(seconds)

    def _serve(self, descriptor: int, events: int) -> None:
        if descriptor == self.server.fileno():
            self._accept()
        elif descriptor in self.clients:
            self._client(descriptor, events)
        else:
            if descriptor in self.sources and events & (EPOLLIN | EPOLLHUP | EPOLLERR):
                self._output(descriptor)
            if descriptor == self.input and events & (EPOLLOUT | EPOLLERR):
                self._feed()

    def _output(self, descriptor: int) -> bool:
        """Pass on what the container wrote. Returns whether there was something."""
        try:
            data = os.read(descriptor, session.CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the terminal open
            data = b""
        if not data:
            self._drop(descriptor)
            return False
        name = self.sources[descriptor]
        if self.log:
            self.log.write(name, data)
        self._tell((b"o" if name == "stdout" else b"e") + data, output=True)
        if any(client.size > session.PENDING for client in self.clients.values()):
            self._throttle()
        return True

    def _drop(self, descriptor: int) -> None:
        self.poll.unregister(descriptor)
        del self.sources[descriptor]
        if descriptor != self.tty:
            os.close(descriptor)

    def _throttle(self) -> None:
        """A client does not read: the container waits for it, as it would for a terminal."""
        for descriptor in self.sources:
            self.poll.modify(descriptor, 0)

    def _reap(self) -> int:
        """Its exit status, once its output is read to the end."""
        _, status = os.waitpid(self.pid, 0)
        for descriptor in list(self.sources):
            while self._output(descriptor):
                pass
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    # --- its clients

    def _accept(self) -> None:
        client = session.accept(self.server)
        if client is not None:
            self._welcome(client, output=False)

    def _welcome(self, connection: socket, *, output: bool) -> None:
        client = session.Client(connection, output=output)
        self.clients[connection.fileno()] = client
        self.poll.register(connection, EPOLLIN)

    def _client(self, descriptor: int, events: int) -> None:
        client = self.clients[descriptor]
        if events & EPOLLOUT:
            if not client.flush():
                self._part(descriptor)
                return
            if not client.queue:
                self.poll.modify(descriptor, EPOLLIN)
                for source in self.sources:
                    self.poll.modify(source, EPOLLIN)
        if events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            try:
                message = client.socket.recv(session.CHUNK + 1)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if message:
                self._obey(client, message)
            else:
                self._part(descriptor)

    def _part(self, descriptor: int) -> None:
        self.poll.unregister(descriptor)
        self.clients.pop(descriptor).socket.close()
        for source in self.sources:  # the container may have waited for this one
            self.poll.modify(source, EPOLLIN)

    def _obey(self, client: session.Client, message: bytes) -> None:
        kind, data = message[:1], message[1:]
        if kind == b"a":
            client.output = True
        elif kind == b"i" and self.input >= 0:
            self.waiting_input.append(data)
            self._feed()
        elif kind == b"c" and self.task.stdin_once and self.input >= 0:
            self.waiting_input.append(b"")
            self._feed()
        elif kind == b"r" and self.tty >= 0:
            rows, columns = data.split()
            console.resize(self.tty, int(rows), int(columns))
        elif kind in (b"k", b"h"):
            self.by_hand = self.by_hand or kind == b"h"
            self._signal(int(data))

    def _signal(self, number: int) -> None:
        if self.pidfd < 0:
            return
        try:
            self.runtime.kill(self.task.id, number)
        except VelociError:
            return  # it ended meanwhile

    def _feed(self) -> None:
        """Write what waits to its standard input; b"" is the end of it."""
        while self.waiting_input:
            data = self.waiting_input[0]
            try:
                if not data:
                    self._close_input()
                    return
                written = os.write(self.input, data)
            except BlockingIOError:
                self._await_input(waiting=True)
                return
            except OSError:  # nobody reads it any more
                self._close_input()
                return
            self.waiting_input[0] = data[written:]
            if not self.waiting_input[0]:
                self.waiting_input.pop(0)
        self._await_input(waiting=False)

    def _await_input(self, *, waiting: bool) -> None:
        if self.input == self.tty:
            self.poll.modify(self.tty, EPOLLIN | (EPOLLOUT if waiting else 0))
            return
        try:
            self.poll.register(self.input, EPOLLOUT if waiting else 0)
        except FileExistsError:
            self.poll.modify(self.input, EPOLLOUT if waiting else 0)

    def _close_input(self) -> None:
        self.waiting_input.clear()
        if self.input == self.tty:
            os.write(self.tty, b"\x04")  # the terminal's own end of input
            return
        os.close(self.input)
        self.input = -1

    def _tell(self, message: bytes, *, output: bool = False) -> None:
        for descriptor, client in list(self.clients.items()):
            if output and not client.output:
                continue
            if not client.send(message):
                self._part(descriptor)
            elif client.queue:
                self.poll.modify(descriptor, EPOLLIN | EPOLLOUT)

    # --- its end

    def _clean(self) -> None:
        """Take back all that `_start` made."""
        for descriptor in list(self.sources):
            self._drop(descriptor)
        for descriptor in {self.input, self.tty, self.pidfd} - {-1}:
            os.close(descriptor)
        self.input = self.tty = self.pidfd = self.pid = -1
        self.waiting_input.clear()
        self.runtime.delete(self.task.id)
        for held in self.holding:
            held.close()
        self.holding = []

    def _clean_after(self, error: VelociError) -> None:
        """As `_clean`, for a start that failed with `error`, which says more than a failure to clean up does."""
        try:
            self._clean()
        except VelociError as later:
            error.hint = error.hint or f"something of it may be left: {later}"

    def _leave(self) -> None:
        """Let go of what the whole life of the container had: its network, its root file system, its log."""
        self._detach()
        umount(f"{self.bundle}/rootfs", MNT_DETACH)
        os.close(self.root)
        if self.log:
            self.log.close()
        self.server.close()
        _unlink(f"{self.task.run}/monitor.sock")
        _unlink(f"{self.task.run}/state.json")

    def _detach(self) -> None:
        if self.task.lease is not None:
            from veloci.network.networks import Networks

            Networks(self.task.networks).detach(self.task.lease)
            _unlink(f"{self.task.run}/lease.json")

    def _pause(self, seconds: float) -> bool:
        """Wait before the next start, serving clients. Returns whether somebody stopped it meanwhile."""
        self._save("restarting")
        end = monotonic() + seconds
        while not self.by_hand and (left := end - monotonic()) > 0:
            for descriptor, events in self._ready(left):
                self._serve(descriptor, events)
        return self.by_hand

    def _record(self, code: int, error: str) -> None:
        """How it ended, for whoever asks later."""
        known = state.read(f"{self.task.run}/state.json") or {}
        ended = state.State.convert(known).replace(status="exited", pid=0, monitor=0, exit_code=code, error=error)
        ended = ended.replace(finished_at=time_ns(), restarts=self.restarts)
        state.write(f"{self.task.data}/exit.json", ended.plain())

    def _save(self, status: str, *, started_at: int = 0) -> None:
        pid = max(self.pid, 0)
        now = state.State(
            status=status,
            pid=pid,
            ticks=state.ticks(pid) if pid else 0,
            boot=state.boot_id(),
            monitor=os.getpid(),
            started_at=started_at,
            restarts=self.restarts,
        )
        state.write(f"{self.task.run}/state.json", now.plain())


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def apart() -> None:
    """Leave the caller's session, terminal and signals: what is typed at it does not end a container's monitor."""
    os.setsid()
    for number in (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE):
        signal(number, SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
    os.chdir("/")


def failure(error: VelociError | None) -> bytes:
    """An error as a message for the caller; b"{}" is none."""
    if error is None:
        return b"{}"
    fields = {"message": str(error), "hint": error.hint, "exit_status": error.exit_status}
    return dumps(fields)

"""A monitor: it makes one container, watches it, keeps its log and its exit status, and cleans up after it.

    create ─▶ attach the network ─▶ start ─▶ copy stdio, serve clients ─▶ it ends ─▶ clean up ─▶ again, or the end

One process with one thread, in a mount namespace of its own, in which the container's root file system is mounted:
it is gone with the last process of the container, also after kill -9.
"""

from __future__ import annotations

import os
from _signal import SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGTERM, signal
from select import EPOLLIN, epoll
from time import monotonic, time_ns

from veloci.errors import VelociError
from veloci.kernel.mount import MNT_DETACH, MS_REC, MS_SLAVE, mount, move_mount, umount
from veloci.kernel.process import CLONE_NEWNS, unshare
from veloci.monitor import events, policy, runtimes, state
from veloci.monitor.clients import Clients
from veloci.monitor.logs import Log
from veloci.monitor.streams import Streams
from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from veloci.monitor.health import Prober
    from veloci.monitor.session import Client
    from veloci.monitor.task import Task

_NEVER_RAN = 128  # docker's exit status of a container that could not be started again


class Monitor:
    """The one container of this process."""

    def __init__(self, task: Task, root: int, first: socket | None) -> None:
        """root: descriptor of the detached mount of the root file system. first: a client that is there already."""
        self.task, self.root = task, root
        self.bundle = f"{task.data}/bundle"
        self.poll = epoll()
        self.clients = Clients(self.poll, task.run)
        self.attached = first is not None
        if first is not None:
            self.clients.welcome(first, output=True)
        self.streams = Streams(self.poll, self._written)
        self.runtime = runtimes.named(task.runtime, task.run_root, task.run, networked=task.lease is not None)
        bounds = {"max_size": task.log_size, "max_files": task.log_files}
        self.log = Log(f"{task.data}/log", attributes=task.log_attributes, **bounds) if task.log else None
        self.pid = self.pidfd = -1
        self.by_hand = False
        self.holding: list[socket] = []
        self.restarts = 0
        self.started_at = 0
        self.status = "created"
        self.health: Prober | None = None
        self.last = state.State()  # how it ended last

    def run(self, ready: Callable[[VelociError | None], None], ended: Callable[[int], None]) -> None:
        """Make it, watch it, start it again where its policy says so.

        ready: called once, when it runs, or with the reason why it does not. ended: called with the exit status
        when it has ended for good and is cleaned up, before clients are told.
        """
        self._enter()
        if self.attached:
            self._tell("attach")
        error = self._start()
        if error:
            self._record("created", error.exit_status or 125, str(error))
            self._leave()
            ready(error)
            return
        ready(None)
        pause = 0.0
        while True:
            began = monotonic()
            code = self._watch()
            if not policy.again(self.task.restart, exit_code=code, restarts=self.restarts, by_hand=self.by_hand):
                break
            pause = policy.pause(pause, uptime=monotonic() - began)
            self._save("restarting")
            self.clients.finish(b"x%d" % code)  # as docker: an attached client ends with each end of the container
            if self._pause(pause):
                break
            self.restarts += 1
            error = self._start()
            if error:
                code = error.exit_status or _NEVER_RAN
                self._record("exited", code, str(error))
                break
        self._leave()
        ended(code)
        self.clients.finish(b"x%d" % code)

    # --- its making

    def _enter(self) -> None:
        """A mount namespace of our own, with the root file system in the bundle."""
        unshare(CLONE_NEWNS)
        mount("", "/", flags=MS_SLAVE | MS_REC)
        move_mount(self.root, f"{self.bundle}/rootfs")

    def _start(self) -> VelociError | None:
        """Create, connect, start. Returns why that could not be done; then nothing of it is left."""
        events.tell_uses(self.task.run_root, self.task.uses, begin=True)
        try:
            self._create()
            self._connect()
            self.runtime.start(self.task.id)
        except VelociError as error:
            self._clean_after(error)
            events.tell_uses(self.task.run_root, self.task.uses, begin=False)
            return error
        self.started_at = time_ns()
        self._examine()
        self._save("running")
        self._tell("start")
        return None

    def _examine(self) -> None:
        """Begin to look after its health, if it says how."""
        if not self.task.health:
            return
        from veloci.monitor.health import Check, Prober

        check = Check(self.task.health, tuple(self.task.health.get("Shell") or ()))
        if check.args:
            self.health = Prober(self.poll, check, self._look, f"{self.task.data}/health.json")

    def _look(self, args: list[str], output: int) -> int:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            process = {**self.task.config["process"], "args": args, "terminal": False}
            return self.runtime.exec(self.task.id, process, (null, output, output))[0]
        finally:
            os.close(null)

    def _create(self) -> None:
        task = self.task
        terminal = bool(task.config["process"].get("terminal"))
        stdio = self.streams.pipes(terminal=terminal, stdin=task.stdin)
        try:
            if task.joined:
                from veloci.monitor.joined import Joined

                with Joined(task) as config:
                    self.pid, tty = self.runtime.create(task.id, self.bundle, config, stdio)
            else:
                self.pid, tty = self.runtime.create(task.id, self.bundle, task.config, stdio)
        finally:
            for descriptor in {*stdio}:
                os.close(descriptor)
        self.streams.watch(tty)
        if task.rows:
            self.streams.resize(task.rows, task.columns)
        self.pidfd = os.pidfd_open(self.pid)
        self.poll.register(self.pidfd, EPOLLIN)

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

    # --- its life

    def _watch(self) -> int:
        """Serve until it ends, and clean up. Returns its exit status."""
        while not self._turn(self.health.patience() if self.health else -1):
            pass
        if self.health:
            self.health.end()
            self.health = None
        _, status = os.waitpid(self.pid, 0)
        self.streams.drain()
        if self.log:
            self.log.flush()
        code = os.waitstatus_to_exitcode(status)
        code = code if code >= 0 else 128 - code
        killed = self.runtime.out_of_memory(self.task.id)
        trouble = VelociError("")
        self._clean_after(trouble)  # its exit status is known, whatever the clean-up meets
        self._record("exited", code, trouble.hint, oom_killed=killed)
        if killed:
            self._tell("oom")
        self._tell("die", exitCode=str(code))
        events.tell_uses(self.task.run_root, self.task.uses, begin=False)
        return code

    def _turn(self, seconds: float) -> bool:
        """Serve what is ready, or becomes it within `seconds` (-1: ever). Returns whether its process has ended."""
        ended = False
        for descriptor, ready in self.poll.poll(seconds):
            if descriptor == self.pidfd:
                ended = True
            elif descriptor in self.clients:
                said = self.clients.serve(descriptor, ready)
                if said:
                    self._heard(*said)
            elif descriptor in self.streams:
                self.streams.serve(descriptor, ready)
            elif self.health and descriptor in self.health and self.health.serve(descriptor):
                self._changed_health()
        self.streams.flow(flowing=not self.clients.behind)
        if self.health and not ended and self.health.act():
            self._changed_health()
        return ended

    def _changed_health(self) -> None:
        if self.health:
            self._save(self.status)
            self._tell(f"health_status: {self.health.status}")

    def _tell(self, action: str, **attributes: str) -> None:
        """Add to the journal of events."""
        events.tell(self.task.run_root, self.task.data, action, **attributes)

    def _written(self, name: str, data: bytes) -> None:
        if self.log:
            self.log.write(name, data)
        self.clients.tell((b"o" if name == "stdout" else b"e") + data)

    def _heard(self, client: Client, message: bytes) -> None:
        try:
            self._obey(client, message)
        except (ValueError, TypeError, KeyError) as error:  # nothing that we know of: the container is to go on
            self.clients.send(client, b"n" + failure(VelociError(f"the monitor does not understand: {error!r}")))

    def _obey(self, client: Client, message: bytes) -> None:
        kind, data = message[:1], message[1:]
        if kind == b"a":
            if not client.output:  # one that was there before the start was told of then
                self._tell("attach")
            client.output, client.input = b"o" in data, b"i" in data
        elif kind == b"i":
            self.streams.feed(data, lambda more: self.clients.send(client, b"w" if more else b"z"))
        elif kind == b"c" or (not kind and client.input and self.streams.tty < 0):
            if self.task.stdin_once:
                self.streams.end_input()
        elif kind == b"r":
            self.streams.resize(*map(int, data.split()))
        elif kind in (b"k", b"h"):
            self.by_hand = self.by_hand or kind == b"h"
            self._signal(int(data))
            self._tell("kill", signal=str(int(data)))
        elif kind in (b"p", b"u", b"U"):
            try:
                self._change(kind, data)
            except VelociError as error:
                self.clients.send(client, b"n" + failure(error))
            else:
                self.clients.send(client, b"y")

    def _change(self, kind: bytes, data: bytes) -> None:
        """Pause it, let it go on, or change its limits and its policy. Raises VelociError."""
        if kind == b"p":
            self.runtime.pause(self.task.id)
            self._save("paused")
            self._tell("pause")
        elif kind == b"u":
            self.runtime.resume(self.task.id)
            self._save("running")
            self._tell("unpause")
        else:
            changes = loads(data)
            if self.pidfd >= 0 and changes.get("resources"):
                self.runtime.update(self.task.id, changes["resources"])
            if "restart" in changes:
                self.task = self.task.replace(restart=policy.Restart.convert(changes["restart"]))

    def _signal(self, number: int) -> None:
        if self.pidfd < 0:
            return
        try:
            if number == SIGKILL and self.status == "paused":
                self.runtime.resume(self.task.id)  # a frozen process does not die
            self.runtime.kill(self.task.id, number)
        except VelociError:
            return  # it ended meanwhile

    def _pause(self, seconds: float) -> bool:
        """Wait before the next start, serving clients. Returns whether somebody stopped it meanwhile."""
        end = monotonic() + seconds
        while not self.by_hand and (left := end - monotonic()) > 0:
            self._turn(left)
        return self.by_hand

    # --- its end

    def _clean(self) -> None:
        """Take back all that `_start` made."""
        self.streams.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = self.pid = -1
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
        _unlink(f"{self.task.run}/state.json")  # from here on it has ended, whoever looks
        self._detach()
        umount(f"{self.bundle}/rootfs", MNT_DETACH)
        os.close(self.root)
        if self.log:
            self.log.close()
        self.clients.close()
        _unlink(f"{self.task.run}/monitor.sock")

    def _detach(self) -> None:
        if self.task.lease is not None:
            from veloci.network.networks import Networks

            Networks(self.task.networks).detach(self.task.lease)
            _unlink(f"{self.task.run}/lease.json")

    def _record(self, status: str, code: int, error: str, *, oom_killed: bool = False) -> None:
        """How it ended, for whoever asks later."""
        self.last = state.State(
            status=status,
            exit_code=code,
            error=error,
            oom_killed=oom_killed,
            started_at=self.started_at,
            finished_at=time_ns() if self.started_at else 0,
            restarts=self.restarts,
        )
        try:
            state.write(f"{self.task.data}/exit.json", self.last.plain())
        except OSError as trouble:  # a full disk is no reason to leave the rest undone
            self._tell("die", exitCode=str(code), error=str(trouble))

    def _save(self, status: str) -> None:
        """What it is now. While it waits to be started again, how it ended last is shown with that."""
        if self.health and status != self.status:
            self.health.hold(still=status == "paused")
        self.status = status
        pid = max(self.pid, 0)
        now = state.State(
            status=status,
            pid=pid,
            ticks=state.ticks(pid) if pid else 0,
            boot=state.boot_id(),
            monitor=os.getpid(),
            started_at=self.started_at,
            finished_at=self.last.finished_at,
            exit_code=0 if pid else self.last.exit_code,
            oom_killed=not pid and self.last.oom_killed,
            health=self.health.status if self.health else "",
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
        signal(number, lambda _number, _frame: None)  # not SIG_IGN, which the container would inherit
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
    os.chdir("/")


def failure(error: VelociError | None) -> bytes:
    """An error as a message for the caller; b"{}" is none."""
    return dumps(error.plain() if error else {})

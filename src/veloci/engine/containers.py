"""Containers as a user knows them: created, started, stopped, looked at, removed."""

from __future__ import annotations

import os
from time import monotonic, sleep

from veloci.engine import host_files
from veloci.engine.description import asked_health, asked_log, uses
from veloci.engine.record import Record, Records, has_names
from veloci.errors import Conflict, NotFound, VelociError
from veloci.monitor import session, spawn, state
from veloci.monitor.task import Task
from veloci.spec.document import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from veloci.bundle.options import Options
    from veloci.engine.engine import Engine
    from veloci.engine.orphans import Orphan
    from veloci.engine.run_options import RunOptions
    from veloci.transport.place import Progress


class Containers:
    """The containers of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.records = Records(engine.root, engine.run_root)

    # --- making

    def create(
        self,
        image: str,
        command: Sequence[str] = (),
        options: RunOptions | None = None,
        *,
        stdin_once: bool = True,
        progress: Progress | None = None,
    ) -> str:
        """Make a container of an image, pulled if it is missing; nothing runs yet. Returns its ID.

        command: instead of the image's. stdin_once: its input ends with the first client that gives some.
        On failure nothing of it is left. Raises NotFound, InvalidInput, Unsupported, Conflict, Denied.
        """
        from veloci.engine.creation import Creation
        from veloci.engine.run_options import RunOptions

        id = Creation(self._engine, image, command, options or RunOptions(), stdin_once=stdin_once).make(progress)
        self.tell(id, "create")
        return id

    def tell(self, id: str, action: str, **attributes: str) -> None:
        """Add to the journal of events what was done to the container with this whole ID."""
        from veloci.monitor import events

        events.tell(self._engine.run_root, self.records.data(id), action, **attributes)

    # --- running

    def start(self, word: str, *, attach: bool = False, running: bool = False) -> socket | None:
        """Run a created or ended container. attach: gives a connection that sees its output from the first byte.

        running: one that runs is left alone. Raises NotFound, Conflict if it runs, and what the runtime says,
        with docker's 126 and 127.
        """
        from veloci.monitor.console import window

        id = self.records.find(word)
        record = self.records.load(id)
        size = (record.tty and window()) or (0, 0)
        data, run = self.records.data(id), self.records.run(id)
        status = self.records.current(id).status
        if status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead", hint=f"veloci unpause {word}")
        if status in state.LIVE:
            if running:
                return None
            raise Conflict(f"container {record.name} is already running")
        os.makedirs(run, 0o700, exist_ok=True)
        lock = self._held(id)
        root, lease, pair = -1, None, None
        try:
            if os.path.exists(f"{run}/state.json"):
                self.orphan(id).clean()
            lease = self._lease(record)
            host_files.write(record, lease, data)
            with open(f"{data}/bundle/config.json", "rb") as file:
                config = loads(file.read())
            root = self._root(id, config)
            if attach:
                pair = session.pair()
            task = Task(
                id=id,
                data=data,
                run=run,
                run_root=self._engine.run_root,
                networks=f"{self._engine.root}/networks",
                runtime=record.runtime,
                config=config,
                joined=record.joined,
                lease=lease,
                uses=uses(record, lease),
                stdin=record.stdin,
                stdin_once=record.stdin_once,
                rows=size[0],
                columns=size[1],
                restart=record.restart,
                health=asked_health(record),
                **asked_log(record),
            )
            self.announce(record)
            self._spawn(task, root, lock, pair)
        except BaseException:
            if lease is not None:
                self._engine.networks.detach(lease)
                self.announce(record)
            if pair is not None:
                pair[0].close()
            raise
        finally:
            os.close(lock)
            if root >= 0:
                os.close(root)
        return pair[0] if pair else None

    def _root(self, id: str, config: dict[str, Any]) -> int:
        """A descriptor of its root file system's mount, whose files belong to the users of its user namespace."""
        if not config["linux"].get("uidMappings"):
            return self._engine.snapshots.mount(id)
        from veloci.engine.users import namespace

        users = namespace(config["linux"])
        try:
            return self._engine.snapshots.mount(id, users)
        finally:
            os.close(users)

    def _spawn(self, task: Task, root: int, lock: int, pair: tuple[socket, socket] | None) -> None:
        if self._engine.forks:
            spawn.forked(task, root, pair, self.ended(task.id))
            self._let_go(task)  # of what the monitor has inherited
        else:
            self._let_go(task)  # so that the monitor can take them
            roots = (self._engine.root, self._engine.run_root)
            spawn.started(task, root, lock, pair[1] if pair else None, "veloci.engine.supervise", *roots)

    def _let_go(self, task: Task) -> None:
        """Close the sockets that keep the published ports."""
        if task.lease is not None:
            for held in self._engine.networks.hold(task.lease):
                held.close()

    def ended(self, id: str) -> Callable[[int], None]:
        """What a container's monitor does at its end: remove it if that was asked for."""

        def finish(_code: int) -> None:
            if not os.path.exists(self.records.data(id)):  # a build's step
                return
            record = self.records.load(id)
            self.announce(record)
            if record.auto_remove:
                self._forget(record, volumes=True)

        return finish

    def announce(self, record: Record) -> None:
        """Let the containers of its network know that it came, went, or has another name."""
        if has_names(record.network):
            from veloci.engine.names import announce

            announce(self._engine, record.network)

    def rename(self, word: str, name: str) -> None:
        """Give it another name. Raises NotFound, Conflict, InvalidInput."""
        from veloci.engine.lasting import keep

        record = self.records.load(self.records.find(word))
        self.records.rename(record, name)
        keep(self._engine, record.id)
        self.tell(record.id, "rename", oldName=f"/{record.name}")
        self.announce(record)

    def _lease(self, record: Record) -> dict[str, Any] | None:
        if not record.addressed:
            return None
        from veloci.network.ports import Port

        lease: dict[str, Any] = self._engine.networks.prepare(
            record.network,
            record.id,
            ports=[Port.convert(port) for port in record.ports],
            address=record.address or None,
            mac=record.mac or None,
        )
        self._engine.warn(*lease.get("warnings", ()))
        state.write(f"{self.records.run(record.id)}/lease.json", lease)
        return lease

    def connect(self, word: str) -> socket:
        """A connection to a running container's monitor. Raises NotFound, Conflict."""
        id = self.records.find(word)
        try:
            return session.connect(self.records.run(id))
        except Conflict:
            raise Conflict(f"container {word} is not running", hint=f"veloci start {word}") from None

    def kill(self, word: str, number: int, *, by_hand: bool = False) -> None:
        """Send a signal to its first process. by_hand: it is not to be started again. Raises NotFound, Conflict."""
        try:
            connection = self.connect(word)
        except Conflict:
            orphan = self.orphan(self.records.find(word))
            if not orphan.running:
                raise
            orphan.signal(number)
            return
        connection.send((b"h" if by_hand else b"k") + b"%d" % number)
        connection.close()

    def stop(self, word: str, *, timeout: int | None = None) -> None:
        """Ask it to end, and kill it after `timeout` seconds (None: as it was made). One that has ended is fine."""
        self.stopping(word, timeout=timeout)()

    def stopping(self, word: str, *, timeout: int | None = None, signal: int | None = None) -> Callable[[], None]:
        """Ask it to end. Gives what waits for that, and kills it in the end: so many end side by side.

        signal: instead of the one it was made with. Raises NotFound.
        """
        from veloci.engine.stopping import begun, signal_number

        record = self.records.load(self.records.find(word))
        seconds = record.stop_timeout if timeout is None else timeout
        return begun(self._engine, record, signal or signal_number(record.stop_signal), seconds)

    def orphan(self, id: str) -> Orphan:
        """What to do with it when it has no monitor."""
        from veloci.engine.orphans import Orphan

        return Orphan(self._engine, self.records.load(id))

    def wait(self, word: str) -> int:
        """Wait until it has ended. Returns its exit status. Raises NotFound."""
        id = self.records.find(word)
        try:
            connection = self.connect(id)
        except Conflict:
            self.orphan(id).await_end()
            return self.records.current(id).exit_code
        from veloci.engine.stopping import await_end

        code = await_end(connection)
        connection.close()
        return self.records.current(id).exit_code if code is None else code

    def remove(self, word: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it. Raises NotFound, Conflict if it runs, unless `force` kills it.

        volumes: its anonymous volumes, too, where no other container has them.
        """
        id = self.records.find(word)
        if self.records.busy(id):
            raise NotFound(f"no such container: {word}: it is being made")
        try:
            lock = self._stopped(id, word, force=force)
        except (FileNotFoundError, NotFound):
            if not os.path.isdir(self.records.data(id)):
                return  # it removed itself
            raise
        try:
            try:
                record = self.records.load(id)
                self.orphan(id).clean()
            except VelociError:
                if not force:
                    raise
                self.records.forget(id, "" if word == id else word, lambda: self._engine.snapshots.remove(id))
                return
            self._forget(record, volumes=volumes or record.auto_remove)
        finally:
            os.close(lock)

    def _stopped(self, id: str, word: str, *, force: bool) -> int:
        """Its lock, once it has ended. Raises Conflict if it runs and `force` does not end it."""
        end = monotonic() + 10
        while True:
            try:
                status = self.records.current(id).status
            except VelociError:  # a damaged file
                if not force:
                    raise
                status = ""
            if status in state.LIVE:
                if not force:
                    hint = f"veloci stop {word}, or veloci rm -f {word}"
                    raise Conflict(f"cannot remove container {word}: it is {status}", hint=hint)
                self.stop(id, timeout=0)
            try:
                return self._held(id)
            except Conflict:  # it was started again
                if monotonic() > end:
                    raise

    def _held(self, id: str) -> int:
        """Its lock, once the monitor of one that has ended lets go of it. Raises Conflict."""
        end = monotonic() + 10
        while True:
            try:
                return state.hold(self.records.data(id))
            except Conflict:
                if monotonic() > end or self._status(id) in state.LIVE:
                    raise
                sleep(0.005)

    def _status(self, id: str) -> str:
        """Its status, "" where that is damaged."""
        try:
            return self.records.current(id).status
        except VelociError:
            return ""

    def _forget(self, record: Record, *, volumes: bool) -> None:
        """Remove what lasts of a container that has ended. volumes: also its anonymous ones."""
        self.tell(record.id, "destroy")
        self.records.forget(record.id, record.name, lambda: self._engine.snapshots.remove(record.id))
        for point in record.mounts:
            if point["type"] == "volume":
                self._engine.volumes.release(point["name"], record.id, remove=volumes and point.get("anonymous", False))

    def settled(self, word: str) -> None:
        """Wait, ten seconds at most, until its monitor has let go of it. Raises NotFound."""
        id = self.records.find(word)
        end = monotonic() + 10
        while os.path.isdir(self.records.data(id)) and state.held(self.records.data(id)) and monotonic() < end:
            sleep(0.005)

    def export(self, word: str) -> Iterator[bytes]:
        """Its root file system as an uncompressed tar. Raises NotFound."""
        from veloci.layer.diff import tree

        mounted = self._engine.snapshots.mount(self.records.find(word))
        try:
            root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted)
        finally:
            os.close(mounted)  # the open directory keeps it
        try:
            yield from tree(root)
        finally:
            os.close(root)

    def exec(self, word: str, args: Sequence[str], options: Options, stdio: tuple[int, int, int]) -> tuple[int, int]:
        """Run another process in it. Returns its PID, a child of ours, and its terminal or -1.

        The calling process must have one thread. Raises NotFound, Conflict if it does not run.
        """
        from veloci.bundle.configure import process
        from veloci.engine.creation import read_account_file
        from veloci.monitor import console, runtimes

        id = self.records.find(word)
        now, record = self.records.current(id), self.records.load(id)
        if now.status == "paused":
            raise Conflict(f"container {word} is paused", hint=f"veloci unpause {word}")
        if now.status != "running":
            raise Conflict(f"container {word} is not running", hint=f"veloci start {word}")
        with open(f"{self.records.data(id)}/bundle/config.json", "rb") as file:
            config = loads(file.read())
        root = os.open(f"/proc/{now.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            added = process(
                config, args, options, passwd=read_account_file(root, "passwd"), group=read_account_file(root, "group")
            )
        finally:
            os.close(root)
        size = console.window() if options.tty else None
        if size:  # it is there before the program looks
            added["consoleSize"] = {"height": size[0], "width": size[1]}
        self.tell(id, f"exec_create: {' '.join(args)}")
        runtime = runtimes.named(record.runtime, self._engine.run_root, self.records.run(id))
        started = runtime.exec(id, added, stdio)
        self.tell(id, f"exec_start: {' '.join(args)}")
        return started

    def inspect(self, word: str) -> dict[str, Any]:
        """It in docker's shape. Raises NotFound."""
        from veloci.engine.description import described

        return described(self._engine, self.records.load(self.records.find(word)))

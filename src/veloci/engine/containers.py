"""Containers as a user knows them: created, started, stopped, looked at, removed."""

from __future__ import annotations

import os
from time import monotonic, sleep, time_ns

from veloci.bundle.configure import configure
from veloci.bundle.options import Options
from veloci.engine.record import Record, Records
from veloci.errors import Conflict, Denied, InvalidInput, VelociError
from veloci.monitor import session, spawn, state
from veloci.monitor.policy import Restart
from veloci.monitor.task import Task
from veloci.spec.document import Document, Json, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from veloci.engine.engine import Engine
    from veloci.image.image import Image

_PASSWD = 1 << 20  # bytes read at most of the image's passwd and group


class Settings(Document):
    """What a container is made with besides its image."""

    options: Options = Options()
    name: str = ""
    network: str = "bridge"
    ports: tuple[Json, ...] = ()  # network.ports.Port, plain
    restart: Restart = Restart()
    auto_remove: bool = False
    stdin: bool = False
    pull: str = "missing"
    runtime: str = "veloci"
    stop_signal: str = ""
    stop_timeout: int = 10  # seconds
    labels: dict[str, str] = {}
    hosts: tuple[str, ...] = ()  # NAME:ADDRESS
    dns: tuple[str, ...] = ()


class Containers:
    """The containers of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.records = Records(engine.root, engine.run_root)

    # --- making

    def create(self, image: str, settings: Settings | None = None) -> str:
        """Make a container of an image, pulled if it is missing; nothing runs yet. Returns its ID.

        On failure nothing of it is left. Raises NotFound, InvalidInput, Conflict, Denied.
        """
        if os.geteuid() != 0:
            raise Denied("making a container needs root", hint="sudo veloci …")
        settings = settings or Settings()
        found = self._engine.images.get(image, pull=settings.pull)
        chain_id = self._engine.images.unpacked(found)
        id, name = self.records.claim(settings.name)
        try:
            self._engine.snapshots.prepare(id, chain_id)
            self._write(id, name, image, found, chain_id, settings)
        except BaseException:
            self._engine.snapshots.remove(id)
            self.records.forget(id, name)
            raise
        return id

    def _write(self, id: str, name: str, image: str, found: Image, chain_id: str, settings: Settings) -> None:
        options, data = settings.options, self.records.data(id)
        files = [_file(data, "hosts"), _file(data, "hostname"), _file(data, "resolv.conf")]
        options = options.replace(
            mounts=(*files, *options.mounts),
            namespaces={**options.namespaces, **self._network_namespace(settings.network)},
        )
        root = self._engine.snapshots.mount(id)
        try:
            config = configure(found.config, options, id=id, passwd=_read(root, "passwd"), group=_read(root, "group"))
        finally:
            os.close(root)
        record = Record(
            id=id,
            name=name,
            image=image,
            image_id=found.id,
            chain_id=chain_id,
            created=time_ns(),
            runtime=settings.runtime,
            network=settings.network,
            ports=settings.ports,
            restart=settings.restart,
            auto_remove=settings.auto_remove,
            stdin=settings.stdin,
            tty=options.tty,
            stop_signal=settings.stop_signal or found.config.config.stop_signal or "SIGTERM",
            stop_timeout=settings.stop_timeout,
            labels={**found.config.config.labels, **settings.labels},
            hostname=str(config.get("hostname") or os.uname().nodename),
            hosts=settings.hosts,
            dns=settings.dns,
            command=tuple(config["process"]["args"]),
        )
        with open(f"{data}/bundle/config.json", "wb") as file:
            file.write(dumps(config))
        for place in ("hosts", "hostname", "resolv.conf"):
            with open(f"{data}/{place}", "wb"):
                pass
        self.records.save(record)

    def _network_namespace(self, network: str) -> dict[str, str]:
        if network == "host":
            return {"network": "host"}
        if network.startswith("container:"):
            pid = self.records.current(self.records.find(network.removeprefix("container:"))).pid
            if not pid:
                raise Conflict(f"{network.removeprefix('container:')} is not running, its network cannot be joined")
            return {"network": f"/proc/{pid}/ns/net"}
        return {}

    # --- running

    def start(self, word: str, *, attach: bool = False) -> socket | None:
        """Run a created or ended container. attach: gives a connection that sees its output from the first byte.

        Raises NotFound, Conflict if it runs, and what the runtime says, with docker's 126 and 127.
        """
        from veloci.monitor.console import window

        id = self.records.find(word)
        record = self.records.load(id)
        size = (record.tty and window()) or (0, 0)
        data, run = self.records.data(id), self.records.run(id)
        if self.records.current(id).status in ("running", "paused", "restarting"):
            raise Conflict(f"container {record.name} is already running")
        os.makedirs(run, 0o700, exist_ok=True)
        lock = state.hold(data)
        root, lease, ours, theirs = -1, None, None, None
        try:
            lease = self._lease(record)
            self._host_files(record, lease)
            root = self._engine.snapshots.mount(id)
            if attach:
                ours, theirs = session.pair()
            with open(f"{data}/bundle/config.json", "rb") as file:
                config = loads(file.read())
            task = Task(
                id=id,
                data=data,
                run=run,
                run_root=self._engine.run_root,
                networks=f"{self._engine.root}/networks",
                runtime=record.runtime,
                config=config,
                lease=lease,
                stdin=record.stdin,
                rows=size[0],
                columns=size[1],
                restart=record.restart,
            )
            self._spawn(task, root, lock, theirs)
        except BaseException:
            if lease is not None:
                self._engine.networks.detach(lease)
            if ours is not None:
                ours.close()
            raise
        finally:
            os.close(lock)
            if root >= 0:
                os.close(root)
        return ours

    def _spawn(self, task: Task, root: int, lock: int, first: socket | None) -> None:
        if self._engine.forks:
            spawn.forked(task, root, first, self.ended(task.id))
        else:
            roots = (self._engine.root, self._engine.run_root)
            spawn.started(task, root, lock, first, "veloci.engine.supervise", *roots)
        if task.lease is not None:
            for held in self._engine.networks.hold(task.lease):
                held.close()  # the monitor has them

    def ended(self, id: str) -> Callable[[int], None]:
        """What a container's monitor does at its end: remove it if that was asked for."""

        def finish(_code: int) -> None:
            if not os.path.exists(self.records.data(id)):  # a build's step
                return
            record = self.records.load(id)
            if record.auto_remove:
                self._engine.snapshots.remove(id)
                self.records.forget(id, record.name)

        return finish

    def _lease(self, record: Record) -> dict[str, Any] | None:
        if record.network in ("none", "host") or record.network.startswith("container:"):
            return None
        from veloci.network.ports import Port

        ports = [Port.convert(port) for port in record.ports]
        lease: dict[str, Any] = self._engine.networks.prepare(record.network, record.id, ports=ports)
        state.write(f"{self.records.run(record.id)}/lease.json", lease)
        return lease

    def _host_files(self, record: Record, lease: dict[str, Any] | None) -> None:
        """Write /etc/hosts, hostname and resolv.conf, which are bound into the container."""
        from veloci.bundle.hostfiles import hosts, resolv

        data = self.records.data(record.id)
        names = [(address, name) for name, _, address in (entry.partition(":") for entry in record.hosts)]
        if lease:
            names.append((lease["address"], record.hostname))
        base = _text("/etc/hosts") if record.network == "host" else ""
        resolver = resolv(_text("/etc/resolv.conf"), servers=record.dns, own_network=record.network != "host")
        texts = {"hosts": hosts(names, base=base), "hostname": record.hostname + "\n", "resolv.conf": resolver}
        for name, text in texts.items():
            with open(f"{data}/{name}", "w") as file:  # in place: it is bound into the container
                file.write(text)

    def connect(self, word: str) -> socket:
        """A connection to a running container's monitor. Raises NotFound, Conflict."""
        id = self.records.find(word)
        try:
            return session.connect(self.records.run(id))
        except Conflict:
            raise Conflict(f"container {word} is not running", hint=f"veloci start {word}") from None

    def kill(self, word: str, number: int, *, by_hand: bool = False) -> None:
        """Send a signal to its first process. by_hand: it is not to be started again. Raises NotFound, Conflict."""
        connection = self.connect(word)
        connection.send((b"h" if by_hand else b"k") + b"%d" % number)
        connection.close()

    def stop(self, word: str, *, timeout: int | None = None) -> None:
        """Ask it to end, and kill it after `timeout` seconds (None: as it was made). One that has ended is fine."""
        id = self.records.find(word)
        record = self.records.load(id)
        try:
            connection = self.connect(id)
        except Conflict:
            self._kill_orphan(id)
            return
        seconds = record.stop_timeout if timeout is None else timeout
        connection.send(b"h%d" % signal_number(record.stop_signal))
        if seconds >= 0:
            connection.settimeout(seconds or 0.001)
        if await_end(connection) is None:
            connection.settimeout(30)
            connection.send(b"h9")
            await_end(connection)
        connection.close()

    def _kill_orphan(self, id: str) -> None:
        """End what is left of a container whose monitor was killed."""
        from veloci.monitor import runtimes

        record = self.records.load(id)
        run = self.records.run(id)
        if os.path.isdir(run):
            runtimes.named(record.runtime, self._engine.run_root, run).delete(id)
        lease = state.read(f"{run}/lease.json")
        if lease is not None and not state.held(self.records.data(id)):
            self._engine.networks.detach(lease)

    def wait(self, word: str) -> int:
        """Wait until it has ended. Returns its exit status. Raises NotFound."""
        id = self.records.find(word)
        try:
            connection = self.connect(id)
        except Conflict:
            return self.records.current(id).exit_code
        code = await_end(connection)
        return self.records.current(id).exit_code if code is None else code

    def remove(self, word: str, *, force: bool = False) -> None:
        """Remove it. Raises NotFound, Conflict if it runs, unless `force` kills it."""
        id = self.records.find(word)
        if self.records.current(id).status in ("running", "paused", "restarting"):
            if not force:
                raise Conflict(f"cannot remove running container {word}", hint=f"veloci stop {word}, or veloci rm -f")
            self.stop(id, timeout=0)
        try:
            record = self.records.load(id)
            self._kill_orphan(id)
            name = record.name
        except VelociError:
            if not force:
                raise
            name = "" if word == id else word
        self.settled(id)
        self._engine.snapshots.remove(id)
        self.records.forget(id, name)

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
        from veloci.monitor import runtimes

        id = self.records.find(word)
        now, record = self.records.current(id), self.records.load(id)
        if now.status != "running":
            raise Conflict(f"container {word} is not running", hint=f"veloci start {word}")
        with open(f"{self.records.data(id)}/bundle/config.json", "rb") as file:
            config = loads(file.read())
        root = os.open(f"/proc/{now.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            added = process(config, args, options, passwd=_read(root, "passwd"), group=_read(root, "group"))
        finally:
            os.close(root)
        return runtimes.named(record.runtime, self._engine.run_root, self.records.run(id)).exec(id, added, stdio)

    def inspect(self, word: str) -> dict[str, Any]:
        """It in docker's shape. Raises NotFound."""
        from veloci.engine.description import described

        id = self.records.find(word)
        lease = state.read(f"{self.records.run(id)}/lease.json")
        return described(self.records.load(id), self.records.current(id), lease, self.records.data(id))


def await_end(connection: socket) -> int | None:
    """The exit status that the monitor sends last; None if it takes longer than the connection's timeout."""
    try:
        while message := session.receive(connection):
            if message[:1] == b"x":
                return int(message[1:])
    except TimeoutError:
        return None
    except OSError:
        return None
    return None


def signal_number(text: str) -> int:
    """`SIGTERM`, `term` or `15` as a number. Raises InvalidInput."""
    import _signal

    name = text.upper()
    if name.isascii() and name.isdigit() and 0 < int(name) < 65:
        return int(name)
    number = getattr(_signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(number, int):
        raise InvalidInput(f"unknown signal {text!r}", hint="a name as in TERM, or a number")
    return number


def _file(data: str, name: str) -> dict[str, Any]:
    return {"destination": f"/etc/{name}", "type": "bind", "source": f"{data}/{name}", "options": ["rbind", "rprivate"]}


def _read(root: int, name: str) -> bytes:
    from veloci.kernel.files import read_in_root

    return read_in_root(root, f"/etc/{name}", _PASSWD)


def _text(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""

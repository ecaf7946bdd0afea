"""Containers as objects of a Python program, which may have threads.

with Engine().start("debian:12", ["sleep", "60"], RunOptions(memory="64m")) as box:
    print(box.exec(["cat", "/etc/os-release"]).text)
"""

from __future__ import annotations

from veloci.errors import VelociError
from veloci.monitor import session
from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Iterator, Sequence
    from typing import Any, Self

    from veloci.bundle.options import Options
    from veloci.engine.engine import Engine
    from veloci.engine.run_options import RunOptions

_WINDOW = 1 << 18  # bytes of input on their way to a container that does not read


class Finished(Document):
    """How a command in a container ended, and what it wrote. id: the container's, which is gone if it was --rm."""

    id: str
    exit_code: int  # 128 + N: signal N ended it
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """Its standard output as text."""
        return self.stdout.decode(errors="replace")

    def check(self) -> Self:
        """This value. Raises VelociError if the command failed."""
        if self.exit_code:
            said = self.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise VelociError(f"the command ended with {self.exit_code}: {said}", exit_status=self.exit_code)
        return self


class Container:
    """One container. In a `with` statement it is killed and removed at the end."""

    def __init__(self, engine: Engine, id: str) -> None:
        self._engine, self.id = engine, id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        from veloci.errors import NotFound

        try:
            self.remove(force=True, volumes=True)
        except NotFound:
            return  # it removed itself

    @property
    def name(self) -> str:
        """Its name. Raises NotFound."""
        return self._engine.containers.records.load(self.id).name

    @property
    def status(self) -> str:
        """created, running, paused, restarting or exited. Raises NotFound."""
        return str(self.inspect()["State"]["Status"])

    @property
    def address(self) -> str:
        """Its address in its network; "" if it has none or does not run. Raises NotFound."""
        return str(self.inspect()["NetworkSettings"]["IPAddress"])

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        """Where its ports are published on the host: `80/tcp` -> address and port. Raises NotFound."""
        found = self.inspect()["NetworkSettings"]["Ports"]
        return {inside: (at[0]["HostIp"], int(at[0]["HostPort"])) for inside, at in found.items() if at}

    def inspect(self) -> dict[str, Any]:
        """All that is known of it, in docker's shape. Raises NotFound."""
        return self._engine.containers.inspect(self.id)

    def start(self) -> None:
        """Run it (again). Raises what its runtime says."""
        self._engine.containers.start(self.id)

    def stop(self, *, timeout: int | None = None) -> None:
        """Ask it to end, and kill it after `timeout` seconds (None: as it was made)."""
        self._engine.containers.stop(self.id, timeout=timeout)

    def kill(self, signal: int = 9) -> None:
        """Send a signal to its first process. Raises Conflict if it does not run."""
        self._engine.containers.kill(self.id, signal, by_hand=True)

    def wait(self) -> int:
        """Wait until it has ended. Returns its exit status."""
        return self._engine.containers.wait(self.id)

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it. force: also if it runs. volumes: its anonymous volumes, too. Raises NotFound, Conflict."""
        self._engine.containers.remove(self.id, force=force, volumes=volumes)

    def logs(self) -> str:
        """What it has written so far, both streams, of the log that is kept."""
        from veloci.monitor.logs import Reader

        reader = Reader(f"{self._engine.containers.records.data(self.id)}/log", tail=None)
        try:
            return "".join(text for _, _, text, _ in reader.entries())
        finally:
            reader.close()

    def exec(self, args: Sequence[str], options: Options | None = None, *, input: bytes = b"") -> Finished:
        """Run another command in it to its end. options: env, user, workdir, privileged are read.

        Raises NotFound, Conflict if it does not run, and what the runtime says.
        """
        from veloci.bundle.options import Options
        from veloci.engine.exec_process import executed

        code, stdout, stderr = executed(self._engine, self.id, args, options or Options(), input)
        return Finished(id=self.id, exit_code=code, stdout=stdout, stderr=stderr)

    def export(self) -> Iterator[bytes]:
        """Its root file system as an uncompressed tar."""
        return self._engine.containers.export(self.id)


def run(engine: Engine, image: str, command: Sequence[str], options: RunOptions, input: bytes) -> Finished:
    """As Engine.run."""
    containers = engine.containers
    id = containers.create(image, command, options.replace(interactive=options.interactive or bool(input)))
    try:
        connection = containers.start(id, attach=True)
    except VelociError:
        if options.rm:
            containers.remove(id, force=True)
        raise
    assert connection is not None
    try:
        code, stdout, stderr = _talked(connection, input)
    finally:
        connection.close()
    return Finished(id=id, exit_code=code, stdout=stdout, stderr=stderr)


def _talked(connection: socket, input: bytes) -> tuple[int, bytes, bytes]:
    """Give the container its input and take its output until it ends."""
    written: dict[bytes, list[bytes]] = {b"o": [], b"e": []}
    session.say(connection, b"aoi" if input else b"ao")
    parts = [input[at : at + session.CHUNK] for at in range(0, len(input), session.CHUNK)]
    behind, closed = 0, not input
    while True:
        while not closed and behind < _WINDOW // session.CHUNK:
            part = parts.pop(0) if parts else b""
            closed = not part
            behind += 1
            session.say(connection, b"i" + part if part else b"c")
        message = session.receive(connection)
        kind, data = message[:1], message[1:]
        if kind == b"x":
            return int(data), b"".join(written[b"o"]), b"".join(written[b"e"])
        if not kind:
            raise VelociError("the container's monitor is gone", hint="veloci ps -a")
        if kind in written:
            written[kind].append(data)
        elif kind == b"w":
            behind -= 1
        elif kind == b"z":
            closed = True

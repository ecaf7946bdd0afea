"""What the engine keeps of a container, and how it is found by name or ID.

data()/containers/ID/    container.json, bundle/, log, exit.json, lock, hosts, hostname, resolv.conf
data()/containers/.names/NAME -> ID      a link, so that a name is taken by one container only
data()/containers/.making/               what is being made and removed (engine.making)
run()/containers/ID/     state.json, monitor.sock, lease.json
"""

from __future__ import annotations

import os

from veloci.engine.making import Making
from veloci.errors import Conflict, InvalidInput, NotFound
from veloci.monitor import state
from veloci.monitor.policy import Restart
from veloci.spec.document import Document, Json, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Networks that are only words for `--network`: driver, and an ID that is the same everywhere.
WORDS = {
    "host": ("host", "0f3e3fc97be29a3ff3649ba55956e1b9ac097f9d852a36248a7f2e3ad3b87693"),
    "none": ("null", "31f29bb7201d3933af996a0f2b1002b11e9dd85ff4f2b694019b44d4b7af38cb"),
}
_HEX = frozenset("0123456789abcdef")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_ADJECTIVES = (
    "agile bold brave bright brisk calm clever cool daring eager easy fair fast fine fit fleet fond free fresh glad "
    "gentle grand happy hardy jolly keen kind light lively lucky merry mild neat nimble noble patient plain polite "
    "proud quick quiet rapid ready robust sharp smart smooth snappy solid spry steady stoic sunny sure swift tidy "
    "tough tranquil trusting upbeat vivid warm wise witty zen"
).split()
_SURNAMES = (
    "agnesi babbage banach bartik bell bohr boole cantor cerf church cray curie darwin dijkstra dirac easley euler "
    "faraday fermat feynman floyd franklin galileo galois gauss goedel goldberg hamilton hawking hertz hilbert hopper "
    "hypatia jacobi jennings kalman kepler kernighan knuth lamarr lamport leavitt liskov lovelace maxwell mcnulty "
    "mendel noether pascal perlman planck poincare ptolemy ramanujan rhodes ride ritchie shannon sinoussi spence "
    "swartz thompson turing wilson wozniak wu yalow"
).split()


class Record(Document):
    """container.json. Times in nanoseconds since 1970."""

    id: str
    name: str
    image: str  # as the user wrote it
    image_id: str
    chain_id: str  # of the layers below its own
    created: int
    runtime: str = "veloci"
    network: str = "bridge"  # a network's name, none, host, container:ID or ns:PATH
    joined: dict[str, str] = {}  # a namespace's kind (network, pid, ipc) -> ID of the container whose it is
    aliases: tuple[str, ...] = ()  # further names in a network of the user's
    address: str = ""  # what was asked for in the network
    mac: str = ""
    ports: tuple[Json, ...] = ()  # network.ports.Port, plain
    mounts: tuple[Json, ...] = ()  # mount_points.Point, plain
    restart: Restart = Restart()
    auto_remove: bool = False
    stdin: bool = False
    stdin_once: bool = True  # it ends with the first client that had it
    tty: bool = False
    stop_signal: str = "SIGTERM"
    stop_timeout: int = 10  # seconds
    labels: dict[str, str] = {}
    hostname: str = ""
    hosts: tuple[str, ...] = ()  # NAME:ADDRESS
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()  # entrypoint and arguments together
    exposed: tuple[str, ...] = ()  # 80/tcp
    log: Json = None  # docker's LogConfig
    config: Json = None  # description.asked_config, for `inspect`
    host_config: Json = None  # what was asked for, for `inspect`

    @property
    def addressed(self) -> bool:
        """Whether it gets an address in a network of ours: host, none and another's namespace are no networks."""
        return self.network not in WORDS and ":" not in self.network


class Records:
    """The containers below an engine's directories."""

    def __init__(self, root: str, run_root: str) -> None:
        self.root, self.run_root = f"{root}/containers", f"{run_root}/containers"
        self._names = f"{self.root}/.names"
        self._making, self._graves = Making(f"{self.root}/.making"), Making(f"{self.run_root}/.making")

    def data(self, id: str) -> str:
        """The directory of what lasts."""
        return f"{self.root}/{id}"

    def run(self, id: str) -> str:
        """The directory of what a reboot may lose."""
        return f"{self.run_root}/{id}"

    def claim(self, name: str) -> tuple[str, str]:
        """A new ID with its directories, and its name ("": one is made up). Raises Conflict, InvalidInput.

        Until `save` or `forget` it counts as abandoned when this process ends.
        """
        id, name = os.urandom(32).hex(), name.removeprefix("/")
        for path in (self._names, self.run_root):
            os.makedirs(path, 0o700, exist_ok=True)
        if name:
            _check(name)
        self._making.begin(id)
        try:
            os.makedirs(f"{self.data(id)}/bundle/rootfs", 0o700)
            os.mkdir(self.run(id), 0o700)
            if name:
                self._take(name, id)
            else:
                name = self._invented(id)
        except BaseException:
            self.forget(id, "")
            raise
        return id, name

    def abandoned(self) -> Iterator[tuple[str, str]]:
        """What killed commands were making or removing: ID and name ("": it has none), locked until `forget`."""
        for id, _ in self._graves.abandoned():
            self._graves.end(id)
        for id, name in self._making.abandoned():
            if os.path.exists(f"{self.data(id)}/container.json"):  # it was whole, but for this
                self._making.end(id)
            else:
                yield id, name

    def busy(self, id: str) -> bool:
        """Whether another command is making it."""
        return self._making.busy(id)

    def _take(self, name: str, id: str) -> None:
        self._making.named(id, name)
        try:
            os.symlink(id, f"{self._names}/{name}")
        except FileExistsError:
            other = os.readlink(f"{self._names}/{name}")
            if os.path.isdir(self.data(other)):
                raise Conflict(
                    f"the container name {name!r} is already in use by container {other[:12]}",
                    hint=f"veloci rm {name}, or another name",
                ) from None
            os.unlink(f"{self._names}/{name}")  # its container was removed in the middle
            self._take(name, id)

    def _invented(self, id: str) -> str:
        while True:
            first, second, third = os.urandom(3)
            name = f"{_ADJECTIVES[first % len(_ADJECTIVES)]}_{_SURNAMES[second % len(_SURNAMES)]}"
            try:
                self._take(name, id)
            except Conflict:
                name = f"{name}{third}"
                try:
                    self._take(name, id)
                except Conflict:
                    continue
            return name

    def rename(self, record: Record, name: str) -> None:
        """Give it another name. Raises Conflict, InvalidInput."""
        name = name.removeprefix("/")
        _check(name)
        if name == record.name:
            raise Conflict(f"the container's name is {name!r} already")
        self._take(name, record.id)
        self.save(record.replace(name=name))
        os.unlink(f"{self._names}/{record.name}")

    def save(self, record: Record) -> None:
        """Write container.json."""
        state.write(f"{self.data(record.id)}/container.json", record.plain())
        self._making.end(record.id)

    def load(self, id: str) -> Record:
        """The record of the container with this whole ID. Raises NotFound, VelociError for a damaged file."""
        path = f"{self.data(id)}/container.json"
        value = state.read(path)
        if value is None:
            raise _missing(id)
        try:
            return Record.convert(value)
        except Wrong as error:
            raise state.damaged(path, f"${error.path}: {error}") from None

    def find(self, word: str) -> str:
        """The ID of a container, from its ID, name, or the beginning of its ID. Raises NotFound, Conflict."""
        whole = _HEX.issuperset(word)
        if whole and len(word) == 64 and os.path.isdir(self.data(word)):
            return word
        name = word.removeprefix("/")
        if name and "/" not in name:
            try:
                return os.readlink(f"{self._names}/{name}")
            except OSError:
                pass
        found = [id for id in self.ids() if id.startswith(word)] if whole and word else []
        if len(found) > 1:
            raise Conflict(f"{word!r} is the beginning of several containers' IDs", hint="write more of it")
        if not found:
            raise _missing(word)
        return found[0]

    def ids(self) -> list[str]:
        """Every container's ID."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return [name for name in names if len(name) == 64 and _HEX.issuperset(name)]

    def all(self) -> Iterator[Record]:
        """Every container that is whole, in no order; one that is being made or removed is left out."""
        for id in self.ids():
            try:
                yield self.load(id)
            except NotFound:
                continue

    def current(self, id: str) -> state.State:
        """Its state now."""
        return state.current(self.data(id), self.run(id))

    def forget(self, id: str, name: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Remove its directories and its name; what is gone already is well.

        meanwhile: removes what else there is of it, once it is out of sight; after a kill the next command does that.
        """
        self._making.bury(id, self.data(id))
        try:
            if name and os.readlink(f"{self._names}/{name}") == id:
                os.unlink(f"{self._names}/{name}")
        except OSError:  # it is gone, or was never a name
            pass
        if meanwhile:
            meanwhile()
        self._graves.bury(id, self.run(id))
        self._graves.end(id)
        self._making.end(id)


def has_names(network: str) -> bool:
    """Whether containers in it know each other by name: it is one that the user made."""
    return network not in ("bridge", "default", "none", "host") and ":" not in network


def _check(name: str) -> None:
    if len(name) < 2 or name[0] in "_.-" or not _NAME.issuperset(name) or len(name) > 128:
        raise InvalidInput(
            f"invalid container name {name!r}", hint="letters, digits and _ . - after the first, at least two"
        )


def _missing(word: str) -> NotFound:
    return NotFound(f"no such container: {word}", hint="veloci ps -a")

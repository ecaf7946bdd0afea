"""OCI runtimes behind one interface: our own in this process, any other by runC's command line.

Both leave the container's first process a child of this process, so that waitpid(2) gives its exit status. The
process must have one thread: our own runtime forks it.
"""

from __future__ import annotations

import os

from veloci.errors import NotFound, VelociError
from veloci.monitor import console
from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeAlias

    from veloci.runtime.container import Container

    Stdio: TypeAlias = tuple[int, int, int]
    Json: TypeAlias = dict[str, Any]

    class Runtime(Protocol):
        """What a monitor needs of a runtime. `directory` in the constructors is for its small files."""

        name: str

        def create(self, id: str, bundle: str, config: Json, stdio: Stdio) -> tuple[int, int]:
            """A created container: its first process's PID, and its terminal's descriptor or -1."""

        def start(self, id: str) -> None:
            """Run its program."""

        def kill(self, id: str, signal: int) -> None:
            """Send a signal to its first process."""

        def delete(self, id: str) -> None:
            """Kill and remove all of it; it need not exist."""

        def exec(self, id: str, process: Json, stdio: Stdio) -> tuple[int, int]:
            """Run another process in it: its PID, a child of ours, and its terminal or -1."""

        def pause(self, id: str) -> None:
            """Stop all its processes where they are."""

        def resume(self, id: str) -> None:
            """Let them go on."""

        def update(self, id: str, resources: Json) -> None:
            """Set the limits that `resources`, as config.json has them, names."""

        def out_of_memory(self, id: str) -> bool:
            """Whether the kernel killed one of its processes for want of memory."""


def named(name: str, run: str, directory: str, *, networked: bool = True) -> Runtime:
    """The runtime `name`: "veloci", a program on PATH, or a path. Raises NotFound.

    run: the engine's run directory, below which runtimes keep their own states.
    directory: the container's own run directory. networked: whether it has a network of ours.
    """
    if name in ("", "veloci"):
        return InProcess(f"{run}/runtime")
    return CommandLine(find(name), f"{run}/runtime-{os.path.basename(name)}", directory, networked=networked)


def find(name: str) -> str:
    """The absolute path of a runtime's program. Raises NotFound."""
    places = [name] if "/" in name else [f"{d}/{name}" for d in os.environ.get("PATH", os.defpath).split(":") if d]
    for place in places:
        if os.access(place, os.X_OK):
            return os.path.abspath(place)
    raise NotFound(f"no runtime {name!r}", where="--runtime", hint="name veloci, a program on PATH, or a path")


class InProcess:
    """veloci's own runtime, as functions of this process."""

    name = "veloci"

    def __init__(self, root: str) -> None:
        self.root = root

    def create(self, id: str, bundle: str, config: Json, stdio: Stdio) -> tuple[int, int]:
        """As Runtime.create."""
        from veloci.runtime.container import Container
        from veloci.spec.runtime import Config

        pair = console.Pair() if config["process"].get("terminal") else None
        try:
            container = Container.create(
                id,
                bundle,
                root=self.root,
                stdio=None if pair else stdio,
                console=pair.theirs if pair else -1,
                config=Config.convert(config),
            )
            return container.pid, pair.receive() if pair else -1
        finally:
            if pair:
                pair.close()

    def start(self, id: str) -> None:
        """As Runtime.start."""
        self._load(id).start()

    def kill(self, id: str, signal: int) -> None:
        """As Runtime.kill."""
        self._load(id).kill(signal)

    def delete(self, id: str) -> None:
        """As Runtime.delete."""
        try:
            self._load(id).delete(force=True)
        except NotFound:
            return

    def exec(self, id: str, process: Json, stdio: Stdio) -> tuple[int, int]:
        """As Runtime.exec."""
        pair = console.Pair() if process.get("terminal") else None
        try:
            pid = self._load(id).exec(process, stdio=None if pair else stdio, console=pair.theirs if pair else -1)
            return pid, pair.receive() if pair else -1
        finally:
            if pair:
                pair.close()

    def pause(self, id: str) -> None:
        """As Runtime.pause."""
        self._load(id).pause()

    def resume(self, id: str) -> None:
        """As Runtime.resume."""
        self._load(id).resume()

    def update(self, id: str, resources: Json) -> None:
        """As Runtime.update."""
        from veloci.spec.runtime import Resources

        self._load(id).update(Resources.convert(resources))

    def out_of_memory(self, id: str) -> bool:
        """As Runtime.out_of_memory."""
        try:
            return _out_of_memory(self._load(id).group.places)
        except VelociError:
            return False

    def _load(self, id: str) -> Container:
        from veloci.runtime.container import Container

        return Container.load(id, root=self.root)


class CommandLine:
    """runc, crun, runsc or another program with runC's command line."""

    def __init__(self, program: str, root: str, directory: str, *, networked: bool = True) -> None:
        self.program, self.root, self.directory = program, root, directory
        self.name = os.path.basename(program)
        self.flags = _EXTRA.get(self.name, ())
        if self.name == "runsc" and not networked:
            self.flags = (*self.flags, "--network=none")  # its own network stack has nothing to take over

    def create(self, id: str, bundle: str, config: Json, stdio: Stdio) -> tuple[int, int]:
        """As Runtime.create; `config` is what the bundle's config.json holds."""
        return self._start_process(
            ("create", "--bundle", bundle), id, stdio, terminal=config["process"].get("terminal")
        )

    def start(self, id: str) -> None:
        """As Runtime.start."""
        self._run("start", id)

    def kill(self, id: str, signal: int) -> None:
        """As Runtime.kill."""
        self._run("kill", id, str(signal))

    def delete(self, id: str) -> None:
        """As Runtime.delete."""
        try:
            self._run("delete", "--force", id)
        except VelociError as error:
            if "does not exist" not in str(error) and "not exist" not in str(error):
                raise

    def exec(self, id: str, process: Json, stdio: Stdio) -> tuple[int, int]:
        """As Runtime.exec."""
        file = f"{self.directory}/process.{os.getpid()}"
        with open(file, "wb", opener=_private) as stream:
            stream.write(dumps(process))
        try:
            words = ("exec", "--process", file, "--detach")
            return self._start_process(words, id, stdio, terminal=bool(process.get("terminal")))
        finally:
            os.unlink(file)

    def pause(self, id: str) -> None:
        """As Runtime.pause."""
        self._run("pause", id)

    def resume(self, id: str) -> None:
        """As Runtime.resume."""
        self._run("resume", id)

    def update(self, id: str, resources: Json) -> None:
        """As Runtime.update."""
        file = f"{self.directory}/resources.{os.getpid()}"
        with open(file, "wb", opener=_private) as stream:
            stream.write(dumps(resources))
        try:
            self._run("update", "--resources", file, id)
        finally:
            os.unlink(file)

    def out_of_memory(self, id: str) -> bool:
        """As Runtime.out_of_memory; runsc is told to ignore cgroups."""
        from veloci.runtime.cgroup import place

        return self.name != "runsc" and _out_of_memory(place(f"/veloci-{id}", id))

    def _start_process(self, words: tuple[str, ...], id: str, stdio: Stdio, *, terminal: bool) -> tuple[int, int]:
        from veloci.kernel.process import prctl

        pid_file = f"{self.directory}/pid.{os.getpid()}"
        listener = console.Listener(self.directory) if terminal else None
        more = ("--console-socket", listener.path) if listener else ()
        prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the runtime's orphan becomes our child
        try:
            self._run(*words, "--pid-file", pid_file, *more, id, stdio=stdio)
            with open(pid_file, "rb") as file:
                pid = int(file.read())
            os.unlink(pid_file)
            return pid, listener.receive() if listener else -1
        finally:
            prctl(_PR_SET_CHILD_SUBREAPER, 0)
            if listener:
                listener.close()

    def _run(self, *words: str, stdio: Stdio | None = None) -> None:
        """Run the runtime to its end. Raises VelociError with what it wrote to its log."""
        log = f"{self.directory}/runtime.{os.getpid()}.log"
        null = _null()
        command = [self.program, "--root", self.root, "--log", log, "--log-format", "json", *self.flags]
        streams = [null if os.fstat(fd).st_rdev == os.fstat(null).st_rdev else fd for fd in stdio or (null, null, null)]
        actions = [(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate(streams)]
        try:
            pid = os.posix_spawn(self.program, [*command, *words], os.environ, file_actions=actions)
            # What the runtime waits for while it deletes (runsc's gofer) is a child of ours since it was created.
            child, status = os.waitpid(-1 if words[0] == "delete" else pid, 0)
            while child != pid:
                child, status = os.waitpid(-1, 0)
            code = os.waitstatus_to_exitcode(status)
            if code:
                raise _failure(self.name, words[0], _last_error(log) or f"{words[0]} ended with status {code}")
        finally:
            os.close(null)
            if os.path.exists(log):
                os.unlink(log)


# runsc fails at cgroup v1 controllers that are mounted one by one, and takes every namespace of a new kernel for
# the host's: with the "host" network it uses what is in the container's own namespace.
_EXTRA = {"runsc": ("--ignore-cgroups", "--network=host")}
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_NOT_FOUND = ("executable file not found", "executable file `", "error finding executable", "no such file or directory")
_NOT_EXECUTABLE = (
    "permission denied", "is a directory", "not a directory", "exec format error",
    "open executable: operation not permitted",
)  # fmt: skip


def _out_of_memory(places: dict[str, str]) -> bool:
    """places: as runtime.cgroup.Group. The counter is in memory.oom_control (version 1) or memory.events (2)."""
    for controllers, directory in places.items():
        file = (
            "memory.oom_control" if "memory" in controllers.split(",") else "memory.events" if not controllers else ""
        )
        try:
            with open(f"{directory}/{file}", "rb") as stream:
                for line in stream:
                    if line.startswith(b"oom_kill "):
                        return line != b"oom_kill 0\n"
        except OSError:
            continue  # a hierarchy without the controller, or gone
    return False


def _null() -> int:
    """The host's null device, through a mount on which nobody can change its owner.

    runsc gives its standard streams to nobody, crun 1.8 those of an exec to the user of its process.
    """
    from veloci.kernel import mount

    try:
        tree = mount.open_tree(mount.AT_FDCWD, os.devnull, mount.OPEN_TREE_CLONE)
    except OSError:  # not root, who alone could give it away
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        mount.mount_setattr(tree, set=mount.MOUNT_ATTR_RDONLY)
        return os.open(f"/proc/self/fd/{tree}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(tree)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _last_error(log: str) -> str:
    """The message of the last error in a runtime's JSON log."""
    try:
        with open(log, "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "warning", None) and entry.get("msg"):
            return str(entry["msg"]).strip()
    return ""


def _failure(name: str, verb: str, text: str) -> VelociError:
    """A runtime's words as our error: docker derives 127 and 126 from them, so do we."""
    lowered = text.lower()
    about_program = verb in ("create", "start", "exec") and "exec" in lowered and "mount" not in lowered
    status = None
    if about_program and any(words in lowered for words in _NOT_EXECUTABLE):
        status = 126
    elif about_program and any(words in lowered for words in _NOT_FOUND):
        status = 127
    return VelociError(text, where=name, exit_status=status)

"""A container, from its bundle to its end: create, start, kill, pause, resume, update, exec, delete.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/runtime.md#lifecycle
"""

from __future__ import annotations

import posix  # what `os` is made of, without the abstract classes that take it 1 ms
from errno import EINVAL, ESRCH

from veloci.errors import Conflict, HostError, InvalidInput, NotFound
from veloci.runtime.state import Directory, Saved, ids, process
from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Self

    from veloci.runtime.cgroup import Group
    from veloci.runtime.notify import Notify
    from veloci.spec.process import Process
    from veloci.spec.runtime import Config, Hooks, Resources

    Stdio = tuple[int, int, int]
    Attending = Callable[[], tuple[int, tuple[int, int]]]

ROOT = "/run/veloci-runtime"


class Container:
    """One container. Made by create or load; its status is read from the kernel each time it is asked for."""

    def __init__(self, directory: Directory, saved: Saved, root: str) -> None:
        self.directory, self.saved, self.root = directory, saved, root
        self.id = saved.id
        self.warnings: list[str] = []  # about what was made last, for a log

    @classmethod
    def create(
        cls,
        id: str,
        bundle: str,
        *,
        root: str = ROOT,
        stdio: Stdio | None = None,
        console: int | Attending = -1,
        config: Config | None = None,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        preserve_fds: int = 0,
        environment: Sequence[str] = (),
        start: bool = False,
        systemd: bool = False,
        rootless: bool = False,
        notify: Notify | None = None,
    ) -> Self:
        """Make the container of `bundle`; its process waits for start() and is a child of this process.

        root: the runtime's state directory. stdio: descriptors for its 0, 1 and 2; None: ours. console: a
        connected AF_UNIX socket that gets the terminal's ptmx when process.terminal is set, or a function
        that is then called for it, and for the rows and columns of the terminal that shows it.
        config: instead of the bundle's config.json. preserve_fds: how many
        descriptors from 3 on it keeps. environment: variables besides those of process.env. start: it does not
        wait; this returns when its program runs. systemd: its cgroup is a scope that systemd makes,
        linux.cgroupsPath is "slice:prefix:name". rootless: without a cgroup where this user may make none.
        notify: how the container tells a service manager that it is ready.
        Must be called from a process with one thread. On failure nothing of it is left.
        Raises Conflict if the id is taken, InvalidInput and Unsupported with the place in config.json, HostError.
        """
        from veloci.runtime import starting
        from veloci.runtime.identity import ungranted

        directory = Directory(root, id)
        plan, config, raw, saved = starting.prepare(
            id,
            bundle,
            config,
            console=callable(console) or console >= 0,
            pivot=not no_pivot,
            keyring=not no_new_keyring,
            systemd=systemd,
            rootless=rootless,
            mounts=(notify.mount(f"{root}/{id}"),) if notify else (),
        )
        plan["env"] += environment
        if not 0 <= preserve_fds <= 200:
            raise InvalidInput(f"{preserve_fds} is not between 0 and 200", where="--preserve-fds")
        self = cls(directory, saved, root)
        assert config.process is not None
        mapped = any(namespace.type == "user" for namespace in config.linux.namespaces)
        self.warnings = ungranted(config.process, mapped=mapped)
        if config.linux.resources and config.linux.resources.devices:
            from veloci.runtime.cgroup import devices

            self.warnings += devices.ignored(config.linux.resources)
        try:
            self.group.check()  # before there is anything to undo: it must not reach what is not ours
        except Conflict:
            directory.check()
            raise
        directory.create()
        try:
            directory.save(saved)
            directory.write("config.json", raw)
            if notify:
                notify.make(directory.path, listen=start)
            waits = not start or config.hooks is not None
            starting.Starting(self, config, stdio, console).launch(plan, preserve_fds, wait=waits)
            if start and waits:
                self.start()
        except BaseException:
            self._discard(config.hooks)
            raise
        return self

    @classmethod
    def load(cls, id: str, *, root: str = ROOT) -> Self:
        """The container `id`. Raises NotFound, InvalidInput if its state is damaged."""
        directory = Directory(root, id)
        return cls(directory, directory.load(), root)

    @classmethod
    def list(cls, root: str = ROOT, damaged: Callable[[str, InvalidInput], None] | None = None) -> Iterator[Self]:
        """All containers below `root`, by id.

        damaged: called for one whose state cannot be read; without it that raises InvalidInput.
        """
        for id in ids(root):
            try:
                yield cls.load(id, root=root)
            except NotFound:
                continue  # deleted meanwhile
            except InvalidInput as error:
                if damaged is None:
                    raise
                damaged(id, error)

    @property
    def group(self) -> Group:
        """Its control group."""
        if self.saved.scope:
            from veloci.runtime.cgroup.systemd import Scope

            return Scope(self.saved.cgroups, self.saved.scope, user=self.saved.owner != 0)
        from veloci.runtime.cgroup import Group

        return Group(self.saved.cgroups)

    @property
    def pid(self) -> int:
        """Its first process's pid; 0 when that has ended."""
        return self.saved.pid if self._alive() else 0

    @property
    def status(self) -> str:
        """One of creating, created, running, paused, stopped."""
        if not self.saved.pid:
            return "creating"
        if not self._alive():
            return "stopped"
        if self.directory.waiting():
            return "created"
        return "paused" if self.group.frozen() else "running"

    def _alive(self) -> bool:
        letter, began = process(self.saved.pid) if self.saved.pid else ("", 0)
        return letter not in ("", "Z", "X", "x") and began == self.saved.started

    def state(self, status: str | None = None) -> dict[str, Any]:
        """The state of the runtime specification, with runc's further fields. status: instead of what it is now."""
        status = self.status if status is None else status
        found: dict[str, Any] = {
            "ociVersion": self.saved.oci_version,
            "id": self.id,
            "pid": 0 if status == "stopped" else self.saved.pid,
            "status": status,
            "bundle": self.saved.bundle,
            "rootfs": self.saved.rootfs,
            "created": self.saved.created,
        }
        if self.saved.annotations:
            found["annotations"] = self.saved.annotations
        return found

    def config(self) -> Config:
        """The configuration it was created with."""
        from veloci.spec.runtime import Config

        return Config.decode(self.directory.read("config.json"), name="config.json")

    def start(self) -> None:
        """Run its program. Raises Conflict unless it is created."""
        with self.directory.locked():
            status = self.status
            if status == "stopped":
                raise Conflict("cannot start a container that has stopped")
            if status != "created":
                raise Conflict("cannot start an already running container")
            hooks = self._hooks()
            if hooks and hooks.start_container:
                from veloci.runtime import hooks as running

                running.begin(self.directory)
            else:
                self.directory.begin()
        if hooks and hooks.poststart:
            from veloci.runtime import hooks as running

            try:
                running.run("poststart", hooks.poststart, self._hook_state("running"))
            except BaseException:
                self.group.kill()
                raise

    def kill(self, signal: int, *, all: bool = False) -> None:
        """Send `signal` to its first process, or with `all` to each of them. Raises Conflict if it does not run."""
        if all and self.status == "stopped":
            self.group.kill(signal)  # what is left without a pid namespace
            return
        all = all or (signal == 9 and self._shares_pids())  # no kernel ends the rest with the first
        if all and (self._alive() or (signal == 9 and self.group.pids())):
            self.group.kill(signal)
        elif not self._signal(signal):
            raise Conflict("container not running")

    def _shares_pids(self) -> bool:
        """Whether its processes are in a pid namespace that was there before it."""
        linux = loads(self.directory.read("config.json")).get("linux") or {}
        return not any(each["type"] == "pid" and not each.get("path") for each in linux.get("namespaces") or ())

    def _signal(self, signal: int) -> bool:
        """Send `signal` to its first process. Returns whether it was there to take it."""
        from _signal import pidfd_send_signal

        if not self._alive():
            return False
        process = _pidfd(self.saved.pid)
        if process < 0:
            return False
        try:
            if not self._alive():  # the number may be another's by now
                return False
            pidfd_send_signal(process, signal)
        except ProcessLookupError:
            return False
        finally:
            posix.close(process)
        if signal == 9 and self.group.frozen():
            self.group.freeze(False)
        return True

    def pause(self) -> None:
        """Stop all its processes where they are. Raises Conflict if it does not run."""
        if self.status not in ("running", "created"):
            raise Conflict("container not running" if self.status != "paused" else "container already paused")
        self.group.freeze(True)

    def resume(self) -> None:
        """Let its processes go on. Raises Conflict if it is not paused."""
        if self.status != "paused":
            raise Conflict("container not paused")
        self.group.freeze(False)

    def update(self, resources: Resources) -> None:
        """Set the limits that `resources` names; the others stay. Raises Conflict if it has stopped, HostError."""
        if self.status == "stopped":
            raise Conflict("container not running")
        self.group.apply(resources, devices=bool(resources.devices))

    def exec(
        self,
        process: Process | dict[str, Any],
        *,
        stdio: Stdio | None = None,
        console: int | Attending = -1,
        preserve_fds: int = 0,
        cgroup: Sequence[str] = (),
        ignore_paused: bool = False,
    ) -> int:
        """Run a further process in it. Returns its pid, a child of this process.

        process: as config.json's. stdio, console, preserve_fds: as for create. cgroup: groups below the
        container's, each for all controllers or for those named before a colon. Raises Conflict if it does not run,
        HostError.
        """
        from veloci.runtime.exec import enter

        status = self.status
        if status == "paused" and not ignore_paused:
            raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
        if status not in ("running", "paused", "created"):
            raise Conflict("cannot exec in a stopped container")
        return enter(self, process, stdio, console, preserve_fds, cgroup)

    def delete(self, *, force: bool = False) -> None:
        """Remove all of it. Raises Conflict if it runs, unless `force` kills it."""
        with self.directory.locked():
            status = self.status
            if status in ("created", "creating"):
                force = True  # as runc: what never ran may go
            if not force and status != "stopped":
                raise Conflict(
                    f"cannot delete container {self.id} that is not stopped: {status}",
                    hint=f"veloci-runtime delete --force {self.id}",
                )
            self._discard(self._hooks())

    def _discard(self, hooks: Hooks | None) -> None:
        """Kill what is left of it and remove its traces."""
        group = self.group
        if self._alive():
            self._signal(9)
            _gone(self.saved.pid)
        group.kill()
        _reap(self.saved.pid)
        group.remove()
        if self.saved.covers:
            _unmount(self.saved.rootfs, self.saved.covers)
        if self.saved.own_classes:
            from veloci.runtime import rdt

            rdt.remove(self.saved.own_classes)
        state = self._hook_state("stopped") if hooks and hooks.poststop and self.saved.pid else b""
        self.directory.remove()
        if state and hooks:
            from veloci.errors import VelociError
            from veloci.runtime import hooks as running

            for hook in hooks.poststop:  # one that fails is no reason to leave out the next
                try:
                    running.run("poststop", (hook,), state)
                except VelociError:
                    continue

    def _hooks(self) -> Hooks | None:
        try:
            if b'"hooks"' not in self.directory.read("config.json"):
                return None
            return self.config().hooks
        except (FileNotFoundError, InvalidInput):
            return None  # half-made or damaged: it must still be possible to remove it

    def _hook_state(self, status: str) -> bytes:
        pid = 0 if status == "stopped" else self.saved.pid  # also when it has ended before its hook runs
        return dumps({**self.state(), "status": status, "pid": pid})


def _unmount(rootfs: str, covers: int) -> None:
    """Unmount what a container has mounted at and below its root. covers: the mount below, which is not its."""
    from veloci.kernel import mount
    from veloci.runtime.state import mount_of

    try:
        if mount_of(rootfs) != covers:
            mount.umount(rootfs, mount.MNT_DETACH)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"unmount {rootfs}", error) from error


def _gone(pid: int) -> None:
    """Wait, a few seconds at most, until process `pid`, which was killed, has ended."""
    from select import poll

    descriptor = _pidfd(pid)
    if descriptor < 0:
        return
    waiting = poll()
    waiting.register(descriptor)
    waiting.poll(10_000)
    posix.close(descriptor)


def _pidfd(pid: int) -> int:
    """A descriptor of the process — pidfd_open(2); -1 if it has ended."""
    try:
        return posix.pidfd_open(pid)
    except OSError as error:
        if error.errno in (EINVAL, ESRCH):  # EINVAL: it is being reaped at this moment
            return -1
        raise


def _reap(pid: int) -> None:
    """Take the exit status of our own child, so that it does not stay as a zombie that holds its cgroup."""
    try:
        if pid:
            posix.waitpid(pid, posix.WNOHANG)
    except ChildProcessError:
        return

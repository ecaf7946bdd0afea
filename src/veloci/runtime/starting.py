"""The parent's side of a container's creation: what is checked before, and the answers to what its process asks."""

from __future__ import annotations

import posix

from veloci.errors import HostError, InvalidInput, NotFound, Unsupported
from veloci.kernel import process as p
from veloci.kernel.files import absolute
from veloci.runtime import plan as planning
from veloci.runtime.cgroup import permitted, place
from veloci.runtime.child import Child
from veloci.runtime.identity import RLIMITS, check_text, processors
from veloci.runtime.launch import launch
from veloci.runtime.state import Saved, mount_of, now, process
from veloci.spec.document import dumps
from veloci.spec.runtime import Config, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.runtime.container import Attending, Container, Stdio
    from veloci.spec.runtime import Mount

VERSION = "1.2.0"  # of the runtime specification
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)


def prepare(
    id: str,
    bundle: str,
    config: Config | None,
    *,
    console: bool,
    pivot: bool,
    keyring: bool,
    systemd: bool = False,
    rootless: bool = False,
    mounts: tuple[Mount, ...] = (),
) -> tuple[planning.Plan, Config, bytes, Saved]:
    """The plan of a container, its configuration as a value and as written, and what is to be known of it.

    config: instead of the bundle's. console: there is a socket for its terminal. pivot, keyring: see plan.compile.
    systemd: its cgroup is a scope of systemd's. rootless: by a user who may not make cgroups everywhere.
    mounts: what is mounted besides.
    Raises NotFound, InvalidInput, Unsupported with the place in config.json, HostError.
    """
    bundle = absolute(bundle)
    raw = dumps(config.plain()) if config else _read_config(bundle)
    config = config or Config.decode(raw, name="config.json")
    if mounts:
        config = config.replace(mounts=(*config.mounts, *mounts))
        raw = dumps(config.plain())
    if b"\\u" in raw:
        check_text(config.plain(), "config.json: $")
    if posix.geteuid() and not any(namespace.type == "user" for namespace in config.linux.namespaces):
        raise InvalidInput(
            "rootless container requires user namespaces", hint="sudo, or veloci-runtime spec --rootless"
        )
    scope = ""
    if systemd:
        from veloci.runtime.cgroup.systemd import place as scoped

        scope, groups = scoped(config.linux.cgroups_path, id)
    else:
        groups = place(config.linux.cgroups_path, id)
        if rootless and not config.linux.cgroups_path:
            groups = permitted(groups)
    session = f"_ses.{id}" if keyring else ""
    plan = planning.compile(config, bundle, groups, pivot=pivot, keyring=session)
    assert config.process is not None
    assert config.root is not None
    if config.process.terminal and not console:
        raise InvalidInput("cannot allocate tty if veloci-runtime will detach without setting console socket")
    classes, own_classes = _classes(config, id)
    _check_processors(config)
    rootfs = _real(config.root.path if config.root.path.startswith("/") else f"{bundle}/{config.root.path}")
    root_of_own = any(namespace.type == "mount" for namespace in config.linux.namespaces)
    saved = Saved(
        oci_version=VERSION,
        id=id,
        bundle=bundle,
        rootfs=rootfs,
        created=now(),
        owner=posix.geteuid(),
        cgroups=groups,
        scope=scope,
        covers=0 if root_of_own else mount_of(rootfs),
        annotations=config.annotations,
        keyring=session,
        classes=classes,
        own_classes=own_classes,
    )
    return plan, config, raw, saved


def _classes(config: Config, id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The directories of resctrl that the container is to be in, and those of them that are its own."""
    if config.linux.intel_rdt is None:
        return (), ()
    from veloci.runtime import rdt

    planned = rdt.Planned(config.linux.intel_rdt, id, rdt.mounted())
    return tuple(planned.tasks), tuple(planned.own)


def _check_processors(config: Config) -> None:
    """Raise InvalidInput for a deadline on some processors only, which the kernel refuses — sched_setattr(2)."""
    scheduler = config.process.scheduler if config.process else None
    cpu = config.linux.resources.cpu if config.linux.resources else None
    if scheduler and scheduler.policy == "SCHED_DEADLINE" and cpu and cpu.cpus:
        where = "config.json: $.linux.resources.cpu.cpus"
        if len(processors(cpu.cpus, where)) < (posix.cpu_count() or 1):
            raise InvalidInput("process scheduler can't be used together with AllowedCPUs", where=where)


def _read_config(bundle: str) -> bytes:
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise NotFound(
            f"JSON specification file {bundle}/config.json not found", hint="veloci-runtime spec makes one"
        ) from None
    except OSError as error:
        raise HostError(f"read {bundle}/config.json", error) from error


def stdio(given: Stdio | None) -> tuple[str, ...]:
    """What `given`, or our own 0, 1 and 2, are called: "pipe:[INODE]", a path; () if none is a pipe."""
    names = []
    for number in given or (0, 1, 2):
        try:
            names.append(posix.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            names.append("")
    return tuple(names) if any(name.startswith("pipe:") for name in names) else ()


def _real(rootfs: str) -> str:
    """The directory `rootfs` without symlinks. Raises InvalidInput."""
    try:
        descriptor = posix.open(rootfs, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        raise InvalidInput(f"invalid rootfs: {rootfs} is no directory", where="config.json: $.root.path") from None
    try:
        return posix.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        posix.close(descriptor)


def _namespace(path: str, bit: int, at: str) -> int:
    """A descriptor of the namespace at `path`, which must be of the kind of the CLONE_NEW* `bit`."""
    from fcntl import ioctl

    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"namespace {path}", error, where=f"config.json: {at}") from error
    try:
        same = ioctl(descriptor, _NS_GET_NSTYPE) == bit
    except OSError:
        same = False
    if not same:
        posix.close(descriptor)
        kind = next(name for name, flag in planning.CLONE.items() if flag == bit)
        raise InvalidInput(f"{path} is no {kind} namespace", where=f"config.json: {at}.path")
    return descriptor


class Starting:
    """One creation under way."""

    def __init__(self, container: Container, config: Config, stdio: Stdio | None, console: int | Attending) -> None:
        self.container, self.config, self.child = container, config, Child()
        child = self.child
        child.stdio, child.known = stdio, False
        self.group, self.grouped, self.born = container.group, False, False
        self.answers: dict[str, Callable[..., None]] = {
            "maps": self.maps,
            "owners": self.owners,
            "cgroup": self.cgroup,
            "net_devices": self.net_devices,
            "time_offsets": self.time_offsets,
            "listener": self.listener,
            "hooks": self.hooks,
            "rlimits": self.rlimits,
            "ready": self.ready,
        }
        assert config.process is not None
        if config.linux.seccomp:
            from veloci.kernel import seccomp  # here, for the child can import nothing
            from veloci.runtime import filters

            child.bpf, child.bpf_flags = filters.compiled(config.linux.seccomp, container.root)
            child.listens = bool(child.bpf_flags & seccomp.NEW_LISTENER)
        if config.process.terminal:
            import _socket  # noqa: F401

            from veloci.kernel import tty  # noqa: F401

            if callable(console):
                import termios  # noqa: F401 -- for the child

                child.console_socket, child.attended = console()
            else:
                child.console_socket = console
        if config.hooks:
            child.hooks = config.hooks
            from veloci.runtime import hooks  # noqa: F401

            state = container.state()
            child.state = lambda status: dumps({**state, "status": status, "pid": posix.getpid()})

    def launch(self, plan: planning.Plan, preserve: int, *, wait: bool) -> None:
        """Start the process; when this returns it waits on exec.fifo, or is its program. Raises VelociError."""
        fifo = self.container.directory.fifo() if wait else -1
        if self.config.hooks and self.config.hooks.start_container:
            self.child.outcome = self.container.directory.outcome()
        join: list[tuple[int, int, str]] = []
        group = -1
        try:
            for path, bit, at in plan["join"]:
                join.append((_namespace(path, bit, at), bit, at))
            if any(doing in ("mapped", "inside") for doing, _, _ in plan["steps"]):
                from veloci.runtime import idmap, steps

                steps.TABLE.update(mapped=idmap.mapped, inside=idmap.inside)
                self.child.trees = idmap.trees(self.config, plan["steps"])
            group = self.group.open()
            if self.group.early:
                self.limit()
            self.joins = any(doing == "group" for doing, _, _ in plan["steps"])
            child, answers = self.child, self.answers
            launch(plan, child, answers, join=join, wait=fifo, preserve=preserve, group=group, started=self.begin)
        finally:
            joined = (descriptor for descriptor, _, _ in join)
            for descriptor in (*joined, *self.child.trees, fifo, self.child.outcome, group):
                if descriptor >= 0:
                    posix.close(descriptor)

    def begin(self, pid: int, born: bool) -> None:
        """What can be done while the child works: its cgroup. born: it is in that of version 2 already."""
        self.born = born
        container = self.container
        pipes = () if self.child.console_socket >= 0 else stdio(self.child.stdio)
        container.saved = container.saved.replace(pid=pid, started=process(pid)[1], stdio=pipes)
        score = self.config.process.oom_score_adj if self.config.process else None
        if score is not None:
            try:
                with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                    file.write(str(score))
            except OSError as error:
                raise HostError(
                    f"set oom_score_adj to {score}", error, where="config.json: $.process.oomScoreAdj"
                ) from error
        if not any(namespace.type == "user" and not namespace.path for namespace in self.config.linux.namespaces):
            self.cgroup(pid)
        import veloci.runtime.quick  # noqa: F401 -- before the child waits for it

    def maps(self, pid: int) -> None:
        """Write the user namespace's maps — user_namespaces(7)."""
        from veloci.runtime import idmap

        linux = self.config.linux
        if not idmap.own(linux.uid_mappings, linux.gid_mappings):
            idmap.have_mapped(pid, linux.uid_mappings, linux.gid_mappings)
            return
        try:
            with open(f"/proc/{pid}/uid_map", "w") as file:
                file.write(idmap.text(linux.uid_mappings))
            if posix.geteuid() != 0:
                with open(f"/proc/{pid}/setgroups", "w") as file:
                    file.write("deny")
            with open(f"/proc/{pid}/gid_map", "w") as file:
                file.write(idmap.text(linux.gid_mappings))
        except OSError as error:
            raise HostError("map users", error, where="config.json: $.linux.uidMappings") from error

    def owners(self, pid: int, tree: str, index: str) -> None:
        """Map the owners of a mount that it has made, the descriptor `tree`: that of config.mounts[index]."""
        from veloci.runtime import idmap

        process = p.pidfd(pid)
        try:
            mine = p.pidfd_descriptor(process, int(tree))
        finally:
            posix.close(process)
        try:
            idmap.set_owners(self.config, int(index), mine)
        finally:
            posix.close(mine)

    def cgroup(self, pid: int) -> None:
        """Make the cgroup, set its limits, move the process where it cannot go itself. Once."""
        if self.grouped:
            return
        self.grouped = True
        if not self.group.early:
            self.group.begin(pid, self.config.linux.resources or Resources(), self.config.annotations)
            self.limit()
        if self.config.linux.intel_rdt:
            from veloci.runtime import rdt

            rdt.make(self.config.linux.intel_rdt, self.container.saved.classes, pid)
        names = [name for name in self.group.places if not (self.joins if name else self.born)]
        self.group.add(pid, names)

    def limit(self) -> None:
        """Set the cgroup's limits."""
        resources = self.config.linux.resources
        if self.group.places:
            # Device rules need privilege over the host; without it, the user namespace guards them.
            self.group.apply(resources or Resources(), devices=posix.geteuid() == 0)
        elif resources and (posix.geteuid() == 0 or resources.replace(devices=()).plain()):
            raise Unsupported("cannot set limits: the container has no cgroup", where="config.json: $.linux.resources")

    def net_devices(self, pid: int) -> None:
        """Give it the network devices that are to be its own."""
        from veloci.runtime import netdevices

        netdevices.move(self.config.linux.net_devices, pid)

    def time_offsets(self, pid: int) -> None:
        """Set the clocks of the time namespace that it has made for its program."""
        try:
            with open(f"/proc/{pid}/timens_offsets", "w") as file:
                file.write(planning.time_offsets(self.config.linux))
        except OSError as error:
            raise HostError("set clocks", error, where="config.json: $.linux.timeOffsets") from error

    def listener(self, pid: int) -> None:
        """Send who answers for the seccomp filter its descriptor."""
        from veloci.runtime.listening import hand_over

        assert self.config.linux.seccomp is not None
        hand_over(pid, self.config.linux.seccomp, {**self.container.state(), "status": "creating", "pid": pid})

    def hooks(self, pid: int) -> None:
        """Run the hooks of the runtime's namespaces.

        They come after step 2 of the lifecycle, so the container is `created` to them (runtime.md, Lifecycle), as to
        crun's; runc has `creating` here.
        """
        from veloci.runtime import hooks as running

        hooks = self.config.hooks
        assert hooks is not None
        state = dumps({**self.container.state(), "status": "created", "pid": pid})
        running.run("prestart", hooks.prestart, state)
        running.run("createRuntime", hooks.create_runtime, state)

    def rlimits(self, pid: int) -> None:
        """Set the limits of a process that is root in its own namespace only."""
        assert self.config.process is not None
        for index, limit in enumerate(self.config.process.rlimits):
            try:
                p.setrlimit(pid, RLIMITS[limit.type], limit.soft, limit.hard)
            except OSError as error:
                raise HostError(f"set {limit.type}", error, where=f"config.json: $.process.rlimits[{index}]") from error

    def ready(self, _pid: int) -> None:
        """It is made: say so on disk."""
        from veloci.runtime import quick

        directory = self.container.directory
        directory.save(self.container.saved)
        if text := quick.text(self.container, self.config):
            directory.write("quick", text)

"""The parent's side of a container's creation: the answers to what its first process asks."""

from __future__ import annotations

import os

from veloci.errors import HostError, Unsupported
from veloci.kernel import process as p
from veloci.runtime import filters
from veloci.runtime.identity import RLIMITS
from veloci.runtime.state import process
from veloci.spec.document import dumps
from veloci.spec.runtime import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.runtime.child import Child
    from veloci.runtime.container import Container
    from veloci.spec.runtime import Config


class Starting:
    """One creation under way."""

    def __init__(self, container: Container, config: Config, child: Child) -> None:
        self.container, self.config = container, config
        self.grouped = False
        self.answers = {
            "maps": self.maps,
            "cgroup": self.cgroup,
            "hooks": self.hooks,
            "rlimits": self.rlimits,
            "ready": self.ready,
        }
        assert config.process is not None
        if config.linux.seccomp:
            child.bpf, child.bpf_flags = filters.compiled(config.linux.seccomp, container.root)
            from veloci.kernel import seccomp  # noqa: F401 -- the child can import nothing
        if config.process.terminal:
            import _socket  # noqa: F401

            from veloci.kernel import tty  # noqa: F401
        if config.hooks:
            child.hooks = config.hooks
            from veloci.runtime import hooks  # noqa: F401

            state = container.state()
            child.state = lambda status: dumps({**state, "status": status, "pid": os.getpid()})

    def begin(self, pid: int) -> None:
        """What can be done while the child works: its cgroup."""
        container = self.container
        container.saved = container.saved.replace(pid=pid, started=process(pid)[1])
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

    def maps(self, pid: int) -> None:
        """Write the user namespace's maps — user_namespaces(7)."""
        from veloci.runtime.idmap import text

        linux = self.config.linux
        try:
            with open(f"/proc/{pid}/uid_map", "w") as file:
                file.write(text(linux.uid_mappings))
            if os.geteuid() != 0:
                with open(f"/proc/{pid}/setgroups", "w") as file:
                    file.write("deny")
            with open(f"/proc/{pid}/gid_map", "w") as file:
                file.write(text(linux.gid_mappings))
        except OSError as error:
            raise HostError("map users", error, where="config.json: $.linux.uidMappings") from error

    def cgroup(self, pid: int) -> None:
        """Make the cgroup, move the process in, set its limits. Once."""
        if self.grouped:
            return
        self.grouped = True
        group = self.container.group
        resources = self.config.linux.resources or Resources()
        if not group.places and self.config.linux.resources:
            raise Unsupported("no cgroup hierarchy is mounted", where="config.json: $.linux.resources")
        if group.places:
            group.create()
            group.apply(resources, devices=True)
            group.add(pid)

    def hooks(self, pid: int) -> None:
        """Run the hooks of the runtime's namespaces."""
        from veloci.runtime import hooks as running

        hooks = self.config.hooks
        assert hooks is not None
        state = dumps({**self.container.state(), "status": "creating", "pid": pid})
        running.run("prestart", hooks.prestart, state)
        running.run("createRuntime", hooks.create_runtime, state)

    def rlimits(self, pid: int) -> None:
        """Set the limits of a process that is root in its own namespace only."""
        assert self.config.process is not None
        for index, limit in enumerate(self.config.process.rlimits):
            try:
                p.setrlimit(pid, RLIMITS[limit.type], limit.soft, limit.hard)
            except OSError as error:
                raise HostError("set limit", error, where=f"config.json: $.process.rlimits[{index}]") from error

    def ready(self, _pid: int) -> None:
        """It is made: say so on disk."""
        self.container.directory.save(self.container.saved)

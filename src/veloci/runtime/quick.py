"""What the launcher, a shell script, needs to answer for a container without Python.

The file `quick` in the state directory, a line each:

    the pid of its process; when that began, in clock ticks after boot
    the control file that tells whether it is paused; what that says when it is not
    its control groups' directories; an empty line
    what `state` prints, with an empty status

There is none for a container whose start or end has more to it than a byte in exec.fifo and the removal of its
groups and its state directory: one with hooks, one in systemd's scope, one with classes
of resctrl of its own, one that tells when it is ready, one whose processes do not end with the first,
one whose mounts stay when they end.
"""

from __future__ import annotations

from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.runtime.container import Container
    from veloci.spec.runtime import Config


def text(container: Container, config: Config) -> bytes:
    """The file's content; b"" for a container that must have none."""
    saved, places = container.saved, container.saved.cgroups
    tells = config.mounts and config.mounts[-1].destination == "/run/notify"
    alone = any(namespace.type == "pid" and not namespace.path for namespace in config.linux.namespaces)
    if not alone or saved.covers or config.hooks or saved.scope or saved.own_classes or tells or not places:
        return b""
    freezer = (f"{places['freezer']}/freezer.state", "THAWED") if "freezer" in places else ("", "")
    if not freezer[0] and "" in places:
        freezer = (f"{places['']}/cgroup.freeze", "0")
    lines = [str(saved.pid), str(saved.started), *freezer, *places.values(), ""]
    if any("\n" in line or "\\" in line or line != line.strip() for line in lines):
        return b""  # read(1p) would take it for something else
    return "\n".join(lines).encode(errors="surrogateescape") + b"\n" + shown(container.state(""))


def shown(state: dict[str, object]) -> bytes:
    """What the command `state` prints."""
    return dumps({**state, "owner": ""}, indent=2)

"""What can still be removed of a container whose state.json is damaged."""

from __future__ import annotations

import posix

from veloci.runtime.container import Container
from veloci.runtime.state import Directory, Saved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.runtime import Config


def remove(id: str, root: str) -> None:
    """Kill what is in the groups that config.json names, and remove them and the state directory.

    Its first process was in them; its hooks, which need its state, are left out. Raises NotFound, InvalidInput if
    config.json is damaged, too, HostError.
    """
    directory = Directory(root, id)
    unknown = Saved(oci_version="", id=id, bundle="", rootfs="", created="", owner=posix.geteuid())
    config = Container(directory, unknown, root).config()
    scope, groups = _groups(config, id)
    saved = unknown.replace(cgroups=groups, scope=scope, annotations=config.annotations)
    with directory.locked():
        Container(directory, saved, root)._discard(None)


def _groups(config: Config, id: str) -> tuple[str, dict[str, str]]:
    """The scope of systemd's, or "", and the directories."""
    path = config.linux.cgroups_path
    if path.count(":") == 2 and "/" not in path:
        from veloci.runtime.cgroup.systemd import place as scoped

        return scoped(path, id)
    from veloci.runtime.cgroup import place

    return "", place(path, id)

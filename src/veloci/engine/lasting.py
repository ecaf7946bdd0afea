"""What its user was told of outlives a power cut: files that were renamed into place are brought to the disk."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine


def keep(engine: Engine, id: str) -> None:
    """Bring a container to the disk: record, configuration, name, what it writes to, volumes. Raises OSError.

    Apart from making it, so that it can run meanwhile; one that is removed at its end needs none of it.
    """
    records, snapshots = engine.containers.records, engine.snapshots
    record, data = records.load(id), records.data(id)
    names = f"{records.root}/.names"
    files = (f"{data}/{name}" for name in ("container.json", "init", "bundle/config.json"))
    synced(*files, f"{data}/bundle", data, names, records.root)
    writable = f"{snapshots.root}/writable"
    if snapshots.copied(id):
        from veloci.kernel.files import sync_tree

        sync_tree(f"{writable}/{id}/fs")
    synced(f"{writable}/{id}/fs", f"{writable}/{id}", writable, snapshots.root)
    for point in record.mounts:
        if point["type"] == "volume":
            keep_volume(engine, point["name"])
    synced(engine.root)


def keep_volume(engine: Engine, name: str) -> None:
    """Bring a volume's description to the disk, not what is in it. Raises OSError."""
    home = f"{engine.root}/volumes/{name}"
    synced(f"{home}/volume.json", f"{home}/users", home, os.path.dirname(home))


def synced(*paths: str) -> None:
    """Bring files, and directories with the names in them, to the disk; one that is gone already is left out."""
    for path in paths:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(file)
        finally:
            os.close(file)

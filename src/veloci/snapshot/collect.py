"""Removing layers that nothing needs, and what commands that died left behind."""

from __future__ import annotations

import os
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock

from veloci.content.lease import Locked, held
from veloci.errors import NotFound
from veloci.layer.tree import used
from veloci.snapshot.snapshots import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from veloci.snapshot.snapshots import Snapshots
    from veloci.spec.digest import Digest


def collect(snapshots: Snapshots, needed: Iterable[Digest]) -> int:
    """See Snapshots.collect."""
    graves: list[str] = []
    # Nobody prepares a key or counts on a layer meanwhile.
    with Lock(snapshots.root, LOCK_EX), Locked(snapshots.root, LOCK_EX):
        kept: set[str] = set()
        for chain_id in {*needed, *_parents(snapshots), *held(snapshots.root)}:
            with suppress(NotFound):
                kept.update(path.split("/")[-2] for path in snapshots._lowers(snapshots.layer(chain_id), ""))
        layers = [snapshots.layer(chain_id) for chain_id in snapshots.chain_ids()]
        # What stands on others goes before them: who is killed here leaves no layer without those below it.
        for layer in sorted(layers, key=lambda layer: -_height(snapshots, layer)):
            if os.path.basename(layer) not in kept:
                graves.append(f"{snapshots.root}/ingest/gone-{os.getpid()}-{os.urandom(6).hex()}")
                os.rename(layer, graves[-1])
        left = _left(snapshots)
    freed = sum(map(_size, graves))
    for grave in (*graves, *left):
        snapshots._discard(grave)
    return freed


def _height(snapshots: Snapshots, layer: str) -> int:
    """How many layers it stands on, itself included; of a damaged one more than any."""
    try:
        return len(snapshots._lowers(layer, ""))
    except NotFound:
        return 1 << 20


def _parents(snapshots: Snapshots) -> list[Digest]:
    found = []
    for key in snapshots.keys():  # noqa: SIM118 -- no dict
        with suppress(NotFound):
            found.append(snapshots.parent(key))
    return found


def _left(snapshots: Snapshots) -> list[str]:
    """What is in ingest/ and nobody works on: moved away, so that nobody begins to."""
    found = []
    with suppress(FileNotFoundError):
        for name in os.listdir(f"{snapshots.root}/ingest"):
            path = f"{snapshots.root}/ingest/{name}"
            if name.startswith(("gone-", "key-")):
                found.append(path)
                continue
            with suppress(FileNotFoundError):
                directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    flock(directory, LOCK_EX | LOCK_NB)
                    found.append(f"{snapshots.root}/ingest/gone-{os.getpid()}-{os.urandom(6).hex()}")
                    os.rename(path, found[-1])
                except BlockingIOError:
                    pass
                finally:
                    os.close(directory)
    return found


def _size(path: str) -> int:
    """The bytes that a grave takes; 0 where the next collection has taken it over meanwhile."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return used(directory)
    except FileNotFoundError:
        return 0
    finally:
        os.close(directory)

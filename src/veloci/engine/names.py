"""The names of containers in a network of the user's: each finds the others in its /etc/hosts.

The file is bound into the container, so a line that is written here is there at once, and no server has to answer.
Lines of ours end with a mark; what the container wrote stays. The default network has no names, as docker's has none.
"""

from __future__ import annotations

import os

from veloci.errors import NotFound, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.engine.engine import Engine
    from veloci.engine.record import Record


def announce(engine: Engine, network: str) -> None:
    """Bring the names of a network up to date in all of its containers, after one came or went."""
    from fcntl import LOCK_EX, flock

    records = engine.containers.records
    lock = os.open(f"{records.root}/.names", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(lock, LOCK_EX)
        members = list(_members(engine, network))
        mark = f"\t# network {network}\n"
        lines = "".join(f"{address}\t{' '.join(_names(record))}{mark}" for address, record in members)
        for _, record in members:
            _rewrite(f"{records.data(record.id)}/hosts", mark, lines)
    finally:
        os.close(lock)


def _members(engine: Engine, network: str) -> Iterator[tuple[str, Record]]:
    """Address and record of each container in it."""
    try:
        leases = engine.networks.leases(network)
    except NotFound:
        return
    for lease in leases:
        try:
            yield str(lease["address"]), engine.containers.records.load(lease["container"])
        except VelociError:  # a build's step, or one that is being removed
            continue


def _names(record: Record) -> list[str]:
    """What it is called: name, aliases, host name, the start of its ID; each once."""
    return list(dict.fromkeys((record.name, *record.aliases, record.hostname, record.id[:12])))


def _rewrite(path: str, mark: str, lines: str) -> None:
    """Put `lines` in the place of those with the mark; whoever reads meanwhile never finds the file empty."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(descriptor, "r+b", buffering=0) as file:
        text = file.read().decode(errors="surrogateescape")
        kept = "".join(line for line in text.splitlines(keepends=True) if not line.endswith(mark))
        if kept and not kept.endswith("\n"):
            kept += "\n"
        new = (kept + lines).encode(errors="surrogateescape")
        os.pwrite(descriptor, new, 0)
        os.ftruncate(descriptor, len(new))

"""What happened to containers, as a journal that every process adds to: a line of JSON an event, docker's shape.

    RUN/events, RUN/events.1      the last is the newest; a file is begun anew after MAX_SIZE bytes

An event is one write(2) with O_APPEND, so those of several processes do not mix.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from time import time_ns

from veloci.errors import VelociError
from veloci.monitor import state
from veloci.spec.document import dumps

MAX_SIZE = 1 << 20  # bytes


def tell(run_root: str, data: str, action: str, **more: str) -> None:
    """Add an event of the container with the directory `data`; one that has no record (a build's step) has none.

    run_root: the engine's run directory. more: attributes besides the image, the name and the labels.
    """
    try:
        record = state.read(f"{data}/container.json")
    except VelociError:  # a damaged one; it can still be removed
        record = None
    if record is None:
        return
    attributes = {**(record.get("labels") or {}), "image": record["image"], "name": record["name"], **more}
    now = time_ns()
    event = {
        "status": action,
        "id": record["id"],
        "from": record["image"],
        "Type": "container",
        "Action": action,
        "Actor": {"ID": record["id"], "Attributes": dict(sorted(attributes.items()))},
        "scope": "local",
        "time": now // 1_000_000_000,
        "timeNano": now,
    }
    _append(f"{run_root}/events", dumps(event) + b"\n")


def _append(path: str, line: bytes) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:  # a journal that cannot be written is no reason to fail
        return
    try:
        os.write(file, line)
        if os.fstat(file).st_size > MAX_SIZE:
            _begin_anew(path, file)
    except OSError:
        return
    finally:
        os.close(file)


def _begin_anew(path: str, file: int) -> None:
    try:
        flock(file, LOCK_EX | LOCK_NB)  # one of those who see that it is full
    except BlockingIOError:
        return
    if os.path.samestat(os.stat(path), os.fstat(file)):
        os.rename(path, f"{path}.1")

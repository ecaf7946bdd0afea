"""What happened to containers, images, networks, volumes, as a journal that every process adds to.

    RUN/events, RUN/events.1      a line of JSON an event, in docker's shape (its API's GET /events); the last is the
                                  newest; a file is begun anew after MAX_SIZE bytes

An event is one write(2) with O_APPEND, so those of several processes do not mix.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from time import time_ns

from veloci.errors import VelociError
from veloci.monitor import state
from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MAX_SIZE = 1 << 20  # bytes
_WITH_STATUS = ("container", "image")  # docker's older fields `status`, `id`, `from` are theirs alone


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
    note(run_root, "container", action, record["id"], attributes)


def note(run_root: str, kind: str, action: str, id: str = "", attributes: Mapping[str, str] | None = None) -> None:
    """Add an event of anything. A journal that cannot be written is no reason to fail: then it is not told.

    kind: container, image, network, volume, builder. id: "" of a whole kind, as for "prune".
    """
    attributes, now = attributes or {}, time_ns()
    event: dict[str, Any] = {}
    if kind in _WITH_STATUS:
        event["status"] = action
        if id:
            event["id"] = id
        if kind == "container" and id:
            event["from"] = attributes.get("image", "")
    event |= {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": id, "Attributes": dict(sorted(attributes.items()))},
        "scope": "local",
        "time": now // 1_000_000_000,
        "timeNano": now,
    }
    _append(run_root, dumps(event) + b"\n")


def tell_uses(run_root: str, uses: Iterable[Mapping[str, Any]], *, begin: bool) -> None:
    """Tell that a container begins or ends to use its networks and volumes: `Task.uses`."""
    for use in uses:
        attributes = dict(use["attributes"])
        if use["type"] == "network":
            action = "connect" if begin else "disconnect"
        elif begin:
            action = "mount"
        else:
            action = "unmount"
            attributes = {key: attributes[key] for key in ("container", "driver")}
        note(run_root, use["type"], action, use["id"], attributes)


def _append(run_root: str, line: bytes) -> None:
    path = f"{run_root}/events"
    try:
        file = _opened(path)
    except FileNotFoundError:  # the first command since the host was booted
        try:
            os.makedirs(run_root, 0o700, exist_ok=True)
            file = _opened(path)
        except OSError:
            return
    except OSError:
        return
    try:
        os.write(file, line)
        if os.fstat(file).st_size > MAX_SIZE:
            _begin_anew(path, file)
    except OSError:
        return
    finally:
        os.close(file)


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _begin_anew(path: str, file: int) -> None:
    try:
        flock(file, LOCK_EX | LOCK_NB)  # one of those who see that it is full
    except BlockingIOError:
        return
    if os.path.samestat(os.stat(path), os.fstat(file)):
        os.rename(path, f"{path}.1")

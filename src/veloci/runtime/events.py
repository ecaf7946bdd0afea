"""A container's events, as runc's `events` tells them: what it uses, and kills for want of memory."""

from __future__ import annotations

import os
from select import POLLIN, poll
from time import monotonic

from veloci.errors import Conflict
from veloci.kernel.process import pidfd
from veloci.runtime.cgroup.stats import oom_kills, stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from veloci.runtime.container import Container

_LOOK = 0.5  # seconds between looks for killed processes on a host that tells us of none


def now(container: Container) -> dict[str, Any]:
    """The event that says what it uses now. Raises Conflict if it has stopped."""
    if container.status == "stopped":
        raise Conflict(f"container with id {container.id} is not running")
    return _used(container)


def follow(container: Container, interval: float) -> Iterator[dict[str, Any]]:
    """Its events until it has ended: "stats" every `interval` seconds, "oom" when the kernel killed in it.

    Raises Conflict if it has stopped.
    """
    try:
        process = pidfd(container.pid) if container.pid else -1
    except ProcessLookupError:
        process = -1
    if process < 0:
        raise Conflict(f"container with id {container.id} is not running")
    waiting = poll()
    waiting.register(process, POLLIN)
    told = _oom_told(container)
    if told >= 0:
        waiting.register(told, POLLIN)
    try:
        yield from _follow(container, interval, waiting, process, told)
    finally:
        os.close(process)
        if told >= 0:
            os.close(told)


def _follow(container: Container, interval: float, waiting: poll, process: int, told: int) -> Iterator[dict[str, Any]]:
    kills = oom_kills(container.group)
    following = monotonic() + interval
    ended = False
    while not ended:
        left = max(0.0, following - monotonic())
        ready = dict(waiting.poll(1000 * (left if told >= 0 else min(left, _LOOK))))
        if told in ready:
            os.read(told, 4096)
        ended = process in ready
        killed = oom_kills(container.group)
        for _ in range(kills, killed):
            yield {"type": "oom", "id": container.id}
        kills = max(kills, killed)
        if not ended and monotonic() >= following:
            following = monotonic() + interval
            try:
                yield _used(container)
            except FileNotFoundError:
                return  # removed meanwhile


def _used(container: Container) -> dict[str, Any]:
    return {"type": "stats", "id": container.id, "data": stats(container.group)}


def _oom_told(container: Container) -> int:
    """A descriptor that is readable when the kernel is out of memory for it; -1 if there is none to be had."""
    group = container.group
    directory = next((path for names, path in group.places.items() if "memory" in names.split(",")), "")
    if not directory:
        return -1
    told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with open(f"{directory}/cgroup.event_control", "w") as file:
                file.write(f"{told} {control}")
        finally:
            os.close(control)
    except OSError:
        os.close(told)
        return -1
    return told

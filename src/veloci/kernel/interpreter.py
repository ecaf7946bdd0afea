"""An interpreter of its own for work that needs a process with one thread, started from a program that has many."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def started(module: str, *arguments: str, descriptors: Mapping[int, int]) -> int:
    """Start `python -I -S` that calls `module`'s `main(*arguments)`. Returns its PID, a child of ours.

    descriptors: one of ours -> its number over there; 0 to 2 are ours unless they are given. posix_spawn(3) neither
    copies this process's memory nor runs any of its code. Raises OSError.
    """
    places = [path for path in sys.path if path]
    code = f"import sys; sys.path[:0] = {places!r}; from {module} import main; main(*{arguments!r})"
    free = max(*descriptors, *descriptors.values()) + 1  # a number that is ours may be wanted over there: go round
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, ours, free + to) for ours, to in descriptors.items()]
    actions += [(os.POSIX_SPAWN_DUP2, free + to, to) for to in descriptors.values()]
    actions += [(os.POSIX_SPAWN_CLOSE, free + to) for to in descriptors.values()]
    return os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", code], os.environ, file_actions=actions)

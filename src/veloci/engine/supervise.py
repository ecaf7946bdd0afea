"""A container's monitor in an interpreter of its own: what `spawn.started` runs."""

from __future__ import annotations

from veloci.monitor import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(root: str, run: str) -> NoReturn:
    """Be the monitor of the container that the task names, of an engine with these directories."""
    from veloci.engine.engine import Engine

    spawn.main(lambda task: Engine(root, run).containers.ended(task.id))

"""A container's monitor in an interpreter of its own: what `spawn.started` runs."""

from __future__ import annotations

from veloci.monitor import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Be the monitor of the container that the task names."""
    from veloci.engine.engine import Engine

    spawn.main(lambda task: Engine().containers.ended(task.id))

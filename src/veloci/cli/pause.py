"""`veloci pause`, `unpause`."""

from __future__ import annotations

from veloci.cli.main import each
from veloci.engine.control import pause as stop_where_it_is
from veloci.engine.control import unpause as let_go_on
from veloci.engine.engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def pause(container: str, /, *containers: str) -> int:
    """Stop all processes of containers where they are."""
    return _each(stop_where_it_is, (container, *containers))


def unpause(container: str, /, *containers: str) -> int:
    """Let the processes of paused containers go on."""
    return _each(let_go_on, (container, *containers))


def _each(act: Callable[[Engine, str], None], words: tuple[str, ...]) -> int:
    engine = Engine()

    def one(word: str) -> None:
        act(engine, word)
        print(word)

    return each(one, words)

"""`with` blocks made of generators, as contextlib's, whose imports take 2 ms of the 20 that a small copy takes.

Only what the way of an image needs; contextlib is the tests' oracle.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import contextmanager, suppress
    from types import TracebackType
    from typing import Any

__all__ = ["Block", "contextmanager", "suppress"]

if not TYPE_CHECKING:

    def contextmanager(function: Callable[..., Generator[Any]]) -> Callable[..., Block]:
        """As contextlib.contextmanager; what it gives is no decorator."""

        def made(*words: Any, **options: Any) -> Block:
            return Block(function(*words, **options))

        made.__name__, made.__qualname__ = function.__name__, function.__qualname__
        made.__doc__, made.__module__, made.__wrapped__ = function.__doc__, function.__module__, function
        return made

    class suppress:  # noqa: N801 -- as contextlib has it
        """As contextlib.suppress, without groups of exceptions."""

        __slots__ = ("_kinds",)

        def __init__(self, *kinds: type[BaseException]) -> None:
            self._kinds = kinds

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
            return kind is not None and issubclass(kind, self._kinds)


class Block:
    """A block whose beginning and end are those of a generator that yields once."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[Any]) -> None:
        self._steps = steps

    def __enter__(self) -> Any:
        for found in self._steps:
            return found
        raise RuntimeError("the generator did not yield")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Let the generator go on, with the block's exception if there is one: it may end it."""
        if error is None:
            for _ in self._steps:
                self._steps.close()
                raise RuntimeError("the generator did not stop")
            return False
        try:
            self._steps.throw(error)
        except StopIteration as ended:
            return ended is not error  # else it is the block's own
        except BaseException as raised:
            # A generator that lets StopIteration through raises RuntimeError in its place (PEP 479).
            if raised is not error and not (isinstance(error, StopIteration) and raised.__cause__ is error):
                raise
            error.__traceback__ = trace
            return False
        self._steps.close()
        raise RuntimeError("the generator did not stop after its exception")

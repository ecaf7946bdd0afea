"""Threads: a bounded map, and `ahead` for pipelines. With the registry's server, the only ones in the library."""

from __future__ import annotations

import threading
from collections import deque
from typing import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")


def parallel(function: Callable[[T], R], items: Iterable[T], *, limit: int = 4) -> Iterator[R]:
    """`map(function, items)`, with up to `limit` of them at work at once; results come in the items' order.

    The first failure is raised in its place; what has not begun then never begins, and what has is waited for.
    """
    from concurrent.futures import CancelledError, ThreadPoolExecutor

    futures: list[Future[R]] = []
    stopped = threading.Event()

    def work(item: T) -> R:
        try:
            return function(item)
        except BaseException:
            stop()
            raise

    def stop() -> None:
        stopped.set()
        for future in futures:
            future.cancel()

    with ThreadPoolExecutor(limit, "parallel") as pool:
        try:
            for item in items:
                if stopped.is_set():
                    break
                futures.append(pool.submit(work, item))
            for future in futures:
                yield future.result()
        except CancelledError:  # it was about to begin when a later one, which did, failed
            raise next(
                failure for future in futures if not future.cancelled() and (failure := future.exception())
            ) from None
        finally:
            stop()


def ahead(items: Iterable[T], depth: int = 4) -> Generator[T]:
    """The same items, made by another thread at most `depth` ahead.

    An exception over there is raised here, in its place. Closing this generator
    stops the thread before its next item.
    """
    ready: deque[T] = deque()
    turn = threading.Condition()
    done = False
    failure: BaseException | None = None

    def produce() -> None:
        nonlocal done, failure
        try:
            for item in items:
                with turn:
                    turn.wait_for(lambda: done or len(ready) < depth)
                    if done:
                        return
                    ready.append(item)
                    turn.notify_all()
        except BaseException as error:  # noqa: BLE001 -- raised again by the consumer
            failure = error
        finally:
            with turn:
                done = True
                turn.notify_all()

    thread = threading.Thread(target=produce, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            with turn:
                turn.wait_for(lambda: done or ready)
                if not ready:
                    break
                item = ready.popleft()
                turn.notify_all()
            yield item
    finally:
        with turn:
            done = True
            turn.notify_all()
        thread.join()
    if failure is not None:
        raise failure

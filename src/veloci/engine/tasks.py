"""Threads: a bounded map, and `ahead` for pipelines. With the registry's server, the only ones in the library."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread

KEPT = 4 << 20  # bytes: of chunks of up to so many, the memory is used again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")
    R = TypeVar("R")


class _Task:
    """An item at work. done: locked until there is a result or a failure."""

    __slots__ = ("done", "failure", "item", "result")

    def __init__(self, item: Any) -> None:
        self.item: Any = item
        self.result: Any = None
        self.failure: BaseException | None = None
        self.done = allocate_lock()
        self.done.acquire()


def parallel(function: Callable[[T], R], items: Iterable[T], *, limit: int = 4) -> Iterator[R]:
    """`map(function, items)`, with up to `limit` of them at work at once; results come in the items' order.

    The first failure is raised in its place; what has not begun then never begins, and what has is waited for. No
    concurrent.futures and no threading: what they import takes longer than a small layer.
    """
    tasks = [_Task(item) for item in items]
    if len(tasks) <= 1:
        yield from (function(task.item) for task in tasks)
        return
    here = len(tasks) <= limit  # then the first, for which the caller waits anyway, needs no thread
    waiting = iter(tasks[here:])  # taken in order, so all that come before a failure have begun
    stopped = False

    def work(ended: LockType) -> None:
        nonlocal stopped
        while not stopped and (task := next(waiting, None)):
            try:
                task.result = function(task.item)
            except BaseException as error:  # noqa: BLE001 -- raised again in its place
                task.failure, stopped = error, True
            task.done.release()
        ended.release()

    threads: list[LockType] = []  # each locked until its thread ends
    try:
        for _ in range(min(limit, len(tasks)) - here):
            ended = allocate_lock()
            ended.acquire()
            start_new_thread(work, (ended,))
            threads.append(ended)
        if here:
            yield function(tasks[0].item)
        for task in tasks[here:]:
            task.done.acquire()
            if task.failure is not None:
                raise task.failure
            yield task.result
    finally:
        stopped = True
        for ended in threads:
            ended.acquire()


def _keep_memory() -> None:
    """Let the C library use the memory of freed chunks again instead of giving it back, to be zeroed for the next one.

    glibc takes the size of the largest block that was mapped and freed for the size from which it maps blocks, and
    keeps twice as much (mallopt(3), "dynamic mmap threshold"). A layer of 650 MB takes a seventh of the page faults,
    and the other threads are not stopped while pages go. A block that is never touched costs two system calls.
    """
    bytes(KEPT)


def ahead(items: Iterable[T], depth: int = 4) -> Generator[T]:
    """The same items, made by another thread at most `depth` ahead.

    An exception over there is raised here, in its place. Closing this generator
    stops the thread before its next item.
    """
    import threading
    from collections import deque

    _keep_memory()
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

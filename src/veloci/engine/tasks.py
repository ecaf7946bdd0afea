"""Threads: a bounded map, `ahead` and `spread` for pipelines.

With the registry's server, the only ones in the library.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread

KEPT = 4 << 20  # bytes: of chunks of up to so many, the memory is used again
WORKERS = 4  # threads that one stream may have: who reads and hashes it is no faster than as many that pack

_for: dict[int, int] = {}  # a thread of a stream -> the one that it works for

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

    The first failure is raised in its place; what has not begun then never begins, and what has is waited for. After an
    interrupt what is at work ends, too, as far as it waits for a registry. No
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

    threads: dict[int, LockType] = {}  # each locked until its thread ends
    try:
        for _ in range(min(limit, len(tasks)) - here):
            ended = allocate_lock()
            ended.acquire()
            threads[start_new_thread(work, (ended,))] = ended
        if here:
            yield function(tasks[0].item)
        for task in tasks[here:]:
            task.done.acquire()
            if task.failure is not None:
                raise task.failure
            yield task.result
    except KeyboardInterrupt:
        stopped = True
        _interrupt(threads, wait=lambda: [ended.acquire() for ended in threads.values()])
        threads.clear()
        raise
    finally:
        stopped = True
        for ended in threads.values():
            ended.acquire()


def _interrupt(threads: Iterable[int], wait: Callable[[], object]) -> None:
    """Have threads, and those that work for them, end what they wait for from registries; then `wait` for them."""
    from sys import modules

    found = set(threads)
    for _ in list(_for):  # deep at most
        found |= {each for each, other in list(_for.items()) if other in found}
    wire = modules.get("veloci.registry.wire")  # where it is not loaded nobody waits for a registry
    if wire is None:
        wait()
        return
    wire.interrupt(found)
    try:
        wait()
    finally:
        wire.spare(found)


def _keep_memory() -> None:
    """Let the C library use the memory of freed chunks again instead of giving it back, to be zeroed for the next one.

    glibc takes the size of the largest block that was mapped and freed for the size from which it maps blocks, and
    keeps twice as much (mallopt(3), "dynamic mmap threshold"). A layer of 650 MB takes a seventh of the page faults,
    and the other threads are not stopped while pages go. A block that is never touched costs two system calls.
    """
    bytes(KEPT)


class _Ahead:
    """What `function` makes of items, in their order, by threads that work for the one that made this.

    At most `depth` of them are at work or ready. Ends with `end`.
    """

    def __init__(self, function: Callable[[Any], Any] | None, items: Iterable[Any], depth: int, workers: int) -> None:
        from collections import deque
        from threading import Condition, Thread

        self._function, self._items, self._depth = function, iter(items), depth
        self._tasks: deque[_Task] = deque()
        self._turn, self._done = Condition(), False
        self._source = allocate_lock()  # one thread at a time asks for the next item
        self.consumer = get_ident()
        self._threads = [Thread(target=self._work, name="ahead", daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        _for[get_ident()] = self.consumer
        try:
            while task := self._next():
                try:
                    task.result = self._function(task.item) if self._function else task.item
                except BaseException as error:  # noqa: BLE001 -- raised again by the consumer
                    task.failure = error
                task.done.release()
        finally:
            del _for[get_ident()]

    def _next(self) -> _Task | None:
        """The next item, as a task that the consumer knows of; None if there is none, or no more is wanted."""
        with self._source:
            with self._turn:
                self._turn.wait_for(lambda: self._done or len(self._tasks) < self._depth)
                if self._done:
                    return None
            task = _Task(None)
            try:
                task.item = next(self._items)
            except StopIteration:
                self._stop()
                return None
            except BaseException as error:  # noqa: BLE001 -- raised again by the consumer
                task.failure = error
                task.done.release()
            with self._turn:
                if task.failure is not None:
                    self._done = True
                self._tasks.append(task)
                self._turn.notify_all()
            return task if task.failure is None else None

    def _stop(self) -> None:
        with self._turn:
            self._done = True
            self._turn.notify_all()

    def take(self) -> _Task | None:
        """Wait for the next task, and for its end; None if there is none."""
        with self._turn:
            self._turn.wait_for(lambda: self._done or self._tasks)
            if not self._tasks:
                return None
            task = self._tasks.popleft()
            self._turn.notify_all()
        task.done.acquire()
        return task

    def end(self) -> None:
        """Stop the threads before their next items, and wait for them."""
        self._stop()
        for thread in self._threads:
            thread.join()


def ahead(items: Iterable[T], depth: int = 4) -> Generator[T]:
    """The same items, made by another thread at most `depth` ahead.

    An exception over there is raised here, in its place. Closing this generator
    stops the thread before its next item; an interrupt also ends what it waits for from a registry.
    """
    yield from _made(None, items, depth, 1)


def spread(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map(function, items)` of a stream: as many at work as there are processors, asked for as they are needed.

    Results come in the items' order, exceptions in their place. Closing this iterator is as for `ahead`.
    """
    from itertools import chain, islice
    from os import sched_getaffinity

    source, workers = iter(items), min(WORKERS, len(sched_getaffinity(0)))
    first = list(islice(source, 2))
    if workers < 2 or len(first) < 2:
        yield from map(function, chain(first, source))
        return
    yield from _made(function, chain(first, source), workers + 2, workers)


def _made(function: Callable[[Any], Any] | None, items: Iterable[Any], depth: int, workers: int) -> Generator[Any]:
    _keep_memory()
    made = _Ahead(function, items, depth, workers)
    try:
        while task := made.take():
            if task.failure is not None:
                raise task.failure
            yield task.result
    except KeyboardInterrupt:
        _interrupt((made.consumer,), wait=made.end)
        raise
    finally:
        made.end()

"""Threads: a bounded map, and `ahead` for pipelines. With the registry's server, the only ones in the library."""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread

KEPT = 4 << 20  # bytes: of chunks of up to so many, the memory is used again

_for: dict[int, int] = {}  # a thread of `ahead` -> the one that it works for

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
    """Items that a thread has ready for the one that made this, at most `depth` of them. Ends with `end`."""

    def __init__(self, items: Iterable[Any], depth: int) -> None:
        from collections import deque
        from threading import Condition, Thread

        self._items, self._depth = items, depth
        self._ready: deque[Any] = deque()
        self._turn, self._done = Condition(), False
        self.failure: BaseException | None = None
        self.consumer = get_ident()
        self._thread = Thread(target=self._produce, name="ahead", daemon=True)
        self._thread.start()

    def _produce(self) -> None:
        _for[get_ident()] = self.consumer
        try:
            for item in self._items:
                with self._turn:
                    self._turn.wait_for(lambda: self._done or len(self._ready) < self._depth)
                    if self._done:
                        return
                    self._ready.append(item)
                    self._turn.notify_all()
        except BaseException as error:  # noqa: BLE001 -- raised again by the consumer
            self.failure = error
        finally:
            del _for[get_ident()]
            self._stop()

    def _stop(self) -> None:
        with self._turn:
            self._done = True
            self._turn.notify_all()

    def wait(self) -> bool:
        """Wait for the next item; False if there is none."""
        with self._turn:
            self._turn.wait_for(lambda: self._done or self._ready)
            return bool(self._ready)

    def take(self) -> Any:
        """The item that was waited for."""
        with self._turn:
            self._turn.notify_all()
            return self._ready.popleft()

    def end(self) -> None:
        """Stop the thread before its next item, and wait for it."""
        self._stop()
        self._thread.join()


def ahead(items: Iterable[T], depth: int = 4) -> Generator[T]:
    """The same items, made by another thread at most `depth` ahead.

    An exception over there is raised here, in its place. Closing this generator
    stops the thread before its next item; an interrupt also ends what it waits for from a registry.
    """
    _keep_memory()
    made = _Ahead(items, depth)
    try:
        while made.wait():
            yield made.take()
    except KeyboardInterrupt:
        _interrupt((made.consumer,), wait=made.end)
        raise
    finally:
        made.end()
    if made.failure is not None:
        raise made.failure

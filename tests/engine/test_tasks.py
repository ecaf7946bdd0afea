"""Threads: order, bounds, failures in their place, nothing left running."""

import _thread
import os
import threading
import time

import pytest

from veloci.engine.tasks import ahead, parallel, spread


def test_results_come_in_the_order_of_the_items():
    def slow_first(item):
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    assert list(parallel(slow_first, range(6))) == [0, 1, 4, 9, 16, 25]


def test_no_more_than_the_limit_work_at_once():
    working, most = 0, 0
    lock = threading.Lock()

    def work(_):
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.01)
        with lock:
            working -= 1

    list(parallel(work, range(10), limit=3))
    assert most == 3


def test_after_a_failure_nothing_more_begins():
    begun = []

    def fail(item):
        begun.append(item)
        time.sleep(0.02)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(parallel(fail, range(100), limit=2))
    assert len(begun) <= 4


def test_what_came_before_a_failure_is_given_and_what_began_is_waited_for():
    ended, last, before = [], threading.Event(), _thread._count()

    def work(item):
        if item == 1:
            last.wait(5)
            raise ValueError(item)
        if item == 2:
            last.set()
        time.sleep(0.05)
        ended.append(item)
        return item

    results = parallel(work, range(4), limit=3)
    assert next(results) == 0
    with pytest.raises(ValueError, match="1"):
        next(results)
    assert ended in ([0, 2], [2, 0])
    for _ in range(100):  # a thread counts for a moment after the last that it does
        if _thread._count() <= before:
            break
        time.sleep(0.01)
    assert _thread._count() <= before


def test_a_reader_of_results_that_stops_early_ends_the_threads():
    begun = []
    results = parallel(lambda item: begun.append(item) or time.sleep(0.01), range(1000), limit=2)
    next(results)
    results.close()
    assert len(begun) < 10
    assert list(parallel(abs, [])) == []


def test_ahead_gives_the_same_items_and_the_failure_in_its_place():
    def items():
        yield 1
        yield 2
        raise OSError("gone")

    got = []
    with pytest.raises(OSError, match="gone"):
        got.extend(ahead(items()))
    stream = ahead(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(stream)


def noted(asked):
    """A thousand numbers; `asked` gets those that were asked for."""
    for number in range(1000):
        asked.append(number)
        yield number


def test_a_reader_that_stops_early_stops_the_thread():
    made = []
    stream = ahead(noted(made), depth=2)
    next(stream)
    stream.close()
    assert len(made) < 10
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_stream_is_spread_over_threads_and_stays_in_order():
    at_once, most, lock = 0, 0, threading.Lock()

    def slow(number):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002 if number % 3 else 0.01)
        with lock:
            at_once -= 1
        return -number

    assert list(spread(slow, iter(range(100)))) == [-number for number in range(100)]
    assert most == min(4, len(os.sched_getaffinity(0)))
    assert list(spread(slow, [])) == []
    assert list(spread(lambda _: threading.current_thread(), [1])) == [threading.main_thread()]  # one item needs none
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_what_fails_of_a_stream_fails_in_its_place_and_no_more_is_asked_for():
    asked = []

    def fail(number):
        if number == 5:
            raise OSError("five")
        return number

    got = []
    with pytest.raises(OSError, match="five"):
        got.extend(spread(fail, noted(asked)))
    assert got == [0, 1, 2, 3, 4]
    assert len(asked) < 50
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
    stream = spread(abs, noted(asked))
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]

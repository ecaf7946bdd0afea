"""Blocks made of generators do what contextlib's do, which is the oracle."""

import contextlib

import pytest

from veloci import blocks


def plain(seen):
    seen.append("in")
    yield 7
    seen.append("out")


def cleaning(seen):
    try:
        yield 7
    finally:
        seen.append("out")


def ending(seen):
    with contextlib.suppress(KeyError, StopIteration):
        yield 7
    seen.append("after")


def changing(seen):
    try:
        yield 7
    except KeyError as error:
        seen.append("changed")
        raise ValueError("other") from error


def empty(_seen):
    return
    yield


def twice(seen):
    yield 1
    seen.append("again")
    yield 2


def stubborn(seen):
    try:
        yield 1
    except KeyError:
        seen.append("again")
        yield 2


def returning(_seen):
    try:
        yield 7
    except KeyError:
        return


def tried(module, generator, raised):
    """What a block gives, does and raises."""
    seen, error = [], None
    try:
        with module.contextmanager(generator)(seen) as given:
            seen.append(given)
            if raised:
                raise raised("text")
    except BaseException as caught:  # noqa: BLE001 -- looked at
        own = not isinstance(caught, RuntimeError)
        links = (type(caught.__cause__), type(caught.__context__)) if own else ()
        error = type(caught), str(caught) if own else "", links
        names, trace = [], caught.__traceback__
        while trace:
            names.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        seen.append(names[-1] if own else "")
    return seen, error


@pytest.mark.parametrize("raised", [None, KeyError, StopIteration, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("generator", [plain, cleaning, ending, changing, empty, twice, stubborn, returning])
def test_a_block_is_contextlibs(generator, raised):
    assert tried(blocks, generator, raised) == tried(contextlib, generator, raised)


@pytest.mark.parametrize("raised", [None, KeyError, IndexError, ValueError])
def test_what_is_suppressed_is_contextlibs(raised):
    def done(module):
        with module.suppress(LookupError, OSError):
            if raised:
                raise raised
            return "whole"
        return "suppressed"

    def outcome(module):
        try:
            return done(module)
        except ValueError:
            return "raised"

    assert outcome(blocks) == outcome(contextlib)


def test_a_blocks_function_keeps_its_name():
    made = blocks.contextmanager(plain)
    assert (made.__name__, made.__module__, made.__wrapped__) == ("plain", __name__, plain)

"""Physical lines become instructions, or an error that says which line."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.build.parse import parse
from veloci.errors import InvalidInput, VelociError


def lines(text, **options):
    return [(line.number, line.keyword, line.rest) for line in parse(text.encode(), **options).lines]


def test_comments_blank_lines_and_a_byte_order_mark_are_no_instructions():
    assert lines("\ufeff# hello\n\n  FROM a\n   # x\nrun b # not a comment\n") == [
        (3, "FROM", "a"),
        (5, "RUN", "b # not a comment"),
    ]


def test_a_continued_line_skips_comments_and_empty_lines_inside():
    text = "FROM a\nRUN one \\\n# comment\n\n    two \\  \n three\nRUN four\n"
    assert lines(text)[1:] == [(2, "RUN", "one     two  three"), (7, "RUN", "four")]


def test_a_doubled_backslash_at_the_end_continues_nothing():
    assert lines("FROM a\nRUN a\\\\\nRUN b")[1:] == [(2, "RUN", "a\\\\"), (3, "RUN", "b")]


def test_windows_line_ends_are_line_ends():
    assert lines("FROM a\r\nRUN x \\\r\n  y\r\n") == [(1, "FROM", "a"), (2, "RUN", "x   y")]


def test_the_escape_directive_changes_the_continuation_mark():
    assert lines("# escape=`\nFROM a\nRUN dir c:\\\nRUN a `\n b") == [
        (2, "FROM", "a"),
        (3, "RUN", "dir c:\\"),
        (4, "RUN", "a  b"),
    ]


def test_directives_end_with_the_first_line_that_is_none():
    assert parse(b"# unknown=1\n# escape=`\nFROM a").escape == "\\"
    assert parse(b"#syntax=docker/dockerfile:1\n#ESCAPE = `\nFROM a").escape == "`"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Dockerfile: file with no instructions"),
        ("# escape=x\nFROM a", "Dockerfile:1: invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a", "Dockerfile:2: only one escape parser directive can be used"),
        ("FROM a\nRUN <<EOF\nhello", "Dockerfile:2: unterminated heredoc <<EOF"),
        ("FROM a\nRUN " + "x" * 65_535, "Dockerfile:2: line is longer than 65,535 bytes"),
    ],
)
def test_an_error_says_file_and_line(text, message):
    with pytest.raises(InvalidInput) as caught:
        parse(text.encode())
    assert str(caught.value) == message


def test_bytes_that_are_no_text_are_refused_with_their_line():
    with pytest.raises(InvalidInput, match=r"^Dockerfile:2: not UTF-8 text$"):
        parse(b"FROM a\nRUN \xff")


def test_here_documents_follow_their_instruction():
    text = "FROM a\nCOPY <<one <<-'two' /x/\n$A\none\n\ttabs\n\ttwo\nRUN b\n"
    copy = parse(text.encode()).lines[1]
    first, second = copy.heredocs
    assert (first.name, first.expand, first.chomp, first.content) == ("one", True, False, "$A\n")
    assert (second.name, second.expand, second.text()) == ("two", False, "tabs\n")
    assert lines(text)[2] == (7, "RUN", "b")


def test_a_shift_in_arithmetic_and_json_open_no_here_document():
    assert len(lines('FROM a\nRUN echo $((1<<2))\nRUN ["<<EOF"]\nLABEL a=<<b')) == 4


def test_a_trigger_may_have_a_here_document():
    assert parse(b"FROM a\nONBUILD RUN <<E\nx\nE\nRUN y").lines[1].heredocs[0].content == "x\n"


@given(st.binary(max_size=200))
def test_whatever_bytes_come_in_only_our_errors_come_out(raw):
    with contextlib.suppress(VelociError):
        parse(raw)

"""Variables and quotes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.build import expand
from veloci.errors import InvalidInput, VelociError

KNOWN = {"A": "one", "B": "two words", "E": "", "F": "archive.tar.gz", "P": "a/b/c"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A ${A}x $Ax", "one onex "),
        (r"\$A", "$A"),
        ("'$A' \"$A\"", "$A one"),
        (r'"a\"b\\c\n"', r'a"b\c\n'),
        (r"a\ b", "a b"),
        ("$ $$ x$", "$  x$"),
        ("${N:-x} ${N-x} ${E:-x} ${E-x}", "x x x "),
        ("${A:+x} ${E:+x} ${E+x} ${N+x}", "x  x "),
        ("${N:-${A}} ${N:-'a b'}", "one a b"),
        ("${A:?no} ${E?no}", "one "),
        ("${F#*.} ${F##*.} ${F%.*} ${F%%.*}", "tar.gz gz archive.tar archive"),
        ("${P/\\//-} ${P//\\//-} ${P//?/x}", "a-b/c a-b-c xxxxx"),
        ("${A%nothing}", "one"),
        ("/opt/${A}/bin:$B", "/opt/one/bin:two words"),
    ],
)
def test_a_word_is_expanded(text, result):
    assert expand.word(text, KNOWN) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("80 $A", ["80", "one"]),
        ("$B", ["two", "words"]),
        ('"$B" x', ["two words", "x"]),
        ("x${B}y", ["xtwo", "wordsy"]),
        ("$E", []),
        ("''", [""]),
    ],
)
def test_words_divide_at_blanks_that_no_quote_protects(text, result):
    assert expand.words(text, KNOWN) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${", "Dockerfile:3: bad substitution in '${'"),
        ("${A", "Dockerfile:3: missing '}' in '${A'"),
        ("${A:-x", "Dockerfile:3: missing '}' in '${A:-x'"),
        ("${A:=x}", "Dockerfile:3: unsupported modifier (:=) in '${A:=x}'"),
        ("${N:?say why}", "Dockerfile:3: N: say why"),
        ("${E:?}", "Dockerfile:3: E: not allowed to be unset"),
        ("'x", 'Dockerfile:3: unexpected end of statement while looking for matching single-quote in "\'x"'),
    ],
)
def test_wrong_syntax_says_what_and_where(text, message):
    with pytest.raises(InvalidInput) as caught:
        expand.word(text, KNOWN, where="Dockerfile:3")
    assert str(caught.value) == message


def test_a_here_document_keeps_its_quotes():
    assert expand.body('it\'s "$A" \\$A \\n\n', KNOWN) == 'it\'s "one" $A \\n\n'


@given(st.text(max_size=60))
def test_whatever_text_comes_in_only_our_errors_come_out(text):
    try:
        expand.word(text, KNOWN)
        expand.words(text, KNOWN)
    except VelociError:
        pass

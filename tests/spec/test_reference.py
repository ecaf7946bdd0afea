"""Names of images, as docker reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.errors import InvalidInput
from veloci.spec.reference import Reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "whole", "short"),
    [
        ("debian", "docker.io/library/debian", "debian"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("team/app", "docker.io/team/app", "team/app"),
        ("docker.io/debian", "docker.io/library/debian", "debian"),
        ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
        ("localhost/a", "localhost/a", "localhost/a"),
        ("127.0.0.1:5000/a/b:v0", "127.0.0.1:5000/a/b:v0", "127.0.0.1:5000/a/b:v0"),
        ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
        ("a__b/c-d--e.f:X_1", "docker.io/a__b/c-d--e.f:X_1", "a__b/c-d--e.f:X_1"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}", f"debian:12@{DIGEST}"),
    ],
)
def test_a_name_has_a_whole_and_a_short_form(text, whole, short):
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar()) == (whole, short)
    assert Reference.parse(short) == reference


def test_the_default_tag_is_added_only_where_nothing_says_which():
    assert str(Reference.parse("a").with_default_tag()) == "docker.io/library/a:latest"
    assert str(Reference.parse("a:b").with_default_tag()) == "docker.io/library/a:b"
    assert str(Reference.parse(f"a@{DIGEST}").with_default_tag()) == f"docker.io/library/a@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no name"),
        ("Debian", "a repository's name must be lower case"),
        ("a..b", "'a..b' cannot stand in a name"),
        ("a___b", "'a___b' cannot stand in a name"),
        ("../../etc", "'..' cannot stand in a name"),
        ("-x", "'-x' cannot stand in a name"),
        ("a:" + "t" * 129, f"{'t' * 129!r} is not a tag"),
        ("a:-t", "'-t' is not a tag"),
        ("a@sha256:12", "'sha256:12' is not a digest"),
        ("127.0.0.1:99999/a", "'127.0.0.1:99999' is not a registry's host"),
        ("[:]:1/a", "'[:]:1' is not a registry's host"),
        ("[1.2.3.4]/a", "'[1.2.3.4]' is not a registry's host"),
        ("[fe80::1%eth0]/a", "'[fe80::1%eth0]' is not a registry's host"),
        ("[::1/a", "'[::1' is not a registry's host"),
        ("a/" * 130 + "b", "the name is too long"),
    ],
)
def test_what_is_not_a_name_is_refused_with_the_reason(text, why):
    with pytest.raises(InvalidInput) as failure:
        Reference.parse(text)
    assert str(failure.value) == f"invalid reference {text!r}: {why}"
    assert failure.value.hint


@given(st.text(max_size=40))
def test_any_text_is_a_name_that_survives_the_round_trip_or_is_refused(text):
    try:
        reference = Reference.parse(text)
    except InvalidInput:
        return
    assert Reference.parse(str(reference)) == reference
    assert ".." not in str(reference)

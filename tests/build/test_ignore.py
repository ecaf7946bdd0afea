"""Patterns of .dockerignore, as docker reads them."""

import pytest

from veloci.build.ignore import Ignore
from veloci.errors import InvalidInput


def left_out(rules, *paths):
    ignore = Ignore.read(rules.encode(), name=".dockerignore")
    return [path for path in paths if ignore.rule(path)]


@pytest.mark.parametrize(
    ("rules", "paths", "out"),
    [
        ("a", "a a/b b/a ab", "a a/b"),
        ("*/a", "a x/a x/a/y x/y/a", "x/a x/a/y"),
        ("**/a", "a x/a x/y/a/z ab", "a x/a x/y/a/z"),
        ("*.md\n!README.md", "x.md README.md d/x.md", "x.md"),
        ("*\n!*/sub1*", "top d d/sub1 d/sub10/x d/sub2", "top d d/sub2"),
        ("abc/**", "abc abc/x abc/x/y", "abc/x abc/x/y"),
        ("/a\nb/", "a b b/c", "a b b/c"),
        ("#x\n #y", "#x #y", "#y"),
        ("  a  \n! a/keep", "a a/keep a/other", "a a/other"),
        ("x?z\n[a-c]1\n[^a]2", "xyz xz b1 d1 a2 b2", "xyz b1 b2"),
        ("a.b+(c)$", "a.b+(c)$ axb+(c)$", "a.b+(c)$"),
        ("./x/../y", "x y", "y"),
        (".", "a", ""),
        ("a\\*b", "a*b axb", "a*b"),
        ("!a\na\n!a/b\na/b/c", "a a/b a/b/c a/b/d", "a a/b/c"),
    ],
)
def test_the_last_pattern_that_matches_a_path_or_a_parent_wins(rules, paths, out):
    assert left_out(rules, *paths.split(" ")) == out.split()


def test_the_rule_that_leaves_a_path_out_is_named():
    ignore = Ignore.read(b"# comment\n\n*.log\n", name=".dockerignore")
    assert ignore.rule("x.log") == ".dockerignore:3"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("a\n!", ".dockerignore:2: illegal exclusion pattern: '!'"),
        ("[a", ".dockerignore:1: syntax error in pattern '[a'"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_told(rules, message):
    with pytest.raises(InvalidInput) as caught:
        left_out(rules)
    assert str(caught.value) == message

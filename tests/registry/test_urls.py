"""Addresses, beside urllib.parse as the oracle."""

from urllib.parse import quote, urlencode, urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veloci.registry import urls

PIECES = ["http://", "https://", "HTTP://", "ftp:", "//", "/", "/v2/", "a", "A", ".", "..", "reg.example", "127.0.0.1", "[::1]", "[", "]", ":", ":5000", ":0", ":65536", ":x", "@", "u:p", "?", "n=1", "&", "#", "%3A", "%", "\\", " ", "\t", "\n", "ü", "℀", ";", "_", "~", "+", ""]  # fmt: skip
addresses = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: "http://reg.example:5000/" + "".join(pieces)),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: "http://reg" + "".join(pieces)),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: "/v2/" + "".join(pieces)),
)


def tried(function, *words):
    try:
        return function(*words)
    except ValueError:
        return ValueError


@given(addresses)
@settings(max_examples=500, deadline=None)
@example("http://127.0.0.1:5000/v2/a/blobs/sha256:0?n=1")
@example("http://a:/")
@example("http://a?b/c:d")
@example("http://a/b?c?d")
@example("https://A.example/")
def test_an_address_is_split_as_urllib_does(url):
    ours, theirs = tried(urls.split, url), tried(urlsplit, url)
    if theirs is ValueError:
        assert ours is ValueError
        return
    for name in ("scheme", "netloc", "path", "query", "hostname", "port"):
        assert tried(getattr, ours, name) == tried(getattr, theirs, name)


@given(addresses, addresses)
@settings(max_examples=500, deadline=None)
@example("http://a:1/v2/x/blobs/uploads/", "/v2/x/blobs/uploads/1?s=2")
@example("http://a/v2/", "http://b/c/../d")
@example("http://a/v2/", "/c/./d")
@example("http://a/v2/", "//b/c")
@example("http://a/v2/", "http:///c")
@example("http://a/v2/", "/c?")
@example("http://a/v2/", "/c?d=//e")
@example("http://a/v2/", "")
def test_an_address_is_joined_as_urllib_does(url, target):
    assert tried(urls.join, url, target) == tried(urljoin, url, target)


@given(st.text(max_size=8), st.text("/:@?", max_size=3))
def test_text_is_quoted_as_urllib_does(text, safe):
    assert tried(urls.quoted, text, safe) == tried(quote, text, safe)
    assert tried(urls.query, [("a b", text), (text, "")]) == tried(urlencode, [("a b", text), (text, "")])


def test_what_is_plain_needs_no_urllib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "urllib.parse", None)
    assert urls.split("http://127.0.0.1:5000/v2/a?n=1").port == 5000
    assert urls.join("https://a/v2/", "/v2/b?c=d") == "https://a/v2/b?c=d"
    with pytest.raises(ImportError):
        urls.split("http://u@a/")

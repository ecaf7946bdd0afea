"""Headers, lists and files from outside: read right, and whatever they hold, an answer or an error of ours."""

import contextlib
import os
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.errors import VelociError
from veloci.registry import auth, configuration, credentials, protocol
from veloci.registry.inner import is_inner
from veloci.registry.proxies import proxy
from veloci.spec.reference import Reference


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('</v2/a/tags/list?last=b&n=5>; rel="next"', "/v2/a/tags/list?last=b&n=5"),
        ("</next>; rel=next", "/next"),
        ('</prev>; rel="prev", </next>; title="x"; rel="next"', "/next"),
        ('</prev>; rel="prev"', None),
        ('<>; rel="next"', ""),
        ("nonsense", None),
        (None, None),
    ],
)
def test_the_next_page_is_where_link_says(header, target):
    assert protocol.next_page(header) == target


def test_a_long_header_is_read_in_a_moment():
    """Its pattern went over the spaces again from each of them: for half a minute."""
    began = process_time()
    assert protocol.next_page("x" + " " * 200_000 + '</next>; rel="next"') == "/next"
    assert protocol.next_page("x" + " " * 200_000 + "x") is None
    assert process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes=5-", (5, None, None)),
        ("bytes 5-9/20", (5, 9, 20)),
        ("bytes 5-9/*", (5, 9, None)),
        ("0-99", (0, 99, None)),
        ("bytes=-5", None),
        ("5-9-10", None),
        ("", None),
    ],
)
def test_ranges_are_read(text, found):
    assert protocol.byte_range(text) == found


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-1", None), ("soon", None), ("", None), (None, None), ("1" * 50, 111111111.0)],
)
def test_the_time_to_wait_is_read(value, seconds):
    assert protocol.retry_after(value) == seconds


def test_the_time_to_wait_may_be_a_date():
    from email.utils import formatdate
    from time import time

    assert 55 < protocol.retry_after(formatdate(time() + 60, usegmt=True)) <= 60
    assert protocol.retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_warnings_are_those_of_the_specification():
    assert protocol.warnings(['299 - "one"', '299 - "two", 299 - "one"', '299 x "no"', '110 - "no"', "299 - no"]) == [
        "one",
        "two",
    ]
    assert len(protocol.warnings([f'299 - "{n}"' for n in range(100)])) == 8


TEXT = st.text() | st.text(alphabet='bearer basic=",\\<>;rel"next/0123456789-')


@given(TEXT)
def test_whatever_a_header_holds_nothing_breaks(text):
    scheme, parameters = auth.challenge(text)
    assert scheme in ("", "basic", "bearer")
    assert all(isinstance(value, str) for value in parameters.values())
    protocol.next_page(text)
    protocol.byte_range(text)
    protocol.retry_after(text)
    protocol.warnings([text])
    is_inner(text)
    assert "\n" not in protocol.words(text.encode("utf-8", "surrogatepass"), "x")


@given(TEXT, TEXT)
def test_whatever_the_proxy_variables_hold_it_is_a_proxy_or_an_error_of_ours(value, rules):
    before = dict(os.environ)
    try:
        os.environ["HTTP_PROXY"] = value.replace("\0", "").encode("utf-8", "replace").decode()
        os.environ["NO_PROXY"] = rules.replace("\0", "").encode("utf-8", "replace").decode()
        with contextlib.suppress(VelociError):
            proxy("http", "images.example", 80)
    finally:
        os.environ.clear()
        os.environ.update(before)


NAMES = st.sampled_from(["registry", "prefix", "location", "insecure", "blocked", "mirror", "aliases", "x", "unqualified-search-registries", "credential-helpers", "registries", "search"])  # fmt: skip
TOML = st.recursive(
    st.sampled_from(['"a:1"', '"*.b.example"', '""', "true", "5", '"docker.io"', '"h:1/x y"', "1979-05-27"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(NAMES, inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(NAMES, TOML, max_size=4).map(lambda d: "\n".join(f"{k} = {v}" for k, v in d.items())) | st.text()
)
def test_whatever_registries_conf_holds_it_is_a_configuration_or_an_error_of_ours(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "registries.conf"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    found = configuration.Configuration()
    with contextlib.suppress(VelociError):
        configuration._merge(found, str(path))
        found.endpoints(Reference.parse("a:1/x"))
        found.endpoints(Reference.parse("h.b.example/x"))
        found.candidates("debian")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(["bWU6eA==", "test", "reg:1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["auths", "auth", "reg:1", "identitytoken", "username", "credHelpers", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["auths", "credHelpers", "HttpHeaders"]), JSON, max_size=3))
def test_whatever_a_credentials_file_holds_it_is_credentials_or_an_error_of_ours(tmp_path_factory, value):
    import json

    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value))
    with contextlib.suppress(VelociError):
        credentials.find("reg:1", "team/app", authfile=str(path))


def test_a_chosen_file_is_the_only_one(nobody, tmp_path, monkeypatch):
    def entry(path, registry, auth):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}')

    name = lambda *where, **options: getattr(credentials.find(*where, **options), "name", None)  # noqa: E731
    entry(nobody / ".docker/config.json", "reg:1", "ZG9ja2VyOng=")
    assert name("reg:1") == "docker"
    entry(nobody / ".config/containers/auth.json", "reg:1", "Y29uZmlnOng=")
    assert name("reg:1") == "config"
    entry(Path(os.environ["XDG_RUNTIME_DIR"]) / "containers/auth.json", "reg:1/team", "dGVhbTp4")
    assert (name("reg:1", "team/app"), name("reg:1", "other")) == ("team", "config")
    entry(tmp_path / "chosen.json", "reg:2", "Y2hvc2VuOng=")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "chosen.json"))
    assert (name("reg:1"), name("reg:2")) == (None, "chosen")
    assert name("reg:1", authfile=str(nobody / ".docker/config.json")) == "docker"

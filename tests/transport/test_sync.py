"""The list of images to synchronise, and ranges of versions."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.errors import InvalidInput, VelociError
from veloci.transport import semver
from veloci.transport.sync import LARGEST, read

TAGS = ["1.0", "1.10", "2.0.1", "latest", "v3"]
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "list.yml"
        path.write_text(text)
        return str(path)

    return write


def test_a_list_says_what_to_take(file):
    (first, second) = read(
        file(f"""
            127.0.0.1:5000:
              images:
                a/exact: ["1.0", 1.10, "{DIGEST}", "1.0"]
                b/all: []
                c/all:
              images-by-tag-regex:
                d/some: ^[0-9.]+$
              images-by-semver:
                e/newer: ">= 2"
              credentials: {{username: me, password: "pass:word"}}
              tls-verify: false
              cert-dir: /certs
            other.example: {{}}
        """)
    )
    assert [[str(image).partition("/")[2] for image in w.images(lambda _: TAGS)] for w in first.repositories] == [
        ["a/exact:1.0", "a/exact:1.10", f"a/exact@{DIGEST}"],
        [f"b/all:{tag}" for tag in TAGS],
        [f"c/all:{tag}" for tag in TAGS],
        ["d/some:1.0", "d/some:1.10", "d/some:2.0.1"],
        ["e/newer:2.0.1", "e/newer:v3"],
    ]
    assert (first.credentials, first.tls_verify, first.cert_dir) == (("me", "pass:word"), False, "/certs")
    assert (second.registry, second.repositories, second.tls_verify) == ("other.example", [], None)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: [", ":1", "not YAML: "),
        ("a.b:\n  images: {x: [}", ":2", "not YAML: "),
        ("a.b: {}\na.b: {}", ":2", "not YAML: a.b stands twice"),
        ("- a", "", "expected registries, each with what to take"),
        ("a.b: 5", ": a.b", "expected an object"),
        ("a.b: {image: {}}", ": a.b", "unknown key 'image'"),
        ("a.b: {images: [x]}", ": a.b: images", "expected an object of repositories"),
        ("a.b: {images: {x: one}}", ": a.b: images: x", "expected an array of tags and digests"),
        ("a.b: {images: {x: [{}]}}", ": a.b: images: x", "expected a tag or a digest"),
        ("a.b: {images: {x: [a b]}}", ": a.b: images: x", "invalid reference"),
        ("a.b: {images: {x: [../../y]}}", ": a.b: images: x", "invalid reference"),
        ("a.b: {images: {x: ['1@a.c/y']}}", ": a.b: images: x", "invalid reference"),
        ("a.b: {images: {../x: []}}", ": a.b: images: ../x", "invalid reference"),
        ("a.b: {images: {/x: []}}", ": a.b: images: /x", "invalid reference"),
        ("..: {images: {x: []}}", ": ..: images: x", "invalid reference"),
        ("https://a.b: {images: {x: []}}", ": https://a.b: images: x", "invalid reference"),
        ("me@a.b: {images: {x: []}}", ": me@a.b: images: x", "invalid reference"),
        (
            "host: {images: {x: []}, credentials: {username: me, password: p}}",
            ": host: images: x",
            "'host' is no registry's host",
        ),
        ("a.b: {images: {X: []}}", ": a.b: images: X", "invalid reference"),
        ("a.b: {images: {'x:1': []}}", ": a.b: images: x:1", "a name stands without tag and digest"),
        ("a.b: {images-by-tag-regex: {x: '['}}", ": a.b: images-by-tag-regex: x", "'[' is no regular expression"),
        ("a.b: {images-by-semver: {x: newest}}", ": a.b: images-by-semver: x", "'newest' is no range of versions"),
        ("a.b: {tls-verify: perhaps}", ": a.b: tls-verify", "expected true or false"),
        ("a.b: {credentials: me}", ": a.b: credentials", "expected username and password"),
        ("a: !!python/object/apply:os.system [exit]", ": a", "expected an object"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(file, text, where, message):
    path = file(text)
    with pytest.raises(InvalidInput) as failure:
        read(path)
    assert str(failure.value).startswith(f"{path}{where}: {message}")


def test_a_list_of_any_size_takes_no_memory(file):
    path = file("#" * (LARGEST + 1))
    with pytest.raises(InvalidInput, match=f"has more than {LARGEST} bytes"):
        read(path)


@given(st.text())
def test_whatever_a_file_holds_it_is_a_list_or_an_error_of_ours(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(VelociError):
        read(str(path))


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        ("1.2.3", "1.2.3 v1.2.3 1.2.3+build", "1.2.4 1.2.3-rc.1"),
        ("1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
        ("1.x", "1.0.0 1.9.9", "2.0.0 0.9.0"),
        ("*", "0.0.1 9.9.9", "1.0.0-rc.1 latest"),
        ("!=1.2.3", "1.2.4", "1.2.3"),
        (">= 1.2, < 3", "1.2.0 2.9.9 1.2", "1.1.9 3.0.0 latest"),
        (">1", "2.0.0", "1.0.0 1.9.0"),
        ("<=2", "2.9.9 2.0.0", "3.0.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
        ("~1", "1.0.0 1.9.0", "2.0.0"),
        ("^1.2.3", "1.2.3 1.9.0", "2.0.0 1.2.2"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("1.2 - 1.4.5", "1.2.0 1.4.5", "1.4.6 1.1.9"),
        ("<1 || >=3", "0.9.0 3.0.0", "1.0.0 2.9.9"),
        (">=1.0.0-rc.2", "1.0.0-rc.2 1.0.0-rc.10 1.0.0", "1.0.0-rc.1 1.0.0-alpha"),
        (">= 1.2 < 2", "1.5.0", "2.0.0"),
    ],
)
def test_ranges_hold_what_they_say(range_, inside, outside):
    fits = semver.constraint(range_)
    assert [tag for tag in inside.split() if not fits(tag)] == []
    assert [tag for tag in outside.split() if fits(tag)] == []


def test_versions_sort_by_precedence():
    ordered = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0".split()
    )
    assert sorted(set(ordered), key=semver.version) == ordered


@given(st.text(alphabet="0123456789.xX*^~<>=!|, -vrc", max_size=20))
def test_whatever_a_range_says_it_is_one_or_an_error_of_ours(text):
    with contextlib.suppress(InvalidInput):
        assert semver.constraint(text)("1.2.3") in (True, False)

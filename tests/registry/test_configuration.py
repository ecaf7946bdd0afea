"""registries.conf and daemon.json: mirrors, blocked and insecure registries, short names."""

import json
import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from peers import Scripted
from wire import DATA, MANIFEST, repository, serves, whole

from veloci.errors import Denied, InvalidInput, NotFound
from veloci.registry import configuration
from veloci.registry.configuration import load
from veloci.spec.reference import Reference


@pytest.fixture
def conf(nobody):
    """Write this user's registries.conf, or a file beside it: so the system's is not read."""

    def write(text, name="registries.conf"):
        path = nobody / ".config/containers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    write("")
    return write


@pytest.fixture
def daemon(nobody):
    def write(**settings):
        path = nobody / ".config/docker/daemon.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))

    return write


def places(name):
    """Where a name is looked for: host/repository, with ! if it is insecure and ~ if it is a mirror."""
    return [
        f"{'~' * e.mirror}{e.registry}/{e.repository}{'!' * e.insecure}"
        for e in load().endpoints(Reference.parse(name))
    ]


def test_without_configuration_an_image_is_where_its_name_says(conf):
    assert places("debian") == ["docker.io/library/debian"]
    assert places("127.0.0.1:5000/a/b:c") == ["127.0.0.1:5000/a/b"]


def test_the_longest_prefix_says_where_an_image_is(conf):
    conf("""
        [[registry]]
        prefix = "example.com/foo"
        location = "internal:5000/bar"
        insecure = true
        [[registry.mirror]]
        location = "mirror:5000/x"
        [[registry.mirror]]
        location = "other:5000/y"
        insecure = true
        [[registry]]
        location = "example.com/foo/deep"
        [[registry]]
        prefix = "*.example.org"
        location = "cache:5000/org"
        [[registry]]
        prefix = "*.example.net"
        insecure = true
    """)
    assert places("example.com/foo/img:v1") == ["~mirror:5000/x/img", "~other:5000/y/img!", "internal:5000/bar/img!"]
    assert places("example.com/foo/deep/img") == ["example.com/foo/deep/img"]
    assert places("example.com/food/img") == ["example.com/food/img"]
    assert places("a.b.example.org/x") == ["cache:5000/org/x"]
    assert places("a.example.net/x") == ["a.example.net/x!"]
    assert places("example.net/x") == ["example.net/x"]


def test_drop_ins_come_after_the_file_and_win(conf):
    conf(
        'unqualified-search-registries = ["one:1"]\n[[registry]]\nlocation = "a:1"\ninsecure = true\n[aliases]\nx = "a:1/x"\n'
    )
    conf('[[registry]]\nlocation = "a:1"\n[aliases]\nx = "b:1/x"\ny = "b:1/y"\n', "registries.conf.d/10-more.conf")
    conf('unqualified-search-registries = ["two:1"]\n[aliases]\ny = ""\n', "registries.conf.d/20-more.conf")
    conf("not read", "registries.conf.d/README")
    found = load()
    assert places("a:1/x") == ["a:1/x"]
    assert (found.search, found.aliases) == (["two:1"], {"x": "b:1/x"})


def test_a_file_can_be_chosen(conf, tmp_path, monkeypatch):
    (tmp_path / "other.conf").write_text('[[registry]]\nlocation = "a:1"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "other.conf"))
    assert places("a:1/x") == ["a:1/x!"]


LINES = ["", "  ", "# a", ' # "b"', "[aliases]", "[ aliases ]", "[aliases] # c", '"a" = "b"', '  "a/b" = "c:1/d"', '"a"="b"', '"a" = "b" # c', 'a = "b"', '"" = ""', '"a" = "#"', '"a" = "\\n"', '"a" = "b" "c"', "'a' = 'b'", '"a" = "\t"', "\t[aliases]", '"a" = "b"\r', "# \x01", "[[registry]]", 'location = "x"', '"ü" = "ü"', '"a" = "\xa0"', "\xa0"]  # fmt: skip


def parsed(read, text):
    try:
        return read(text)
    except ValueError:
        return ValueError


@given(st.lists(st.sampled_from(LINES), max_size=6).map("\n".join))
@example('[aliases]\n"a" = "b"\n"a" = "c"\n')
@example('"a" = "b"')
@example("[aliases]\n[aliases]")
def test_comments_and_aliases_are_read_as_tomllib_does(text):
    assert parsed(configuration._toml, text) == parsed(tomllib.loads, text)


def test_comments_and_aliases_need_no_tomllib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tomllib", None)
    assert configuration._toml('# all\n\n[aliases]\n  # its\n  "a" = "b/c"\n') == {"aliases": {"a": "b/c"}}
    with pytest.raises(ImportError):
        configuration._toml("a = 1")


def test_version_1_is_still_read(conf):
    conf(
        '[registries.search]\nregistries=["s:1"]\n[registries.insecure]\nregistries=["i:1"]\n[registries.block]\nregistries=["b:1"]\n'
    )
    assert load().search == ["s:1"]
    assert places("i:1/x") == ["i:1/x!"]
    with pytest.raises(Denied, match="registry b:1 is blocked"):
        places("b:1/x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry", "not TOML: "),
        ("[[registry]]\ninsecure = true", "a [[registry]] needs a prefix or a location"),
        ("registry = 5", "registry has the wrong type"),
        ('[[registry]]\nlocation = "a:1"\ninsecure = "yes"', "insecure and blocked must be true or false"),
        ('[[registry]]\nlocation = "a:1"\n[[registry.mirror]]\ninsecure = true', "a mirror needs a location"),
        ('[[registry]]\nlocation = "a:1"\n[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "never"', "pull-from-mirror must be all, digest-only, tag-only"),
        ("unqualified-search-registries = [1]", "unqualified-search-registries must be an array of texts"),
        ("[aliases]\nx = 1", "expected a name, got 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_the_files_name(conf, text, message):
    path = conf(text)
    with pytest.raises(InvalidInput) as failure:
        load()
    assert str(failure.value).startswith(str(path))
    assert message in str(failure.value)


def test_short_names_are_looked_up(conf):
    conf('unqualified-search-registries = ["one:1", "docker.io"]\n[aliases]\nfedora = "reg.example/fedora/base"\n')
    names = lambda text: [str(found) for found in load().candidates(text)]  # noqa: E731
    assert names("fedora:40") == ["reg.example/fedora/base:40"]
    assert names("debian:12") == ["one:1/debian:12", "docker.io/library/debian:12"]
    assert names("team/app") == ["one:1/team/app", "docker.io/team/app"]
    assert names("docker.io/library/fedora") == ["docker.io/library/fedora"]
    assert names("127.0.0.1:5000/fedora") == ["127.0.0.1:5000/fedora"]
    digest = "sha256:" + "0" * 64
    assert names(f"fedora@{digest}") == [f"reg.example/fedora/base@{digest}"]
    conf("")
    assert names("fedora") == ["docker.io/library/fedora"]


def test_dockers_mirrors_and_insecure_registries(conf, daemon):
    daemon(
        **{
            "registry-mirrors": ["http://mirror:5000", "https://other/"],
            "insecure-registries": ["10.0.0.0/8", "reg:1", "host"],
        }
    )
    assert places("debian") == ["~mirror:5000/library/debian!", "~other/library/debian", "docker.io/library/debian"]
    assert places("10.1.2.3:5000/x") == ["10.1.2.3:5000/x!"]
    assert places("11.1.2.3:5000/x") == ["11.1.2.3:5000/x"]
    assert places("reg:1/x") == ["reg:1/x!"]
    assert places("host:77/x") == ["host:77/x!"]


# -- on the wire


def rewritten(conf, *mirrors, location="gone.example/app", **more):
    lines = [f'[[registry]]\nprefix = "images.example/app"\nlocation = "{location}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    for mirror in mirrors:
        lines += ["[[registry.mirror]]", *(f"{key} = {json.dumps(value)}" for key, value in mirror.items())]
    conf("\n".join(lines))


def test_a_mirror_is_read_and_the_registry_written(conf):
    with Scripted(serves) as mirror, Scripted(lambda request: request.reply(201)) as own:
        rewritten(conf, {"location": f"{mirror.address}/cache"}, location=f"{own.address}/real")
        there = repository("images.example", "app/x:v0")
        assert there.manifest()[1] == MANIFEST
        assert whole(there) == DATA
        there.put_manifest(b"{}", "x", "v1")
    assert {path.partition("/x/")[0] for _, path, _ in mirror.seen if path != "/v2/"} == {"/v2/cache"}
    assert [(method, path) for method, path, _ in own.seen if path != "/v2/"] == [("PUT", "/v2/real/x/manifests/v1")]


def test_a_mirror_that_fails_is_passed_over_and_said_so(conf):
    told = []
    with Scripted(lambda r: r.reply(403)) as bad, Scripted(lambda r: r.reply(404)) as empty, Scripted(serves) as own:
        rewritten(
            conf, {"location": f"{bad.address}/m"}, {"location": f"{empty.address}/m"}, location=f"{own.address}/x"
        )
        assert repository("images.example", "app:v0", warn=told.append).manifest()[1] == MANIFEST
        assert told == [
            f"the mirror {bad.address} was of no use: images.example/app:v0: {bad.address} denied it: forbidden"
        ]


def test_a_blob_that_a_mirror_cuts_is_fetched_on_from_the_registry(conf):
    def cuts(request):
        if "/blobs/" not in request.path:
            return serves(request)
        if request.headers.get("Range"):
            return request.reply(404)
        request.send_response(200)
        request.send_header("Content-Length", str(len(DATA)))
        request.end_headers()
        request.wfile.write(DATA[:500_000])
        return request.cut()

    ranges = []

    def rest(request):
        if "/blobs/" in request.path:
            ranges.append(request.headers["Range"])
            return request.reply(206, DATA[500_000:], Content_Range=f"bytes 500000-{len(DATA) - 1}/{len(DATA)}")
        return serves(request)

    with Scripted(cuts) as mirror, Scripted(rest) as own:
        rewritten(conf, {"location": f"{mirror.address}/m"}, location=f"{own.address}/x")
        there = repository("images.example", "app:v0")
        there.manifest()
        assert whole(there) == DATA
    assert ranges == ["bytes=500000-"]


def test_a_mirror_may_be_for_digests_only(conf):
    with Scripted(serves) as mirror, Scripted(serves) as own:
        rewritten(
            conf, {"location": f"{mirror.address}/m", "pull-from-mirror": "digest-only"}, location=f"{own.address}/x"
        )
        there = repository("images.example", "app:v0")
        digest = there.manifest()[0].digest
        assert not mirror.seen
        there.manifest(digest)
        assert mirror.seen


@pytest.mark.parametrize("token", [False, True])
def test_given_credentials_are_not_for_mirrors(conf, token):
    from veloci.registry.credentials import Credentials

    def private(request):
        if request.headers.get("Authorization"):
            return serves(request)
        return request.reply(401, WWW_Authenticate='Basic realm="x"')

    with Scripted(private) as mirror, Scripted(private) as own:
        rewritten(conf, {"location": f"{mirror.address}/m"}, location=f"{own.address}/x")
        given = {"token": "tok"} if token else {"credentials": Credentials("me", "secret")}
        there = repository("images.example", "app:v0", **given)
        assert there.manifest()[1] == MANIFEST
    assert {auth for _, _, auth in mirror.seen} == {None}


def test_all_that_fail_tell_what_the_registry_said(conf):
    with Scripted(lambda r: r.reply(503)) as bad, Scripted(lambda r: r.reply(404)) as own:
        rewritten(conf, {"location": f"{bad.address}/m"}, location=f"{own.address}/x")
        with pytest.raises(NotFound, match=r"^images.example/app:v0: not found$"):
            repository("images.example", "app:v0").manifest()


def test_a_blocked_registry_is_not_spoken_to(conf):
    with Scripted(serves) as own:
        rewritten(conf, location=f"{own.address}/x", blocked=True)
        with pytest.raises(Denied) as failure:
            repository("images.example", "app:v0").manifest()
        assert own.seen == []
    assert str(failure.value) == "images.example/app:v0: registry images.example/app is blocked in registries.conf"

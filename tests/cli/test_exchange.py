"""pull, push, copy, save, load, login, logout: docker's words, one clear line for what goes wrong."""

import json
import os
import subprocess
import sys
from http.client import responses

import pytest
from peers import Built, Scripted, digest, tar
from peers import inside as veloci


@pytest.fixture
def built(tmp_path, roots, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return Built(tmp_path / "layout")


def failed(*words, **options):
    done = veloci(*words, check=False, **options)
    assert done.returncode == 1
    assert done.stdout == "" or done.stdout.endswith("\n")
    return done.stderr


def keys(built):
    return sorted(digest(layer)[7:19] for layer in built.layers)


def test_an_image_is_pushed_and_pulled_back_with_dockers_words(built, registry):
    name = f"{registry}/words:v0"
    veloci("copy", "-q", f"oci:{built.path}:v0", name)
    lines = veloci("push", name).splitlines()
    assert lines[0] == f"The push refers to repository [{registry}/words]"
    assert sorted(line for line in lines if line.endswith(": Pushed")) == [f"{key}: Pushed" for key in keys(built)]
    assert lines[-1] == f"v0: digest: {digest(built.manifest)} size: {len(built.manifest)}"
    again = veloci("push", name).splitlines()
    assert sorted(again[1:-1]) == [f"{key}: Layer already exists" for key in keys(built)]
    assert veloci("push", "-q", name) == f"{name}\n"
    os.environ["VELOCI_ROOT"] += "-fresh"
    lines = veloci("pull", name).splitlines()
    assert lines[0] == "v0: Pulling from words"
    assert sorted(line for line in lines if line.endswith("complete")) == [
        f"{key}: Pull complete" for key in keys(built)
    ]
    assert lines[-3:] == [
        f"Digest: {digest(built.manifest)}",
        f"Status: Downloaded newer image for {name}",
        name,
    ]
    assert veloci("pull", name).splitlines()[-2] == f"Status: Image is up to date for {name}"
    assert veloci("pull", "-q", name) == f"{name}\n"
    assert veloci("pull", "-q", f"{registry}/words@{digest(built.manifest)}").startswith(f"{registry}/words@sha256:")


@pytest.mark.needs("root", "overlay")
@pytest.mark.parametrize("what", ["config", "layer"])
def test_a_mirror_that_gives_wrong_bytes_is_passed_over(built, tmp_path, monkeypatch, what):
    """Whatever of it was unpacked by then; what the mirror gave of the right bytes stays."""
    wrong = digest(built.config if what == "config" else built.layers[1])

    def serves(request, spoilt=""):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        if "/manifests/" in request.path:
            return request.reply(200, built.manifest, Content_Type=built.document["mediaType"])
        body = next(blob for blob in (built.config, *built.layers) if digest(blob) in request.path)
        return request.reply(200, body[:-9] + bytes(9) if spoilt and spoilt in request.path else body)

    with Scripted(lambda request: serves(request, wrong)) as mirror, Scripted(serves) as own:
        (tmp_path / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{own.address}"\n[[registry.mirror]]\nlocation = "{mirror.address}"\n'
        )
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
        warning = f"veloci: warning: the mirror {mirror.address} gave wrong bytes; going on without it\n"
        done = veloci("pull", "-q", f"{own.address}/app:v0", check=False)
        assert (done.returncode, done.stderr) == (0, warning)
        assert veloci("images", "-q", "--no-trunc") == f"{digest(built.config)}\n"
        assert veloci("system", "check").endswith(": whole\n")
        for place in (f"oci:{tmp_path}/o:a", f"oci-archive:{tmp_path}/o.tar:a"):
            done = veloci("copy", "-q", f"docker://{own.address}/app:v0", place, check=False)
            assert (done.returncode, done.stderr) == (0, warning)
            veloci("image", "validate", place)
    asked = [path for _, path, _ in own.seen if "/blobs/" in path]
    assert any(wrong in path for path in asked)


def test_every_tag_goes_and_comes(built, registry):
    for tag in ("a", "b"):
        veloci("copy", "-q", f"oci:{built.path}:v0", f"{registry}/tags:{tag}")
    lines = veloci("push", "-a", f"{registry}/tags").splitlines()
    assert [line.split(":")[0] for line in lines if "size:" in line] == ["a", "b"]
    lines = veloci("pull", "-a", f"{registry}/tags").splitlines()
    assert [line for line in lines if "Pulling from" in line] == ["a: Pulling from tags", "b: Pulling from tags"]


def test_saved_to_a_pipe_and_loaded_from_one(built):
    veloci("copy", "-q", f"oci:{built.path}:v0", "app:v0")
    saved = subprocess.run([sys.executable, "-m", "veloci", "save", "app:v0"], capture_output=True, check=True).stdout
    loaded = subprocess.run(
        [sys.executable, "-m", "veloci", "load", "-q"], input=saved, capture_output=True, check=True
    )
    assert loaded.stdout == b"Loaded image: app:v0\n"
    assert loaded.stderr == b""


def test_a_terminal_gets_no_archive(built):
    master, slave = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "veloci", "save", "app:v0"], stdout=slave, stderr=-1, text=True, check=False
    )
    os.close(slave)
    os.close(master)
    assert (done.returncode, done.stderr) == (
        1,
        "veloci: cowardly refusing to save to a terminal\n  try: veloci save -o FILE IMAGE, or redirect\n",
    )


def test_what_goes_wrong_is_one_line(built, registry, tmp_path):
    gone = "127.0.0.1:1"
    for words, message in (
        (("pull", f"{registry}/nope:v0"), f"veloci: {registry}/nope:v0: manifest unknown\n  try: check the name, the tag and the registry\n"),
        (("pull", f"{gone}/x:v0"), f"veloci: cannot reach {gone}: connection refused\n  try: is the registry up?\n"),
        (("pull", "UPPER"), "veloci: invalid reference 'UPPER': a repository's name must be lower case\n  try: library/upper\n"),
        (("push", f"{registry}/nope:v0"), f"veloci: An image does not exist locally with the tag: {registry}/nope\n  try: veloci images\n"),
        (("load", "-i", f"{tmp_path}/none"), f"veloci: {tmp_path}/none: no such file\n"),
        (("load", "-i", __file__), f"veloci: {__file__}: not a tar file: "),
        (("copy", "--format", "zip", "a", "b"), "veloci: --format: 'zip' is no image format\n  try: oci or docker\n"),
        (("copy", "--src-creds", "me", "docker://127.0.0.1:1/a", "b"), "veloci: --src-creds: credentials are written NAME:PASSWORD\n"),
        (("copy", "--all", "--platform", "arm64", "a", "b"), "veloci: --platform: takes one image, --all takes all\n  try: leave one of them out\n"),
    ):  # fmt: skip
        assert failed(*words).startswith(message), words


def test_a_failed_pull_leaves_the_store_as_it_was(built, tmp_path):
    def wrong(request):
        if "manifests" in request.path:
            kind = "application/vnd.oci.image.manifest.v1+json"
            return request.reply(200, built.manifest, Content_Type=kind)
        if digest(built.config) in request.path:
            return request.reply(200, built.config)
        if "blobs" in request.path:
            size = next(len(layer) for layer in built.layers if digest(layer) in request.path)
            return request.reply(200, b"x" * size)
        return request.reply(200, b"{}")

    with Scripted(wrong) as bad:
        said = failed("pull", f"{bad.address}/app:v0")
    assert said.startswith("veloci: content: expected sha256:")
    assert said.endswith("\n  try: the copy is damaged; fetch it again\n")
    content = tmp_path / "data/content"
    assert not list((content / "ingest").iterdir())
    assert {path.name for path in (content / "blobs/sha256").iterdir()} <= {digest(built.config)[7:]}
    assert json.loads((content / "index.json").read_text())["manifests"] == []


def index_of(built):
    """An index that holds the image, put into the layout; its bytes."""
    kind = "application/vnd.oci.image.index.v1+json"
    entry = {"mediaType": built.document["mediaType"], "digest": digest(built.manifest), "size": len(built.manifest)}
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": [{**entry, "platform": built.platform}]}
    raw = json.dumps(document).encode()
    built.write([(raw, kind, "v0")])
    return raw


def repo_digests(name):
    return json.loads(veloci("inspect", "-f", "{{json .RepoDigests}}", name))


def test_what_registries_call_an_image_is_kept(built, registry):
    index = index_of(built)
    name = f"{registry}/called"
    veloci("copy", "-q", "--all", f"oci:{built.path}:v0", f"docker://{name}:v0")
    veloci("pull", "-q", f"{name}:v0")
    assert repo_digests(f"{name}:v0") == [f"{name}@{digest(index)}"]
    columns = "{{.Repository}} {{.Tag}} {{.Digest}}"
    assert veloci("images", "--format", columns, name) == f"{name} v0 {digest(index)}\n"
    assert json.loads(veloci("inspect", f"{name}@{digest(index)}"))[0]["RepoTags"] == [f"{name}:v0"]
    other = f"{registry}/other"
    veloci("tag", f"{name}:v0", f"{other}:v0")
    assert repo_digests(f"{other}:v0") == [f"{name}@{digest(index)}"]
    assert veloci("images", "--format", columns, other) == f"{other} v0 <none>\n"
    veloci("push", "-q", f"{other}:v0")
    assert repo_digests(f"{other}:v0") == sorted([f"{name}@{digest(index)}", f"{other}@{digest(built.manifest)}"])
    veloci("rmi", f"{name}:v0")
    assert repo_digests(f"{other}:v0") == [f"{other}@{digest(built.manifest)}"]


def test_an_image_that_no_registry_has_is_called_nothing(built):
    veloci("copy", "-q", f"oci:{built.path}:v0", "app:v0")
    assert repo_digests("app:v0") == []
    assert veloci("images", "--digests", "--format", "{{.Digest}}") == "<none>\n"


def test_short_names_are_found_where_registries_conf_says(built, registry, tmp_path):
    path = tmp_path / "home/.config/containers/registries.conf"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'unqualified-search-registries = ["127.0.0.1:1", "{registry}"]\n[aliases]\nnick = "{registry}/short/real"\n'
    )
    for name in ("short/real", "short/app"):
        veloci("copy", "-q", f"oci:{built.path}:v0", f"docker://{registry}/{name}:v0")
    assert veloci("pull", "-q", "nick:v0") == f"{registry}/short/real:v0\n"
    lines = veloci("pull", "short/app:v0").splitlines()
    assert lines[-1] == f"{registry}/short/app:v0"
    for name, whole in (("nick:v0", "short/real:v0"), ("short/app:v0", "short/app:v0")):
        assert json.loads(veloci("inspect", name))[0]["RepoTags"] == [
            f"{registry}/short/app:v0",
            f"{registry}/short/real:v0",
        ], whole
    assert failed("pull", "-q", "short/none:v0") == (
        "veloci: no registry gives it: cannot reach 127.0.0.1:1: connection refused; "
        f"{registry}/short/none:v0: manifest unknown\n  try: write the registry's name too\n"
    )
    path.write_text(f'[[registry]]\nlocation = "{registry}"\nblocked = true\n')
    assert failed("pull", f"{registry}/short/app:v0") == (
        f"veloci: {registry}/short/app:v0: registry {registry} is blocked in registries.conf\n"
        "  try: choose another registry\n"
    )


def test_a_push_goes_on_where_the_last_one_stopped(tmp_path, roots, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    built = Built(tmp_path / "layout", [tar({"a": os.urandom(600_000)})])
    veloci("copy", "-q", f"oci:{built.path}:v0", "app:v0")
    got, offsets, state = bytearray(), [], {"up": False}

    def stops(request):
        where = {"Location": f"/v2/app/blobs/uploads/{digest(built.layers[0])[7:] if got else 1}"}
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        if request.command == "HEAD":
            return request.reply(404)
        if request.command == "PATCH":
            offsets.append(len(got))
            got.extend(request.body if state["up"] else request.body[:250_000])
            return request.reply(202, **where) if state["up"] else request.cut()
        if request.command == "GET":
            return request.reply(204, Range=f"0-{len(got) - 1}", **where) if state["up"] else request.reply(403)
        return request.reply(202 if request.command == "POST" else 201, **where)

    with Scripted(stops) as server:
        name = f"{server.address}/app:v0"
        veloci("tag", "app:v0", name)
        assert failed("push", name).endswith(
            f"{server.address} denied it: forbidden\n  try: veloci login {server.address}\n"
        )
        state["up"] = True
        assert f"{digest(built.layers[0])[7:19]}: Pushed" in veloci("push", name)
    assert (offsets, bytes(got)) == ([0, 250_000], built.layers[0])
    assert not list((tmp_path / "data/uploads").iterdir())


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (307, {"Location": "javascript:x"}, "the registry points to 'javascript:x'"),
        (307, {"Location": ""}, "{host} redirects more than 8 times"),
        (416, {}, f"{{host}} answered 416: {responses[416].lower()}"),
    ],
)
@pytest.mark.parametrize("what", ["config", "layer"])
def test_what_is_wrong_with_an_answer_is_told_and_not_what_it_leads_to(built, what, status, headers, message):
    """Of a blob that is read as it comes: it is not damaged, there is none."""

    def script(request):
        if what == "layer" and digest(built.config) in request.path:
            return request.reply(200, built.config)
        if "/manifests/" in request.path:
            return request.reply(200, built.manifest, Content_Type=built.document["mediaType"])
        return request.reply(status, **headers) if "/blobs/" in request.path else request.reply(200, b"{}")

    with Scripted(script) as server:
        said = failed("pull", "-q", f"{server.address}/app:v0")
    assert said.partition(": ")[2].partition(": ")[2].startswith(message.format(host=server.address)), said


@pytest.mark.parametrize("tag", ["../../../etc/x", "..", ".hidden"])
def test_a_tag_that_is_a_path_is_not_believed(built, tmp_path, tag):
    def tempts(request):
        if "tags/list" in request.path:
            return request.reply(200, json.dumps({"tags": [tag]}).encode())
        return request.reply(200, b"{}")

    with Scripted(tempts) as server:
        said = failed("pull", "-a", "-q", f"{server.address}/app")
    assert said.startswith(f"veloci: invalid reference '{server.address}/app:{tag}': ")
    assert said.count("\n") == 2
    assert not list(tmp_path.glob("data/content/refs/**/*"))


def test_digests_of_sha512_are_as_good(tmp_path, roots, registry, monkeypatch):
    import hashlib
    from contextlib import nullcontext

    from wire import repository

    from veloci.spec.image import Descriptor

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    built = Built(tmp_path / "layout")
    there = repository(registry, "strong:v0")

    def strong(entry, data):
        blob = {**entry, "digest": f"sha512:{hashlib.sha512(data).hexdigest()}"}
        there.upload(
            Descriptor(media_type="x", digest=blob["digest"], size=len(data)), lambda at: nullcontext([data[at:]])
        )
        return blob

    document = {
        **built.document,
        "config": strong(built.document["config"], built.config),
        "layers": [strong(e, data) for e, data in zip(built.document["layers"], built.layers, strict=True)],
    }
    raw = json.dumps(document).encode()
    name = f"sha512:{hashlib.sha512(raw).hexdigest()}"
    there.put_manifest(raw, document["mediaType"], name)
    assert veloci("pull", "-q", f"{registry}/strong@{name}") == f"{registry}/strong@{name}\n"
    assert json.loads(veloci("inspect", f"{registry}/strong@{name}"))[0]["RootFS"]["Layers"] == [
        digest(t) for t in built.tars
    ]
    veloci("copy", "-q", f"docker://{registry}/strong@{name}", f"oci:{tmp_path}/out:v0")
    assert len(list((tmp_path / "out/blobs/sha512").iterdir())) == 4


def test_what_is_here_is_asked_for_by_its_digest_alone(built):
    def serves(request):
        if "/manifests/" in request.path:
            kind = "application/vnd.oci.image.manifest.v1+json"
            return request.reply(200, built.manifest, Content_Type=kind, Docker_Content_Digest=digest(built.manifest))
        known = {digest(data): data for data in (built.config, *built.layers)}
        return request.reply(200, known.get(request.path.rpartition("/")[2], b"{}"))

    with Scripted(serves) as server:
        name = f"{server.address}/app:v0"
        veloci("pull", "-q", name)
        server.seen.clear()
        lines = veloci("pull", name).splitlines()
        assert [(method, path) for method, path, _ in server.seen if path != "/v2/"] == [
            ("HEAD", "/v2/app/manifests/v0")
        ]
        assert lines[1:] == [f"Digest: {digest(built.manifest)}", f"Status: Image is up to date for {name}", name]
        server.seen.clear()
        assert "the image is for" in failed("pull", "-q", "--platform", "linux/s390x", name)
        layer = f"data/content/blobs/sha256/{digest(built.layers[0])[7:]}"
        (built.path.parent / layer).unlink()
        veloci("pull", "-q", name)
        assert (built.path.parent / layer).read_bytes() == built.layers[0]

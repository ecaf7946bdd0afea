"""`veloci image …`: images changed and read in any place; skopeo, umoci and podman see what we see."""

import fcntl
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from peers import Built, Serving, digest, run, tar
from peers import inside as veloci

from veloci.spec import media

pytestmark = pytest.mark.needs("root")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture
def built(roots, tmp_path):
    return Built(tmp_path / "layout", [tar({"etc/a": b"1", "etc/b": b"2", "bin/sh": b"#!"}), tar({"etc/b": b"3"})])


class Image:
    """What an OCI layout holds under a name."""

    def __init__(self, layout, name="v0"):
        self.path = Path(layout)
        entries = json.loads((self.path / "index.json").read_bytes())["manifests"]
        (entry,) = [e for e in entries if e.get("annotations", {}).get("org.opencontainers.image.ref.name") == name]
        self.raw = self.blob(entry)
        self.manifest = json.loads(self.raw)
        self.config = json.loads(self.blob(self.manifest["config"]))

    def blob(self, descriptor):
        data = (self.path / "blobs/sha256" / descriptor["digest"][7:]).read_bytes()
        assert (len(data), digest(data)) == (descriptor["size"], descriptor["digest"])
        return data

    @property
    def layers(self):
        return [layer["digest"] for layer in self.manifest["layers"]]


def files(root):
    """Path -> content of all files below a directory."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(Path(root).rglob("*")) if p.is_file()}


def unpacked(tmp_path, image, name):
    """What umoci makes of an image, or we, where it is missing."""
    run("umoci", "raw", "unpack", "--image", image, tmp_path / name)
    return files(tmp_path / name)


# -- config, annotate


def test_every_field_of_the_configuration_can_be_set(built, tmp_path):
    extra = json.loads(built.config) | {"moby.extra": [1]}
    extra["config"] |= {"Healthcheck": {"Test": ["NONE"]}, "Labels": {"old": "x", "gone": "y"}}
    built.config = json.dumps(extra).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    built.write([(json.dumps(built.document).encode(), media.MANIFEST, "v0")])
    options = (
        '--user app:1 --env A=b --env PATH=/usr/bin --entrypoint ["e","f"] --cmd c --label k=v=w --label gone- '
        "--volume /v --port 80 --port 53/udp --workdir /w --stop-signal SIGINT --created 2026-01-01T00:00:00Z "
        "--author me --architecture arm64 --variant v8 --os-version 10 --clear healthcheck --history-comment why"
    )
    out = veloci("image", "config", *options.split(), "--to", f"oci:{tmp_path}/new:v1", f"oci:{built.path}:v0")
    now = Image(tmp_path / "new", "v1")
    assert out == f"oci:{tmp_path}/new:v1: digest: {digest(now.raw)} size: {len(now.raw)}\n"
    assert now.config["config"] == {
        "Env": ["PATH=/usr/bin", "A=b"],
        "Cmd": ["c"],
        "Labels": {"old": "x", "k": "v=w"},
        "Volumes": {"/v": {}},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "User": "app:1",
        "WorkingDir": "/w",
        "StopSignal": "SIGINT",
        "Entrypoint": ["e", "f"],
    }
    top = {"architecture": "arm64", "variant": "v8", "os.version": "10", "author": "me", "moby.extra": [1]}
    assert top.items() <= now.config.items()
    assert now.config["created"] == "2026-01-01T00:00:00Z"
    step = now.config["history"][-1]
    assert (step["created_by"], step["comment"], step["empty_layer"]) == ("veloci image config", "why", True)
    assert now.layers == [digest(layer) for layer in built.layers]
    assert now.config["rootfs"] == extra["rootfs"]
    veloci("image", "validate", f"oci:{tmp_path}/new:v1")


def test_an_image_is_changed_where_it_is(built, registry, tmp_path):
    there = f"docker://{registry}/config:v1"
    for place in ("app:v0", there):
        veloci("copy", f"oci:{built.path}:v0", place)
        veloci("image", "config", "-q", "--change", "ENV B=c", "--change", "CMD run $B", "--no-history", place)
        veloci("copy", place, f"oci:{tmp_path}/{place[0]}:v0")
    now = Image(tmp_path / "a")
    assert now.raw == Image(tmp_path / "d").raw
    assert now.config["config"]["Env"] == ["PATH=/bin", "B=c"]
    assert now.config["config"]["Cmd"] == ["/bin/sh", "-c", "run $B"]
    assert now.config["history"] == json.loads(built.config)["history"]


def test_only_documents_travel_when_only_documents_change(built, registry):
    there = f"docker://{registry}/travel:v1"
    veloci("copy", f"oci:{built.path}:v0", there)
    veloci("image", "config", "--label", "a=b", "--to", f"docker://{registry}/travel:v2", there)
    assert not list(Path(os.environ["VELOCI_ROOT"]).rglob("blobs/*/*"))


@pytest.mark.needs("umoci")
def test_umoci_sets_the_same(built, tmp_path):
    veloci("copy", f"oci:{built.path}:v0", f"oci:{tmp_path}/theirs:v0")
    words = ["--history.created_by=x", "--config.user=a", "--config.env=A=b", "--config.label=k=v", "--config.cmd=c"]
    run("umoci", "config", "--image", f"{tmp_path}/theirs:v0", "--tag", "v1", *words)
    options = ["-u", "a", "-e", "A=b", "-l", "k=v", "--cmd", "c", "--history-created-by", "x"]
    veloci("image", "config", *options, "-t", f"oci:{tmp_path}/ours:v1", f"oci:{built.path}:v0")
    ours, theirs = Image(tmp_path / "ours", "v1").config, Image(tmp_path / "theirs", "v1").config
    for config in (ours, theirs):
        config.pop("created", None)
        config["history"][-1].pop("created")
        config["history"][-1].pop("author", None)
    assert ours == theirs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "A"], "--env: 'A' is no variable\n  try: KEY=VALUE, or KEY- to remove it"),
        (["--label", "=x"], "--label: '=x' is no pair\n  try: KEY=VALUE, or KEY- to remove it"),
        (["--cmd", "[1]"], '--cmd: \'[1]\' is no array of strings\n  try: ["word", "word"]'),
        (["--port", "x/tcp"], "--port: 'x/tcp' is no port\n  try: 80, 53/udp"),
        (["--created", "now"], "--created: 'now' is no time\n  try: 2026-01-31T12:00:00Z"),
        (["--created", "2026-01-31"], "--created: '2026-01-31' is no time\n  try: 2026-01-31T12:00:00Z"),
        (
            ["--created", "2026-02-31T12:00:00Z"],
            "--created: '2026-02-31T12:00:00Z' is no time\n  try: 2026-01-31T12:00:00Z",
        ),
        (["--os", ""], "--os: may not be empty"),
        (["--architecture", ""], "--architecture: may not be empty"),
    ],
)
def test_what_a_setting_cannot_be_is_said(built, words, message):
    done = veloci("image", "config", *words, f"oci:{built.path}:v0", check=False)
    assert (done.returncode, done.stderr) == (1, f"veloci: {message}\n")
    assert Image(built.path).raw == built.manifest


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("time", ["2026-01-31t12:00:00z", "2026-01-31T12:00:00.123456789+01:00"])
def test_a_time_that_is_set_can_be_read_by_others(built, time):
    veloci("image", "config", "-q", "--created", time, f"oci:{built.path}:v0")
    assert json.loads(run("skopeo", "inspect", f"oci:{built.path}:v0"))["Created"] == time.upper()


def test_annotations_are_set_and_removed(built, tmp_path):
    there = f"oci:{built.path}:v0"
    veloci("image", "annotate", there, "a=1", "b=2=3", "c=")
    assert Image(built.path).manifest["annotations"] == {"a": "1", "b": "2=3", "c": ""}
    veloci("image", "annotate", there, "a-", "b-", "c-")
    assert "annotations" not in Image(built.path).manifest
    veloci("image", "convert", "--format", "v2s2", "--to", f"dir:{tmp_path}/d", there)
    done = veloci("image", "annotate", f"dir:{tmp_path}/d", "a=1", check=False)
    assert done.stderr.startswith(f"veloci: dir:{tmp_path}/d: Docker's manifests have no annotations\n")


def test_an_image_changed_where_it_is_keeps_its_names(built, tmp_path):
    source, archive = f"oci:{built.path}:v0", f"docker-archive:{tmp_path}/a.tar"
    veloci("copy", "-q", "--additional-tag", "app:v1", source, f"{archive}:app:v0")
    veloci("copy", "-q", source, f"oci-archive:{tmp_path}/o.tar:name")
    veloci("copy", "-q", source, f"oci:{tmp_path}/alone:name")
    for place in (archive, f"oci-archive:{tmp_path}/o.tar", f"oci:{tmp_path}/alone", f"oci:{tmp_path}/alone:@0"):
        veloci("image", "config", "-q", "--env", "A=b", place)
        config = json.loads(veloci("inspect", "--raw", "--config", place.removesuffix(":@0")))
        assert "A=b" in config["config"]["Env"]
    assert json.loads(veloci("list-tags", archive))["Tags"] == ["app:v0", "app:v1"]
    assert json.loads(veloci("list-tags", f"oci-archive:{tmp_path}/o.tar"))["Tags"] == ["name"]
    assert json.loads(veloci("list-tags", f"oci:{tmp_path}/alone"))["Tags"] == ["name"]
    veloci("image", "convert", "-q", "--format", "oci", archive)
    assert json.loads(veloci("list-tags", archive))["Tags"] == ["app:v0", "app:v1"]


def test_no_other_image_of_an_archive_is_lost(built, tmp_path):
    for number in range(2):
        veloci("copy", "-q", f"oci:{built.path}:v0", f"app:v{number}")
        veloci("image", "config", "-q", "--label", f"a={number}", f"app:v{number}")
    veloci("save", "-o", tmp_path / "both.tar", "app:v0", "app:v1")
    before = (tmp_path / "both.tar").read_bytes()
    for place in (f"docker-archive:{tmp_path}/both.tar:app:v0", f"oci-archive:{tmp_path}/both.tar:v1"):
        for verb in (["config", "--env", "A=b"], ["recompress"]):
            done = veloci("image", *verb, place, check=False)
            message = f"veloci: {place}: 2 images are there: the others would be lost\n  try: --to PLACE\n"
            assert (done.returncode, done.stderr) == (1, message)
    assert (tmp_path / "both.tar").read_bytes() == before


# -- append, flatten, squash, rebase


@pytest.mark.needs("umoci")
def test_layers_are_put_on_top(built, tmp_path):
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "folder/sub/new").write_bytes(b"new")
    (tmp_path / "plain").write_bytes(b"plain")
    (tmp_path / "x.tar.gz").write_bytes(built.layers[1])
    there = f"oci:{built.path}:v0"
    words = ["--created-by", "me", "--remove", "/etc/a", "--to", f"oci:{built.path}:v1"]
    veloci("image", "append", *words, there, tmp_path / "x.tar.gz", tmp_path / "plain")
    veloci("image", "append", "--at", "/opt/x", "--compress", "none", f"oci:{built.path}:v1", tmp_path / "folder")
    now = Image(built.path, "v1")
    assert now.layers[:2] == [digest(layer) for layer in built.layers]
    kinds = [layer["mediaType"].rpartition(".")[2] for layer in now.manifest["layers"]]
    assert kinds == ["tar+gzip"] * 5 + ["tar"]
    assert [step["created_by"] for step in now.config["history"]][2:] == ["me", "me", "me", "veloci image append"]
    assert unpacked(tmp_path, f"{built.path}:v1", "seen") == {
        "bin/sh": b"#!",
        "etc/b": b"3",
        "plain": b"plain",
        "opt/x/sub/new": b"new",
    }
    assert veloci("image", "validate", f"oci:{built.path}:v1") == f"oci:{built.path}:v1: valid\n"
    veloci("image", "append", "--opaque", "--at", "etc", f"oci:{built.path}:v1", tmp_path / "folder")
    seen = unpacked(tmp_path, f"{built.path}:v1", "opaque")
    assert [path for path in seen if path.startswith("etc")] == ["etc/sub/new"]


def test_a_layers_step_has_an_author_or_is_left_out(built, tmp_path):
    (tmp_path / "plain").write_bytes(b"plain")
    there = f"oci:{built.path}:v0"
    veloci("image", "append", "-q", "--author", "me", there, tmp_path / "plain")
    veloci("image", "append", "-q", "--no-history", there, tmp_path / "plain")
    now = Image(built.path, "v0")
    assert (len(now.layers), now.config["history"][2]["author"]) == (4, "me")
    assert len(now.config["history"]) == 3


def test_a_tar_is_known_by_its_headers_sum_and_an_empty_file_is_a_file(built, tmp_path):
    """GNU tar's and bsdtar's v7 and cpio's tar have no mark; they were appended as files of their own names."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/name").write_bytes(b"text")
    (tmp_path / "none").touch()
    run("tar", "--format=v7", "-C", tmp_path / "in", "-cf", tmp_path / "v7", "name")
    veloci("image", "append", "-q", "--at", "/marker", f"oci:{built.path}:v0", tmp_path / "v7", tmp_path / "none")
    names = [line.split()[-1] for line in veloci("image", "files", f"oci:{built.path}:v0").splitlines()]
    assert {"/name", "/marker"} < set(names)
    assert "/v7" not in names
    block = bytearray((tmp_path / "v7").read_bytes())
    block[0] ^= 1
    (tmp_path / "v7").write_bytes(block)
    veloci("image", "append", "-q", f"oci:{built.path}:v0", tmp_path / "v7")
    assert veloci("image", "files", f"oci:{built.path}:v0", "/v7").split()[-1] == "/v7"


def test_what_is_no_layer_is_not_appended(built, tmp_path):
    (tmp_path / "bad.tar").write_bytes(built.tars[0][:257] + b"ustar" + b"x" * 700)
    for name, message in [
        ("bad.tar", "not a layer: tar: "),
        ("none", "no such file"),
    ]:
        done = veloci("image", "append", f"oci:{built.path}:v0", tmp_path / name, check=False)
        assert done.stderr.startswith(f"veloci: {tmp_path}/{name}: {message}")
    done = veloci("image", "append", f"oci:{built.path}:v0", check=False)
    assert done.stderr.startswith("veloci: image append: takes IMAGE FILE...\n")
    assert Image(built.path).raw == built.manifest


def several(tmp_path):
    """An image of layers that add, change, link, remove and hide."""
    out = []
    for entries in (
        [("d/", None), ("d/old", b"1"), ("d/kept", b"2"), ("e/x", b"3"), ("f", b"4"), ("link => f", b"")],
        [(".wh.e", b""), ("d/.wh.old", b""), ("f", b"5"), ("g/h", b"6")],
        [("g/.wh..wh..opq", b""), ("g/i", b"7"), ("d/new => d/kept", b""), ("s -> d", b"")],
        [("f", b"8"), (".wh.link", b"")],
    ):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, content in entries:
                info = tarfile.TarInfo(name.partition(" ")[0])
                info.mode, info.mtime = 0o755, 1_700_000_000
                if content is None:
                    info.type = tarfile.DIRTYPE
                elif " => " in name:
                    info.type, info.linkname = tarfile.LNKTYPE, name.partition(" => ")[2]
                elif " -> " in name:
                    info.type, info.linkname = tarfile.SYMTYPE, name.partition(" -> ")[2]
                else:
                    info.size = len(content)
                archive.addfile(info, io.BytesIO(content or b""))
        out.append(stream.getvalue())
    return Built(tmp_path / "several", out)


@pytest.mark.needs("umoci")
def test_layers_become_one_and_the_tree_stays(roots, tmp_path):
    image = several(tmp_path)
    there = f"oci:{image.path}:v0"
    want = unpacked(tmp_path, f"{image.path}:v0", "want")
    veloci("image", "flatten", "--to", f"oci:{image.path}:flat", there)
    for count in (1, 2, 3, 4):
        veloci("image", "squash", "-n", str(count), "--to", f"oci:{image.path}:squash{count}", there)
    for name, layers in (("flat", 1), ("squash1", 4), ("squash2", 3), ("squash3", 2), ("squash4", 1)):
        now = Image(image.path, name)
        assert len(now.layers) == layers
        assert now.layers[:-1] == [digest(layer) for layer in image.layers][: layers - 1]
        assert unpacked(tmp_path, f"{image.path}:{name}", name) == want
        assert veloci("image", "validate", f"oci:{image.path}:{name}").endswith(": valid\n")
        assert veloci("image", "diff", there, f"oci:{image.path}:{name}") == ""
    assert Image(image.path, "flat").layers == Image(image.path, "squash4").layers
    base = Built(tmp_path / "base", image.tars[:2])
    veloci("image", "squash", "--base", f"oci:{base.path}:v0", "--to", f"oci:{image.path}:based", there)
    assert Image(image.path, "based").layers == Image(image.path, "squash2").layers
    assert not list((tmp_path / "data/scratch").iterdir())


def test_the_tree_of_a_killed_command_is_cleared_and_a_living_ones_is_not(roots, tmp_path):
    for name in ("dead", "living"):
        (tmp_path / "data/scratch" / name).mkdir(parents=True)
    held = os.open(tmp_path / "data/scratch/living", os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    image = several(tmp_path)
    veloci("image", "flatten", f"oci:{image.path}:v0")
    os.close(held)
    assert os.listdir(tmp_path / "data/scratch") == ["living"]


def test_a_squash_gives_the_same_bytes_each_time(roots, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    image = several(tmp_path)
    for name in ("one", "two"):
        veloci("image", "squash", "-n", "3", "--to", f"oci:{image.path}:{name}", f"oci:{image.path}:v0")
    one, two = Image(image.path, "one"), Image(image.path, "two")
    assert one.raw == two.raw
    assert one.config["history"][-1] == {
        "created": "2020-09-13T12:26:40Z",
        "created_by": "veloci image squash",
        "comment": "3 layers in one",
    }


def test_an_images_own_layers_go_on_another_base(built, registry, tmp_path):
    base, other = Built(tmp_path / "base", built.tars[:1]), Built(tmp_path / "other", [tar({"base": b"new"})])
    veloci("copy", f"oci:{built.path}:v0", f"docker://{registry}/app:v0")
    veloci("copy", f"oci:{base.path}:v0", f"docker://{registry}/base:v0")
    veloci("copy", f"oci:{other.path}:v0", f"docker://{registry}/base:v1")
    places = ["--old-base", f"docker://{registry}/base:v0", "--new-base", f"docker://{registry}/base:v1"]
    veloci("image", "rebase", *places, "--to", f"oci:{tmp_path}/new:v0", f"docker://{registry}/app:v0")
    now = Image(tmp_path / "new")
    assert now.layers == [digest(other.layers[0]), digest(built.layers[1])]
    assert now.config["rootfs"]["diff_ids"] == [digest(other.tars[0]), digest(built.tars[1])]
    assert [step["created_by"] for step in now.config["history"]] == ["layer 0", "layer 1"]
    assert veloci("image", "validate", f"oci:{tmp_path}/new:v0").endswith(": valid\n")
    notes = {"name": f"{registry}/base:v1", "digest": digest(base.manifest)}
    words = [f"org.opencontainers.image.base.{key}={value}" for key, value in notes.items()]
    veloci("image", "annotate", f"docker://{registry}/app:v0", *words)
    veloci("image", "rebase", f"docker://{registry}/app:v0")
    veloci("copy", f"docker://{registry}/app:v0", f"oci:{tmp_path}/again:v0")
    again = Image(tmp_path / "again")
    assert again.layers == now.layers
    assert again.manifest["annotations"]["org.opencontainers.image.base.digest"] == digest(other.manifest)
    done = veloci("image", "rebase", *places, f"docker://{registry}/base:v1", check=False)
    assert done.stderr.startswith(f"veloci: {registry}/base:v1: it is not based on {registry}/base:v0\n")


# -- recompress, convert, export


@pytest.mark.needs("skopeo")
def test_images_are_recompressed_and_converted_where_they_are(built, registry, tmp_path):
    there = f"docker://{registry}/convert:v0"
    veloci("copy", f"oci:{built.path}:v0", there)
    veloci("image", "recompress", "--compress", "zstd:5", "-q", there)
    kinds = [
        layer["mediaType"]
        for layer in json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", there))["layers"]
    ]
    assert kinds == [media.LAYER_ZSTD] * 2
    veloci("image", "recompress", "--compress", "gzip", "-q", there)
    words = ["image", "recompress", "--creds", "a:b", "--compress", "zstd", "-q", "--to", f"oci:{tmp_path}/out:v0"]
    veloci(*words, there)  # the login is for the side that is a registry
    veloci("image", "convert", "--format", "docker", "-q", there)
    raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", there))
    assert (raw["mediaType"], raw["config"]["digest"]) == (media.DOCKER_MANIFEST, digest(built.config))
    assert run("skopeo", "inspect", "--config", "--raw", "--tls-verify=false", there) == built.config.decode()


@pytest.mark.needs("umoci")
def test_the_file_system_is_exported(roots, tmp_path):
    image = several(tmp_path)
    veloci("image", "export", "-o", tmp_path / "x.tar", f"oci:{image.path}:v0")
    (tmp_path / "x").mkdir()
    run("tar", "-C", tmp_path / "x", "-xpf", tmp_path / "x.tar")
    assert files(tmp_path / "x") == unpacked(tmp_path, f"{image.path}:v0", "want")
    assert os.stat(tmp_path / "x/d/new").st_ino == os.stat(tmp_path / "x/d/kept").st_ino


# -- diff, files, validate


def test_the_files_of_an_image_and_its_layers(roots, tmp_path):
    image = several(tmp_path)
    there = f"oci:{image.path}:v0"
    lines = veloci("image", "files", there).splitlines()
    assert [(line.split()[0], line.split()[5:]) for line in lines] == [
        ("1", ["/d"]),
        ("1", ["/d/kept"]),
        ("3", ["/d/new", "link", "to", "d/kept"]),
        ("4", ["/f"]),
        ("3", ["/g/i"]),
        ("3", ["/s", "->", "d"]),
    ]
    assert lines[0].split()[1:5] == ["drwxr-xr-x", "0:0", "0", "2023-11-14T22:13:20Z"]
    assert [line.split()[5] for line in veloci("image", "files", "--layer", "2", there).splitlines()] == ["/f", "/g/h"]
    (found,) = json.loads(veloci("image", "files", "--json", there, "/f"))
    assert (found["layer"], found["size"], found["sha256"]) == (4, 1, digest(b"8")[7:])
    done = veloci("image", "files", there, "/none", check=False)
    assert done.stderr == f"veloci: {there}: there is no /none\n"


def test_two_images_are_compared(roots, tmp_path):
    one = Built(tmp_path / "one", [tar({"a": b"1", "b": b"1", "c": b"1"})])
    two = Built(tmp_path / "two", [tar({"a": b"1", "b": b"2", "d": b"1"})])
    places = [f"oci:{one.path}:v0", f"oci:{two.path}:v0"]
    assert veloci("image", "diff", *places) == "C /b\nD /c\nA /d\n"
    assert json.loads(veloci("image", "diff", "--json", *places)) == {
        "added": ["/d"],
        "changed": ["/b"],
        "removed": ["/c"],
    }
    assert veloci("image", "diff", places[0], places[0]) == ""


def wrong(built, **changes):
    """The layout's image with fields of its config changed."""
    config = json.loads(built.config) | changes
    built.config = json.dumps(config).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    built.write([(json.dumps(built.document).encode(), media.MANIFEST, "v0")])
    return f"config {digest(built.config)}"


def test_what_is_wrong_with_an_image_is_listed(built):
    config = wrong(
        built,
        created="yesterday",
        os="",
        history=[{"created_by": "x"}],
        config={"Env": ["A"]},
        rootfs={"type": "layers", "diff_ids": [digest(built.tars[1]), digest(built.tars[1])]},
    )
    done = veloci("image", "validate", f"oci:{built.path}:v0", check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"{config}: its history tells of 1 layers, there are 2",
        f"{config}: the variable 'A' has no value",
        f"{config}: $.os: is empty",
        f"{config}: $.created: 'yesterday' is no time of RFC 3339",
        f"layer {digest(built.layers[0])}: content: expected {digest(built.tars[1])}, got {digest(built.tars[0])}",
    ]
    assert veloci("image", "validate", "--fast", f"oci:{built.path}:v0", check=False).stdout.count("\n") == 4


def test_damage_is_found(built):
    (built.path / "blobs/sha256" / digest(built.layers[1])[7:]).write_bytes(built.layers[0])
    done = veloci("image", "validate", f"oci:{built.path}:v0", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith(f"layer {digest(built.layers[1])}: ")


def test_an_index_is_checked_with_all_it_lists(roots, tmp_path):
    built = Built(tmp_path / "layout")
    entry = {"mediaType": media.MANIFEST, "digest": digest(built.manifest), "size": len(built.manifest)}
    unknown = {"mediaType": "application/x", "digest": digest(b""), "size": 0}
    lost = {**entry, "digest": digest(b"lost")}
    entries = [{**entry, "platform": {"architecture": "s390x", "os": "linux"}}, unknown, lost]
    raw = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries}).encode()
    built.write([(raw, media.INDEX, "v0")])
    lines = veloci("image", "validate", f"oci:{built.path}:v0", check=False).stdout.splitlines()
    own = built.platform["architecture"]
    assert lines == [
        f"manifest {digest(built.manifest)}: the index says it is for linux/s390x, its config for linux/{own}",
        f"index {digest(raw)}: {digest(b'lost')}: {built.path}: it has no blobs/sha256/{digest(b'lost')[7:]}",
    ]


def test_a_layer_with_a_path_twice_and_another_compression(roots, tmp_path):
    """layer.md: MUST NOT include duplicate entries."""
    built = Built(tmp_path / "layout", [tar({"a": b"1"})[:1024] + tar({"a": b"2"})], compress=False)
    built.document["layers"][0]["mediaType"] = media.LAYER_GZIP
    built.write([(json.dumps(built.document).encode(), media.MANIFEST, "v0")])
    lines = veloci("image", "validate", f"oci:{built.path}:v0", check=False).stdout.splitlines()
    assert lines == [
        f"layer {digest(built.layers[0])}: it is not compressed, its media type says gzip",
        f"layer {digest(built.layers[0])}: a stands twice",
    ]

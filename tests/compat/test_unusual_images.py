"""Images of kinds that are seldom seen, beside skopeo, podman and umoci: lazy layers, nested indexes, sha512, artifacts."""

import gzip
import hashlib
import json
import struct
import tarfile
from pathlib import Path

import pytest
import zstandard
from peers import Built, Serving, busybox, digest, run, tar, veloci
from peers import inside as quick

from veloci.layer.write import END
from veloci.spec import media

pytestmark = pytest.mark.needs("root", "skopeo")
KINDS = ["erofs", "overlay"]
TOC, CHUNKED = "containerd.io/snapshot/stargz/toc.digest", "io.github.containers.zstd-chunked.manifest-position"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def raw(place):
    return json.loads(quick("inspect", "--raw", place))


def estargz(content):
    """A layer as eStargz has it: every piece a gzip member, the table of contents last, a footer that says where it is.

    Returns the layer, its tar, its annotations. https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md
    """
    packed, plain, entries = b"", b"", []

    def add(piece):
        nonlocal packed, plain
        at, packed, plain = len(packed), packed + gzip.compress(piece, mtime=0), plain + piece
        return at

    def head(name, size):
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o755
        return info.tobuf()

    for name, data in content.items():
        add(head(name, len(data)))
        at = add(data + bytes(-len(data) % 512))
        entries.append({"name": name, "type": "reg", "size": len(data), "offset": at, "digest": digest(data)})
    toc = json.dumps({"version": 1, "entries": entries}).encode()
    at = add(head("stargz.index.json", len(toc)) + toc + bytes(-len(toc) % 512) + END)
    extra = b"SG" + struct.pack("<H", 22) + b"%016xSTARGZ" % at
    footer = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", len(extra)) + extra
    footer += b"\x01\0\0\xff\xff" + bytes(8)
    assert len(footer) == 51
    return packed + footer, plain, {TOC: digest(toc), "io.containers.estargz.uncompressed-size": str(len(plain))}


def chunked(content):
    """A layer as zstd:chunked has it: frames, and at the end skippable ones with the manifest and where it is."""
    plain = tar(content)
    frames = [zstandard.compress(plain[at : at + 1000]) for at in range(0, len(plain), 1000)]
    manifest = zstandard.compress(b'{"version":1,"entries":[]}')
    at = sum(map(len, frames)) + 8
    skipped = [
        b"\x50\x2a\x4d\x18" + struct.pack("<I", len(each)) + each for each in (manifest, bytes(56) + b"GNUlInUx")
    ]
    return b"".join(frames + skipped), plain, {CHUNKED: f"{at}:{len(manifest)}:26:1"}


@pytest.fixture(params=[estargz, chunked], ids=["eStargz", "zstd:chunked"])
def lazy(request, tmp_path):
    """An image that runs, of layers that other tools fetch in parts."""
    shell = Path("/bin/busybox").read_bytes()
    made = [request.param({"bin/busybox": shell, "bin/sh": shell}), request.param({"etc/text": b"hello\n"})]
    built = Built(tmp_path / "lazy", [plain for _, plain, _ in made])
    built.layers = [packed for packed, _, _ in made]
    kind = media.LAYER_GZIP if request.param is estargz else media.LAYER_ZSTD
    built.document["layers"] = [
        {"mediaType": kind, "digest": digest(packed), "size": len(packed), "annotations": {**notes, "mine": "kept"}}
        for packed, _, notes in made
    ]
    built.manifest = json.dumps(built.document).encode()
    built.write([(built.manifest, built.document["mediaType"], "v0")])
    return built


@pytest.mark.parametrize("kind", KINDS)
def test_a_lazy_layer_is_pulled_run_and_copied_as_it_is(roots, registry, lazy, tmp_path, kind):
    name = f"{registry}/lazy:{kind}"
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{lazy.path}:v0", f"docker://{name}")
    veloci("--snapshotter", kind, "pull", "-q", name)
    assert veloci("run", "--rm", "--network", "none", name, "/bin/busybox", "cat", "/etc/text") == "hello\n"
    quick("copy", "-q", name, f"oci:{tmp_path}/ours:v0")
    run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/theirs:v0")
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    quick("push", "-q", name)
    assert raw(f"docker://{name}") == json.loads(lazy.manifest)
    assert quick("system", "check").endswith(": whole\n")
    assert quick("image", "validate", f"oci:{tmp_path}/ours:v0").endswith(": valid\n")


@pytest.mark.needs("podman", "umoci")
def test_a_lazy_layer_has_the_files_that_the_peers_find(roots, lazy, podman, tmp_path):
    veloci("unpack", f"oci:{lazy.path}:v0", tmp_path / "ours")
    if lazy.document["layers"][0]["mediaType"] == media.LAYER_GZIP:  # umoci knows no zstd
        run("umoci", "unpack", "--image", f"{lazy.path}:v0", tmp_path / "theirs")
        theirs = files(tmp_path / "theirs/rootfs")
    else:
        image = run(*podman, "pull", "-q", f"oci:{lazy.path}:v0").strip()
        theirs = files(run(*podman, "image", "mount", image).strip())
        run(*podman, "image", "umount", image)
    assert files(tmp_path / "ours/rootfs") == theirs


def test_what_is_compressed_otherwise_is_no_longer_said_to_be_lazy(roots, lazy, tmp_path):
    """Its annotations would say where in other bytes what is; those of others stay."""
    for words in (["--compress", "gzip:9"], ["--compress", "zstd:2"], ["--compress", "none"]):
        place = f"oci:{tmp_path}/{words[1]}:v0"
        quick("copy", "-q", *words, f"oci:{lazy.path}:v0", place)
        assert [layer["annotations"] for layer in raw(place)["layers"]] == [{"mine": "kept"}] * 2
    quick("copy", "-q", f"oci:{lazy.path}:v0", f"oci:{tmp_path}/same:v0")
    assert raw(f"oci:{tmp_path}/same:v0") == json.loads(lazy.manifest)
    quick("copy", "-q", f"oci:{lazy.path}:v0", "lazy:v0")
    for name in ("one", "two"):  # the second finds what the first made
        quick(
            "image",
            "recompress",
            "-q",
            "--compress",
            "zstd",
            "-t",
            f"lazy:{name}",
            "lazy:v0",
        )
    assert raw("lazy:one") == raw("lazy:two")


# -- indexes within indexes


def entry(document, kind, **more):
    return {"mediaType": kind, "digest": digest(document), "size": len(document), **more}


def index(*entries):
    return json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": list(entries)}).encode()


@pytest.fixture
def nested(tmp_path):
    """A layout with `bare`, an index of an index of two images, and `named`, of two indexes that have platforms."""
    images = {
        name: Built(tmp_path / "nested", [busybox()[0], tar({"etc/text": name.encode()})], architecture=name)
        for name in ("amd64", "arm64")
    }
    platforms = {name: {"platform": {"os": "linux", "architecture": name}} for name in images}
    listed = {name: entry(built.manifest, media.MANIFEST, **platforms[name]) for name, built in images.items()}
    inner = index(*listed.values())
    alone = {name: index(each) for name, each in listed.items()}
    bare = index(entry(inner, media.INDEX))
    named = index(*(entry(alone[name], media.INDEX, **platforms[name]) for name in ("arm64", "amd64")))
    built = images["amd64"]
    names = {"inner": inner, **alone, "bare": bare, "named": named}
    built.write([(document, media.INDEX, name) for name, document in names.items()])
    built.names, built.images = names, images
    return built


@pytest.mark.parametrize("name", ["bare", "named"])
@pytest.mark.parametrize("machine", ["amd64", "arm64"])
def test_an_image_is_found_through_two_indexes(roots, registry, nested, name, machine):
    """podman and skopeo stop at the second one."""
    there = f"{registry}/nested:{name}"
    quick("copy", "-q", "--all", f"oci:{nested.path}:{name}", f"docker://{there}")
    assert quick("digest", f"docker://{there}") == digest(nested.names[name]) + "\n"
    config = json.loads(quick("inspect", "--config", "--platform", f"linux/{machine}", f"docker://{there}"))
    assert config["architecture"] == machine
    quick("pull", "-q", "--platform", f"linux/{machine}", there)
    assert json.loads(quick("inspect", there))[0]["Id"] == digest(nested.images[machine].config)


@pytest.mark.parametrize("name", ["bare", "named"])
def test_all_of_an_index_of_indexes_is_copied_kept_and_checked(roots, nested, tmp_path, name):
    veloci("copy", "-q", "--all", f"oci:{nested.path}:{name}", "nested:all")
    blobs = files(tmp_path / "data/content/blobs")
    veloci("image", "prune", "-f")
    assert files(tmp_path / "data/content/blobs") == blobs
    assert veloci("system", "check").endswith(": whole\n")
    veloci("copy", "-q", "--all", "nested:all", f"oci:{tmp_path}/back:v0")
    assert files(tmp_path / "back/blobs") == blobs
    run("skopeo", "copy", "-q", "--multi-arch", "index-only", f"oci:{tmp_path}/back:v0", f"dir:{tmp_path}/d")
    assert (tmp_path / "d/manifest.json").read_bytes() == nested.names[name]
    assert veloci("image", "validate", f"oci:{tmp_path}/back:v0").endswith(": valid\n")
    (tmp_path / "back/blobs/sha256" / digest(nested.images["arm64"].layers[1])[7:]).unlink()
    done = veloci("image", "validate", f"oci:{tmp_path}/back:v0", check=False)
    assert (done.returncode, digest(nested.images["arm64"].layers[1]) in done.stdout) == (1, True)
    veloci("rmi", "nested:all")
    assert files(tmp_path / "data/content/blobs") == {}


def test_what_refers_to_an_image_of_an_inner_index_travels_too(roots, registry, nested, tmp_path, monkeypatch):
    there = f"docker://{registry}/referred"
    quick("copy", "-q", "--all", f"oci:{nested.path}:bare", f"{there}:v0")
    (tmp_path / "sbom").write_text("{}")
    monkeypatch.chdir(tmp_path)
    quick(
        "artifact",
        "attach",
        "--artifact-type",
        "application/spdx+json",
        f"{there}@{digest(nested.images['arm64'].manifest)}",
        "sbom",
    )
    quick("copy", "-q", "--all", "--referrers", f"{there}:v0", f"docker://{registry}/elsewhere:v0")
    told = quick("artifact", "discover", f"docker://{registry}/elsewhere@{digest(nested.images['arm64'].manifest)}")
    assert "application/spdx+json" in told


# -- sha512


def sha512(data):
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


@pytest.fixture
def strong(tmp_path):
    """An image that runs, in a layout whose every digest, those of its layers' tars too, is a sha512."""
    built = Built(tmp_path / "strong", busybox())
    config = json.loads(built.config)
    config["rootfs"]["diff_ids"] = [sha512(each) for each in built.tars]
    built.config = json.dumps(config).encode()
    built.document["config"] = {**built.document["config"], "digest": sha512(built.config), "size": len(built.config)}
    for layer, data in zip(built.document["layers"], built.layers, strict=True):
        layer["digest"] = sha512(data)
    built.manifest = json.dumps(built.document).encode()
    place = tmp_path / "sha512"
    (place / "blobs/sha512").mkdir(parents=True)
    for blob in (built.manifest, built.config, *built.layers):
        (place / "blobs/sha512" / sha512(blob)[7:]).write_bytes(blob)
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    listed = {"mediaType": media.MANIFEST, "digest": sha512(built.manifest), "size": len(built.manifest)}
    listed["annotations"] = {"org.opencontainers.image.ref.name": "v0"}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    built.path = place
    return built


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_sha512_runs_and_is_copied_as_it_is(roots, registry, strong, tmp_path, kind):
    blobs = files(strong.path / "blobs")
    veloci("--snapshotter", kind, "copy", "-q", f"oci:{strong.path}:v0", "strong:v0")
    assert files(tmp_path / "data/content/blobs") == blobs
    words = ["--snapshotter", kind, "run", "--rm", "--network", "none", "strong:v0", "/bin/busybox", "cat", "/etc/text"]
    assert veloci(*words) == "hello\n"
    assert quick("system", "check").endswith(": whole\n")
    there = f"docker://{registry}/strong@{sha512(strong.manifest)}"
    quick("copy", "-q", "strong:v0", there)
    quick("copy", "-q", there, f"oci:{tmp_path}/back:v0")
    assert files(tmp_path / "back/blobs") == blobs
    quick("copy", "-q", "strong:v0", f"dir:{tmp_path}/dir")
    quick("copy", "-q", f"dir:{tmp_path}/dir", f"oci:{tmp_path}/again:v0")
    written = {path.rpartition("/")[2] for path in files(tmp_path / "again/blobs/sha512")}
    assert {sha512(each)[7:] for each in (strong.config, *strong.layers)} <= written
    veloci("unpack", f"oci:{strong.path}:v0", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/text").read_bytes() == b"hello\n"
    assert quick("image", "validate", f"oci:{strong.path}:v0").endswith(": valid\n")


def test_a_damaged_blob_of_sha512_is_found_and_removed(roots, strong, tmp_path):
    veloci("copy", "-q", f"oci:{strong.path}:v0", "strong:v0")
    blob = tmp_path / "data/content/blobs/sha512" / sha512(strong.layers[1])[7:]
    blob.write_bytes(bytes(len(strong.layers[1])))
    done = veloci("system", "check", check=False)
    assert (done.returncode, sha512(strong.layers[1])[7:] in done.stdout) == (1, True), done.stdout
    veloci("system", "check", "--repair", check=False)
    assert not blob.exists()
    veloci("copy", "-q", f"oci:{strong.path}:v0", "strong:v0")
    assert veloci("system", "check").endswith(": whole\n")
    (strong.path / "blobs/sha512" / sha512(strong.layers[1])[7:]).write_bytes(bytes(len(strong.layers[1])))
    done = veloci("copy", "-q", f"oci:{strong.path}:v0", f"oci:{tmp_path}/new:v0", check=False)
    assert (done.returncode, sha512(strong.layers[1]) in done.stderr) == (1, True), done.stderr


# -- what is no image


@pytest.fixture(params=["empty", "chart"])
def artifact(request, tmp_path):
    """An artifact with the empty descriptor for a config, or with a config of its own."""
    built = Built(tmp_path / "artifact", [])
    text = b"{}" if request.param == "empty" else b"no JSON"
    kind = media.EMPTY if request.param == "empty" else "application/vnd.cncf.helm.config.v1+json"
    built.kind = "application/vnd.example.thing" if request.param == "empty" else kind
    named = {"artifactType": built.kind} if request.param == "empty" else {}
    built.layers = [b"some text\n"]
    layer = entry(built.layers[0], "text/plain", annotations={"org.opencontainers.image.title": "a.txt"})
    built.config = text
    built.manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": media.MANIFEST, **named, "config": entry(text, kind), "layers": [layer]}
    ).encode()
    built.write([(built.manifest, media.MANIFEST, "v0")])
    return built


@pytest.mark.needs("podman")
def test_an_artifact_is_not_pulled_as_an_image(roots, registry, artifact, podman, tmp_path):
    name = f"{registry}/{artifact.kind.rpartition('.')[2].replace('+', '-')}"
    quick("copy", "-q", f"oci:{artifact.path}:v0", f"docker://{name}:v0")
    done = quick("pull", "-q", f"{name}:v0", check=False)
    said = f"{name}:v0: it is no image but an artifact ({artifact.kind})"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"veloci: {said}\n  try: veloci artifact pull docker://{name}:v0\n"
    assert files(tmp_path / "data/content/blobs") == {}
    image = Built(tmp_path / "image")
    quick("copy", "-q", f"oci:{image.path}:v0", f"docker://{name}:w0")
    done = quick("pull", "-a", "-q", name, check=False)
    assert (done.returncode, done.stdout) == (0, f"{name}\n")
    assert said in done.stderr
    assert quick("images", "-q").split() == [digest(image.config)[7:19]]
    assert run(*podman, "pull", "--tls-verify=false", f"{name}:v0", check=False).returncode == 125


def test_an_artifact_in_the_store_is_what_it_is(roots, artifact, tmp_path):
    veloci("copy", "-q", f"oci:{artifact.path}:v0", "thing:v0")
    assert quick("images", "--format", "{{.Repository}}:{{.Tag}}") == "thing:v0\n"
    for words in (["inspect", "thing:v0"], ["history", "thing:v0"], ["run", "thing:v0"], ["create", "thing:v0"]):
        done = veloci(*words, check=False)
        assert (done.returncode != 0, "is no image but an artifact" in done.stderr) == (True, True), done.stderr
    quick("image", "prune", "-f")
    assert quick("system", "check").endswith(": whole\n")
    veloci("copy", "-q", "thing:v0", f"oci:{tmp_path}/back:v0")
    assert files(tmp_path / "back/blobs") == files(tmp_path / "data/content/blobs")
    veloci("copy", "-q", "thing:v0", f"dir:{tmp_path}/dir")
    done = veloci("copy", "-q", "thing:v0", f"docker-archive:{tmp_path}/d.tar:a:b", check=False)
    assert (done.returncode, f"Docker's archive holds no artifact ({artifact.kind})" in done.stderr) == (1, True)
    assert not (tmp_path / "d.tar").exists()
    quick("image", "prune", "-a", "-f")
    assert files(tmp_path / "data/content/blobs") == {}


def test_a_removed_image_is_called_anew_when_it_comes_again(roots, registry, nested):
    for name in ("bare", "named"):
        quick("copy", "-q", "--all", f"oci:{nested.path}:{name}", f"docker://{registry}/again:{name}")
    for name in ("bare", "named"):
        quick("pull", "-q", f"{registry}/again:{name}")
        found = json.loads(quick("inspect", f"{registry}/again:{name}"))[0]
        assert found["RepoDigests"] == [f"{registry}/again@{digest(nested.names[name])}"]
        quick("rmi", f"{registry}/again:{name}")

"""`veloci artifact …`: files in registries, layouts and the store, and what refers to what."""

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
SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"
EMPTY = {"mediaType": media.EMPTY, "digest": digest(b"{}"), "size": 2, "data": "e30="}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture
def built(roots, tmp_path):
    return Built(tmp_path / "layout")


@pytest.fixture
def work(roots, tmp_path, monkeypatch):
    """A working directory with a file and a directory."""
    (tmp_path / "work/folder/sub").mkdir(parents=True)
    (tmp_path / "work/folder/sub/x").write_bytes(b"x")
    (tmp_path / "work/a.txt").write_bytes(b"text")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def raw(place):
    return json.loads(veloci("inspect", "--raw", place))


PLACES = ["docker://{registry}/artifact:v0", "oci:{tmp}/l:v0", "oci-archive:{tmp}/o.tar:v0", "dir:{tmp}/d", "local:v0"]


@pytest.mark.parametrize("place", PLACES)
def test_files_go_into_an_artifact_and_come_out(work, registry, tmp_path, place):
    place = place.format(registry=registry, tmp=tmp_path)
    out = veloci(
        "artifact", "push", "--annotation", "k=v", "--artifact-type", SBOM, place, "a.txt:text/plain", "folder"
    )
    assert out.startswith(f"{place}: digest: sha256:")
    found = raw(place if ":" in place and not place.startswith("local") else f"veloci:{place}")
    assert (found["artifactType"], found["config"], found["annotations"]) == (SBOM, EMPTY, {"k": "v"})
    text, folder = found["layers"]
    title = {"org.opencontainers.image.title": "a.txt"}
    assert text == {"mediaType": "text/plain", "digest": digest(b"text"), "size": 4, "annotations": title}
    assert folder["mediaType"] == media.LAYER_GZIP
    assert folder["annotations"]["io.deis.oras.content.unpack"] == "true"
    assert veloci("artifact", "pull", "-o", tmp_path / "out", place) == "a.txt\nfolder\n"
    assert files(tmp_path / "out") == files(work)
    assert veloci("image", "validate", place) == f"{place}: valid\n"


def test_an_artifact_may_have_a_config_or_no_file_at_all(work, tmp_path):
    veloci("artifact", "push", "--config", "a.txt:application/x", f"oci:{tmp_path}/l:v0", "folder/sub/x")
    found = raw(f"oci:{tmp_path}/l:v0")
    assert found["config"] == {"mediaType": "application/x", "digest": digest(b"text"), "size": 4}
    assert found["layers"][0]["annotations"] == {"org.opencontainers.image.title": "folder/sub/x"}
    veloci("artifact", "pull", "-o", tmp_path / "out", f"oci:{tmp_path}/l:v0")
    assert files(tmp_path / "out") == {"folder/sub/x": b"x"}
    veloci("artifact", "push", "--artifact-type", SIGNATURE, f"oci:{tmp_path}/l:none")
    assert raw(f"oci:{tmp_path}/l:none")["layers"] == [EMPTY]
    done = veloci("artifact", "pull", f"oci:{tmp_path}/l:none", check=False)
    assert done.stderr.startswith(f"veloci: oci:{tmp_path}/l:none: none of its blobs has a file's name\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none: no such file"),
        (
            ["../work/a.txt", "../layout"],
            "../work/a.txt: a name in an artifact leads nowhere up\n  try: cd there first",
        ),
        (["a.txt:bad/"], "a.txt: 'bad/' is no media type\n  try: a.txt:text/plain"),
        (["--artifact-type", "bad", "a.txt"], "--artifact-type: 'bad' is no media type\n  try: application/spdx+json"),
    ],
)
def test_what_no_artifact_can_be_made_of_is_said(work, tmp_path, words, message):
    done = veloci("artifact", "push", f"oci:{tmp_path}/no:v0", *words, check=False)
    assert (done.returncode, done.stderr) == (1, f"veloci: {message}\n")
    assert not (tmp_path / "no").exists()


def evil(built, *layers):
    """An artifact whose blobs have these names."""
    entries = []
    for title, data, more in layers:
        (built.path / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
        notes = {"org.opencontainers.image.title": title, **more}
        entries.append({"mediaType": "a/b", "digest": digest(data), "size": len(data), "annotations": notes})
    document = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": "a/b",
        "config": EMPTY,
        "layers": entries,
    }
    built.write([(json.dumps(document).encode(), media.MANIFEST, "v0")])


@pytest.mark.parametrize("title", ["../out", "/etc/veloci-test", "a/../../x", "..", "a\nb", "link/x", "link"])
def test_no_file_is_written_outside(built, tmp_path, title):
    evil(built, (title, b"evil", {}))
    (tmp_path / "to").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "to/link").symlink_to("../outside")
    before = sorted(tmp_path.rglob("*"))
    done = veloci("artifact", "pull", "-o", tmp_path / "to", f"oci:{built.path}:v0", check=False)
    assert (done.returncode, "leads out of the directory" in done.stderr) == (1, True)
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/etc/veloci-test").exists()


def test_a_packed_directory_does_not_lead_outside_either(built, tmp_path):
    """A tar plants a symlink, and the next blob is named through it (CVE-2026-50163's class)."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("d/out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        archive.addfile(link)
    (tmp_path / "outside").mkdir()
    packed = (tmp_path / "x.tar").read_bytes() + tar({"d/out/evil": b"evil"})[:0]
    evil(built, ("d", packed, {"io.deis.oras.content.unpack": "true"}), ("d/out/file", b"evil", {}))
    done = veloci("artifact", "pull", "-o", tmp_path / "to", f"oci:{built.path}:v0", check=False)
    assert "'d/out/file' leads out of the directory" in done.stderr
    assert os.listdir(tmp_path / "outside") == []


def test_a_packed_directory_follows_no_link_that_was_planted_after_the_look(built, tmp_path, monkeypatch):
    from veloci.transport import artifact

    looks = artifact._within

    def plants(directory, target):
        right = looks(directory, target)
        (tmp_path / "to/d").rmdir()
        (tmp_path / "to/d").symlink_to(tmp_path / "outside")
        return right

    (tmp_path / "outside").mkdir()
    (tmp_path / "to/d").mkdir(parents=True)
    monkeypatch.setattr(artifact, "_within", plants)
    evil(built, ("d/e", packed(("d/e/x", FILE, b"evil")), {"io.deis.oras.content.unpack": "true"}))
    veloci("artifact", "pull", "-o", tmp_path / "to", f"oci:{built.path}:v0", check=False)
    assert list((tmp_path / "outside").iterdir()) == []


def packed(*entries):
    """A tar of (name, type, link or content); its directories are for all to write in."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, text in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, 0o777, 7
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = text
            elif kind == tarfile.REGTYPE:
                info.size = len(text)
            archive.addfile(info, io.BytesIO(text) if kind == tarfile.REGTYPE else None)
    return out.getvalue()


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("mine", FILE, b"evil")], "tar: mine: leads out of d"),
        ([("d/../mine", FILE, b"evil")], "tar: d/../mine: leads out of d"),
        ([("./", tarfile.DIRTYPE, "")], "tar: ./: leads out of d"),
        ([("dd", FILE, b"evil")], "tar: dd: leads out of d"),
        ([("d/hard", HARD, "mine")], "tar: d/hard: leads out of d"),
        ([("d/null", tarfile.CHRTYPE, "")], "tar: d/null: is a device, and no artifact's"),
        ([("d", LINK, "outside")], "tar: the root can only be a directory"),
    ],
)
def test_a_packed_directory_writes_below_its_name_alone(built, tmp_path, entries, message):
    (tmp_path / "to").mkdir(mode=0o700)
    (tmp_path / "to/mine").write_bytes(b"mine")
    evil(built, ("d", packed(*entries), {"io.deis.oras.content.unpack": "true"}))
    done = veloci("artifact", "pull", "-o", tmp_path / "to", f"oci:{built.path}:v0", check=False)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert files(tmp_path / "to") == {"mine": b"mine"}
    assert (tmp_path / "to").stat().st_mode & 0o777 == 0o700


def test_what_is_packed_removes_nothing_and_leads_nowhere(built, tmp_path):
    """`.wh.mine` is a file as any other, and a symlink up leads to the packed directory's top."""
    evil(
        built,
        ("d", packed(("d/.wh.mine", FILE, b""), ("d/up", LINK, ".."), ("d/up/x", FILE, b"1")),
         {"io.deis.oras.content.unpack": "true"}),
    )  # fmt: skip
    (tmp_path / "to/d").mkdir(parents=True)
    (tmp_path / "to/d/mine").write_bytes(b"mine")
    veloci("artifact", "pull", "-o", tmp_path / "to", f"oci:{built.path}:v0")
    assert files(tmp_path / "to") == {"d/mine": b"mine", "d/.wh.mine": b"", "d/x": b"1"}


def test_a_directory_without_a_name_leaves_the_one_it_goes_to_as_it_is(built, tmp_path):
    evil(
        built, (".", packed(("./", tarfile.DIRTYPE, ""), ("./a", FILE, b"1")), {"io.deis.oras.content.unpack": "true"})
    )
    (tmp_path / "to").mkdir(mode=0o700)
    veloci("artifact", "pull", "-o", tmp_path / "to", f"oci:{built.path}:v0")
    assert files(tmp_path / "to") == {"a": b"1"}
    assert (tmp_path / "to").stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_there_is_kept_if_wanted(work, tmp_path):
    veloci("artifact", "push", f"oci:{tmp_path}/l:v0", "a.txt")
    (work / "a.txt").write_bytes(b"mine")
    done = veloci("artifact", "pull", "-k", f"oci:{tmp_path}/l:v0", check=False)
    assert done.stderr == "veloci: ./a.txt: is there already\n"
    assert (work / "a.txt").read_bytes() == b"mine"
    veloci("artifact", "pull", f"oci:{tmp_path}/l:v0")
    assert (work / "a.txt").read_bytes() == b"text"


# -- referrers


def attached(place, work):
    """An SBOM of the image, and a signature of that SBOM. Returns their digests."""
    said = veloci("artifact", "attach", "--artifact-type", SBOM, "--annotation", "k=v", place, "a.txt")
    sbom = said.split(": ", 1)[1].split(" refers")[0]
    kind = place.partition(":")[0]
    at = f"{place.rpartition(':')[0]}@{sbom}" if kind == "docker" else f"oci:{place[4:].rpartition(':')[0]}:{sbom}"
    if kind not in ("docker", "oci"):
        at = f"veloci:{sbom}"
    said = veloci("artifact", "attach", "--artifact-type", SIGNATURE, at, "folder/sub/x")
    return sbom, said.split(": ", 1)[1].split(" refers")[0].rpartition(": ")[2]


@pytest.mark.parametrize("place", ["docker://{registry}/{name}:v0", "oci:{tmp}/l:v0", "local:v0"])
def test_what_refers_to_an_image_is_found(built, work, registry, tmp_path, place):
    place = place.format(registry=registry, tmp=tmp_path, name="refer")
    veloci("copy", f"oci:{built.path}:v0", place)
    sbom, signature = attached(place, work)
    lines = veloci("artifact", "discover", place).splitlines()
    assert lines == [
        f"{place}@{digest(built.manifest)}",
        f"└── {SBOM} {sbom}",
        f"    └── {SIGNATURE} {signature}",
    ]
    (entry,) = json.loads(veloci("artifact", "discover", "--format", "json", place))["manifests"]
    assert (entry["digest"], entry["artifactType"], entry["annotations"]) == (sbom, SBOM, {"k": "v"})
    assert veloci("artifact", "discover", "--artifact-type", "x/y", place).count("\n") == 1


@pytest.fixture(scope="module")
def debians(tmp_path_factory):
    """Debian's registry, which keeps no list of referrers."""
    import socket
    import subprocess
    import time

    root = tmp_path_factory.mktemp("distribution")
    (root / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {root}/data}}\nhttp: {{addr: '127.0.0.1:0'}}\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["docker-registry", "serve", str(root / "config.yml")],
        env={**os.environ, "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


@pytest.mark.needs("docker-registry")
def test_signatures_and_sboms_travel_with_an_image(built, work, registry, debians, tmp_path):
    """From a registry with a list of referrers to one without, to a layout, to the store, and back."""
    first = f"docker://{registry}/travel:v0"
    veloci("copy", f"oci:{built.path}:v0", first)
    sbom, signature = attached(first, work)
    want = veloci("artifact", "discover", first).partition("\n")[2]
    places = [f"docker://{debians}/travel:v0", f"oci:{tmp_path}/t:v0", "travel:v0", f"docker://{registry}/back:v0"]
    source = first
    for place in places:
        out = veloci("artifact", "copy", "--referrers", source, place)
        assert out.splitlines() == [
            f"{place}: digest: {digest(built.manifest)} size: {len(built.manifest)}",
            f"{place}: {sbom} {SBOM}",
            f"{place}: {signature} {SIGNATURE}",
        ]
        assert veloci("artifact", "discover", place).partition("\n")[2] == want
        source = place
    veloci("copy", "-q", "--referrers", first, f"oci:{tmp_path}/copied:v0")
    assert veloci("artifact", "discover", f"oci:{tmp_path}/copied:v0").partition("\n")[2] == want
    veloci("artifact", "copy", first, f"oci:{tmp_path}/bare:v0")
    assert veloci("artifact", "discover", f"oci:{tmp_path}/bare:v0").count("\n") == 1


@pytest.mark.needs("skopeo")
def test_what_cosign_puts_under_tags_travels_with_an_image(built, registry, tmp_path):
    """Its signature is an image whose layers are no tars; what is signed may be a signature itself."""
    kind, payload = "application/vnd.dev.cosign.simplesigning.v1+json", b'{"critical": {}}'
    layer = {"mediaType": kind, "size": len(payload), "annotations": {"dev.cosignproject.cosign/signature": "MEUC"}}
    config = json.dumps(
        {"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(payload)]}}
    )
    about = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config)}
    document = {
        **built.document,
        "layers": [{**layer, "digest": digest(payload)}],
        "config": {**about, "digest": digest(config.encode())},
    }
    raw = json.dumps(document).encode()
    tags = [f"{digest(built.manifest)}.sig".replace(":", "-"), f"{digest(raw)}.att".replace(":", "-")]
    made = Built(tmp_path / "made", built.tars)
    for blob in (payload, config.encode()):
        (made.path / f"blobs/sha256/{digest(blob)[7:]}").write_bytes(blob)
    made.write(
        [
            (built.manifest, built.document["mediaType"], "v0"),
            *((raw, built.document["mediaType"], tag) for tag in tags),
        ]
    )
    places = [
        f"docker://{registry}/cosigned:v0",
        f"oci:{tmp_path}/l:v0",
        "cosigned:v0",
        f"docker://{registry}/cosigned-too:v0",
    ]
    source = f"oci:{made.path}:v0"
    for number, place in enumerate(places):
        words = ["copy", "-q", "--referrers"] if number % 2 else ["artifact", "copy", "-r"]
        veloci(*words, source, place)
        for tag in tags:
            assert veloci("digest", f"{place.removesuffix(':v0')}:{tag}") == f"{digest(raw)}\n"
        source = place
    assert (
        run("skopeo", "inspect", "--raw", "--tls-verify=false", f"{places[-1].removesuffix(':v0')}:{tags[1]}")
        == raw.decode()
    )
    veloci("artifact", "copy", "-r", "--artifact-type", "x/y", source, f"oci:{tmp_path}/other:v0")
    assert veloci("layout", "ls", tmp_path / "other").count(".sig") == 0


def test_what_refers_to_the_images_of_an_index_travels_too(built, work, registry, tmp_path):
    there = f"docker://{registry}/platforms:v0"
    veloci("index", "create", "-q", there, f"oci:{built.path}:v0")
    architecture = built.platform["architecture"]
    words = ["--platform", f"linux/{architecture}", "--artifact-type", SBOM]
    veloci("artifact", "attach", *words, there, "a.txt")
    assert veloci("artifact", "discover", there).count("\n") == 1
    assert veloci("artifact", "discover", "--platform", architecture, there).count(SBOM) == 1
    out = veloci("artifact", "copy", "-r", there, f"oci:{tmp_path}/p:v0")
    assert out.count(SBOM) == 1


def test_a_place_of_one_image_holds_nothing_that_refers(built, work, tmp_path):
    veloci("copy", f"oci:{built.path}:v0", f"dir:{tmp_path}/d")
    done = veloci("artifact", "attach", "--artifact-type", SBOM, f"dir:{tmp_path}/d", "a.txt", check=False)
    assert done.stderr.startswith(f"veloci: dir:{tmp_path}/d: holds one image, and nothing that refers to it\n")
    done = veloci("artifact", "discover", f"dir:{tmp_path}/d", check=False)
    assert done.stderr.startswith(f"veloci: dir:{tmp_path}/d: nothing tells there what refers to it\n")


@pytest.mark.parametrize("command", [["copy"], ["artifact", "copy"]])
def test_a_copy_whose_referrers_cannot_come_along_is_not_begun(built, work, tmp_path, command):
    source, target = f"oci:{built.path}:v0", f"docker-archive:{tmp_path}/x.tar"
    done = veloci(*command, "-q", "--referrers", source, target, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"veloci: {target}: holds one image, and nothing that refers to it",
    )
    assert not (tmp_path / "x.tar").exists()
    veloci("copy", "-q", source, target)
    done = veloci(*command, "-q", "--referrers", target, f"oci:{tmp_path}/to:v0", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"veloci: {target}: nothing tells there what refers to it",
    )
    assert not (tmp_path / "to").exists()


@pytest.mark.needs("skopeo")
def test_skopeo_reads_an_artifact(work, registry, tmp_path):
    veloci("artifact", "push", "--artifact-type", SBOM, f"docker://{registry}/skopeo:v0", "a.txt")
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{registry}/skopeo:v0", f"oci:{tmp_path}/s:v0")
    veloci("artifact", "pull", "-o", tmp_path / "out", f"oci:{tmp_path}/s:v0")
    assert files(tmp_path / "out") == {"a.txt": b"text"}

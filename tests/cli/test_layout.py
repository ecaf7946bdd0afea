"""`veloci layout …`, and the parts of an image as they are; beside umoci."""

import json
import os
import subprocess
import sys
import threading
import time
from fcntl import LOCK_EX, LOCK_NB, flock
from types import SimpleNamespace

import pytest
from peers import Built, digest, run, tar
from peers import inside as veloci

from veloci.spec import media

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def built(roots, tmp_path):
    return Built(tmp_path / "layout")


def blobs(built):
    return {path.name for path in (built.path / "blobs/sha256").iterdir()}


@pytest.mark.needs("umoci")
def test_an_image_is_begun_from_nothing(roots, tmp_path):
    veloci("layout", "init", tmp_path / "new")
    assert run("umoci", "ls", "--layout", tmp_path / "new") == ""
    veloci("image", "new", "--platform", "linux/arm64/v8", f"oci:{tmp_path}/new:v0")
    config = json.loads(
        veloci("inspect", "--config", "--raw", "--platform", "linux/arm64/v8", f"oci:{tmp_path}/new:v0")
    )
    assert (config["architecture"], config["variant"], config["rootfs"]["diff_ids"]) == ("arm64", "v8", [])
    (tmp_path / "x.tar").write_bytes(tar({"etc/a": b"1"}))
    veloci("image", "append", f"oci:{tmp_path}/new:v0", tmp_path / "x.tar")
    run("umoci", "raw", "unpack", "--image", f"{tmp_path}/new:v0", tmp_path / "root")
    assert (tmp_path / "root/etc/a").read_bytes() == b"1"
    done = veloci("layout", "init", tmp_path / "new", check=False)
    assert done.stderr == f"veloci: {tmp_path}/new: there is a layout already\n"


@pytest.mark.needs("umoci")
def test_names_go_and_what_nothing_needs_is_collected(built, tmp_path):
    other = Built(tmp_path / "other", [built.tars[0], tar({"more": b"1"})])
    veloci("copy", f"oci:{other.path}:v0", f"oci:{built.path}:v1")
    assert veloci("layout", "ls", built.path) == "v0\nv1\n"
    assert veloci("layout", "gc", built.path) == "Total reclaimed space: 0B\n"
    veloci("layout", "rm", f"{built.path}:v1")
    out = veloci("layout", "gc", built.path)
    gone = {digest(other.manifest), digest(other.config), digest(other.layers[1])}
    assert set(out.splitlines()[:-1]) == gone
    assert blobs(built) == {digest(blob)[7:] for blob in (built.manifest, built.config, *built.layers)}
    run("umoci", "gc", "--layout", built.path)
    assert veloci("image", "validate", f"oci:{built.path}:v0").endswith(": valid\n")
    done = veloci("layout", "rm", f"{built.path}:v1", check=False)
    assert done.stderr == f"veloci: {built.path}: no image is named 'v1'\n  try: it has v0\n"


def test_a_collection_spares_what_an_index_and_a_subject_need(built):
    entry = {"mediaType": media.MANIFEST, "digest": digest(built.manifest), "size": len(built.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [entry]}).encode()
    subject = {"mediaType": media.INDEX, "digest": digest(index), "size": len(index)}
    empty = {"mediaType": media.EMPTY, "digest": digest(b"{}"), "size": 2}
    sbom = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": "a/b",
        "config": empty,
        "layers": [],
        "subject": subject,
    }
    raw = json.dumps(sbom).encode()
    built.write([(raw, media.MANIFEST, "sbom")])
    (built.path / "blobs/sha256" / digest(index)[7:]).write_bytes(index)
    (built.path / "blobs/sha256" / digest(b"lost")[7:]).write_bytes(b"lost")
    assert veloci("layout", "gc", built.path).splitlines()[0] == digest(b"lost")
    assert len(blobs(built)) == 6


def test_a_damaged_document_stops_a_collection(built):
    (built.path / "blobs/sha256" / digest(built.manifest)[7:]).write_bytes(b"x" * len(built.manifest))
    before = blobs(built)
    done = veloci("layout", "gc", built.path, check=False)
    assert (done.returncode, blobs(built)) == (1, before)


def _copy_into(built, tmp_path):
    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.transport.names import Places

    store = str(tmp_path / "content")
    return Places(SimpleNamespace(store=Store(store), names=Names(store))).destination(f"oci:{built.path}:v9")


def _is_held(path):
    """Whether a collection would wait."""
    directory = os.open(path / "blobs", os.O_RDONLY)
    try:
        flock(directory, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(directory)
    return False


def test_what_a_copy_finds_there_is_held_as_well(built, tmp_path):
    target = _copy_into(built, tmp_path)
    assert not target.has(_described(b"another")[0])
    assert not _is_held(built.path)
    assert target.has(_described(built.config)[0])
    assert _is_held(built.path)
    target.__exit__()
    assert not _is_held(built.path)


def test_blobs_that_come_at_once_hold_a_layout_once(built, tmp_path, monkeypatch):
    """A second hold would stay when the copy ends, and every collection of this process would wait for ever."""
    made, many = os.makedirs, threading.Barrier(8)

    def slowly(path, mode=0o777, exist_ok=False):
        time.sleep(0.05)
        made(path, mode, exist_ok)

    def asks():
        many.wait(10)
        target.has(_described(built.config)[0])

    monkeypatch.setattr(os, "makedirs", slowly)
    target = _copy_into(built, tmp_path)
    threads = [threading.Thread(target=asks) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _is_held(built.path)
    target.__exit__()
    assert not _is_held(built.path)


def test_a_collection_waits_for_a_copy(built, tmp_path):
    """A copy holds the blobs until its name is written."""
    target = _copy_into(built, tmp_path)
    target.put_manifest(*_described(b'{"not":"named yet"}'))
    collector = subprocess.Popen(
        [sys.executable, "-m", "veloci", "layout", "gc", str(built.path)], stdout=subprocess.PIPE
    )
    with pytest.raises(subprocess.TimeoutExpired):
        collector.wait(1.5)
    assert digest(b'{"not":"named yet"}')[7:] in blobs(built)
    target.__exit__()
    assert collector.wait(30) == 0
    collector.stdout.close()


@pytest.mark.parametrize("link", ["blobs", "blobs/sha256", "blobs/other"])
def test_a_collection_removes_nothing_that_a_link_leads_to(built, tmp_path, link):
    (tmp_path / "mine/sha256").mkdir(parents=True)
    (tmp_path / "mine/sha256/letter").write_bytes(b"mine")
    place = built.path / link
    if place.exists():
        place.rename(tmp_path / "aside")
    place.symlink_to(tmp_path / "mine" if link == "blobs" else tmp_path / "mine/sha256")
    built.path.joinpath("index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    done = veloci("layout", "gc", built.path, check=False)
    assert (done.returncode, "collect garbage: Not a directory" in done.stderr) == (1, True), done.stderr
    assert (tmp_path / "mine/sha256/letter").read_bytes() == b"mine"


def test_a_collection_removes_what_a_killed_copy_left(built):
    (built.path / ".veloci-1-aa").write_bytes(b"half")
    veloci("layout", "gc", built.path)
    assert not (built.path / ".veloci-1-aa").exists()


def _described(raw):
    from veloci.spec.image import Descriptor

    return Descriptor(media_type=media.MANIFEST, digest=digest(raw), size=len(raw)), raw


@pytest.mark.needs("umoci")
def test_the_steps_of_an_image_are_as_umoci_tells_them(built):
    there = f"oci:{built.path}:v0"
    veloci("image", "config", "--label", "a=b", "--history-comment", "why", there)
    ours = json.loads(veloci("image", "stat", "--json", there))
    theirs = json.loads(run("umoci", "stat", "--json", "--image", f"{built.path}:v0"))
    for found in (ours, theirs):
        for step in found["history"]:
            step.pop("created", None)
    assert ours == theirs
    lines = veloci("image", "stat", there).splitlines()
    assert lines[0].split() == ["LAYER", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].split()[0] == digest(built.layers[0])
    assert lines[3].split()[0] == "<none>"


def test_a_blob_comes_as_it_is(built):
    assert veloci("image", "blob", f"oci:{built.path}:v0", digest(built.config)).encode() == built.config
    done = veloci("image", "blob", f"oci:{built.path}:v0", digest(b"none"), check=False)
    assert done.stderr.startswith(f"veloci: {built.path}:v0: it has no blob {digest(b'none')}\n")

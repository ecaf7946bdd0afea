"""A pull is one pipeline: layers are unpacked while they come, and nothing appears unless all is right."""

import json
import os
import threading
from pathlib import Path

import pytest
from peers import Built, Scripted, digest, tar

from veloci.content.names import Names
from veloci.content.store import Store
from veloci.engine.tasks import ahead, parallel
from veloci.errors import Corrupt, InvalidInput, NotFound
from veloci.snapshot.snapshots import Snapshots
from veloci.spec import media
from veloci.spec.digest import chain_ids
from veloci.spec.reference import Reference
from veloci.transport.exchange import NoImage, pull

pytestmark = pytest.mark.needs("root", "overlay")


@pytest.fixture
def places(tmp_path):
    return Store(str(tmp_path / "content")), Names(str(tmp_path / "content")), Snapshots(str(tmp_path / "snapshots"))


@pytest.fixture
def built(tmp_path):
    """Three layers, the first and the last of which are the same."""
    return Built(
        tmp_path / "layout", [tar({"a": b"1", "d/x": b"2"}), tar({"d/y": b"3"}), tar({"a": b"1", "d/x": b"2"})]
    )


def serving(built, asked, *, hold=None):
    def answer(request):
        asked.append(request.path)
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        if "manifests" in request.path:
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        blob = next(b for b in (built.config, *built.layers) if digest(b) in request.path)
        if hold and digest(blob) == hold[0]:
            request.send_response(200)
            request.send_header("Content-Length", str(len(blob)))
            request.end_headers()
            request.wfile.write(blob[:-1])
            request.wfile.flush()
            hold[1].wait(20)
            return request.wfile.write(blob[-1:])
        return request.reply(200, blob)

    return Scripted(answer)


def pulled(places, address, **options):
    store, names, snapshots = places
    options = {"snapshots": snapshots, "parallel": parallel, "ahead": ahead, **options}
    return pull(store, names, Reference.parse(f"{address}/app:v0"), **options)


def chain(built):
    return chain_ids([digest(each) for each in built.tars])


def files(snapshots, chain_id):
    view = snapshots.view(chain_id)
    try:
        root = os.open(".", os.O_DIRECTORY, dir_fd=view)
        top = Path(f"/proc/self/fd/{root}")
        found = {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}
        os.close(root)
    finally:
        os.close(view)
    return found


def test_a_pulled_image_is_unpacked_and_every_blob_came_once(places, built):
    asked = []
    with serving(built, asked) as server:
        done = pulled(places, server.address)
    store, names, snapshots = places
    assert done.descriptor.digest == digest(built.manifest)
    assert names.get(f"{server.address}/app:v0").digest == digest(built.manifest)
    assert all(snapshots.has(each) for each in chain(built))
    assert files(snapshots, chain(built)[-1]) == {"a": b"1", "d/x": b"2", "d/y": b"3"}
    assert len([path for path in asked if "manifests" in path]) == 1
    blobs = [path for path in asked if "blobs" in path]
    assert len(blobs) == len(set(blobs)) == 3  # the config, and two layers
    assert not os.listdir(f"{snapshots.root}/ingest")
    assert not os.listdir(f"{store.root}/ingest")


@pytest.mark.parametrize(("driver", "file", "start"), [("overlay", "fs/first", 0), ("erofs", "tar", 512)])
def test_a_layer_is_unpacked_before_its_last_byte_came(places, tmp_path, monkeypatch, driver, file, start):
    """Its files are on the disk while the registry still holds the end of it back."""
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", driver)
    built = Built(tmp_path / "big", [tar({"first": b"1" * 4096, "rest": os.urandom(6 << 20)})])
    held = threading.Event()
    with serving(built, [], hold=(digest(built.layers[0]), held)) as server:
        worker = threading.Thread(target=pulled, args=(places, server.address))
        worker.start()
        try:
            snapshots = Path(places[2].root)
            for _ in range(200):
                found = list(snapshots.glob(f"ingest/sha256-*/{file}"))
                others = driver == "erofs" or list(snapshots.glob("ingest/*/fs/rest"))
                if found and others and found[0].stat().st_size >= start + 4096:
                    break
                worker.join(0.05)
            assert found[0].read_bytes()[start : start + 4096] == b"1" * 4096
            assert not places[2].has(chain(built)[0])
        finally:
            held.set()
            worker.join(30)
    assert places[2].has(chain(built)[0])


def test_blobs_that_are_here_already_are_unpacked_too(places, built):
    asked = []
    with serving(built, asked) as server:
        store, names, snapshots = places
        pull(store, names, Reference.parse(f"{server.address}/app:v0"))
        assert not snapshots.has(chain(built)[0])
        asked.clear()
        pulled(places, server.address)
    assert files(snapshots, chain(built)[-1]) == {"a": b"1", "d/x": b"2", "d/y": b"3"}
    assert [path for path in asked if digest(built.layers[0]) in path or digest(built.layers[1]) in path] == []


def wrong(built, diff_ids):
    config = json.loads(built.config)
    config["rootfs"]["diff_ids"] = diff_ids
    built.config = json.dumps(config).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    built.manifest = json.dumps(built.document).encode()


@pytest.mark.parametrize(
    ("diff_ids", "error"),
    [
        (lambda built: [digest(built.tars[0]), digest(b"other"), digest(built.tars[2])], Corrupt),
        (lambda built: [digest(built.tars[0])], InvalidInput),
    ],
)
def test_what_is_not_what_the_config_says_appears_nowhere(places, built, diff_ids, error):
    wrong(built, diff_ids(built))
    with serving(built, []) as server, pytest.raises(error):
        pulled(places, server.address)
    _store, names, snapshots = places
    assert not list(names.all())
    assert not os.path.exists(f"{snapshots.root}/layers") or os.listdir(f"{snapshots.root}/layers") == []
    assert not os.path.exists(f"{snapshots.root}/ingest") or os.listdir(f"{snapshots.root}/ingest") == []
    with pytest.raises(NotFound):
        names.get(f"{server.address}/app:v0")


def test_a_damaged_blob_is_told_as_one_and_not_as_a_malformed_tar(places, built):
    good, built.layers[1] = built.layers[1], b"x" * len(built.layers[1])
    asked = []

    def answer(request):
        asked.append(request.path)
        if "manifests" in request.path:
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        blobs = {
            digest(built.config): built.config,
            digest(built.layers[0]): built.layers[0],
            digest(good): built.layers[1],
        }
        return request.reply(200, next((b for d, b in blobs.items() if d in request.path), b"{}"))

    with Scripted(answer) as server, pytest.raises(Corrupt) as failure:
        pulled(places, server.address)
    assert digest(good) in str(failure.value)
    assert not places[0].has(places[0].put(b"", "x/y").replace(digest=digest(good), size=len(good)))


@pytest.mark.parametrize("damage", ["the blob", "the tar"])
def test_what_is_wrong_with_the_layer_that_is_most_of_an_image_is_told_and_no_thread_stays(places, tmp_path, damage):
    """Such a layer is decompressed by a thread of its own."""
    tars = [os.urandom(5 << 20) if damage == "the tar" else tar({"a": os.urandom(5 << 20)}), tar({"b": b"2"})]
    built = Built(tmp_path / "most", tars)
    good = digest(built.layers[0])
    if damage == "the blob":
        built.layers[0] = built.layers[0][: 3 << 20] + bytes(len(built.layers[0]) - (3 << 20))

    def answer(request):
        if "manifests" in request.path:
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        blobs = {good: built.layers[0], **{digest(blob): blob for blob in (built.config, built.layers[1])}}
        return request.reply(200, next((blob for name, blob in blobs.items() if name in request.path), b"{}"))

    wanted = Corrupt if damage == "the blob" else InvalidInput
    with Scripted(answer) as server, pytest.raises(wanted, match=good if damage == "the blob" else "checksum"):
        pulled(places, server.address)
    assert "ahead" not in [thread.name for thread in threading.enumerate()]
    assert not os.listdir(f"{places[2].root}/ingest")
    assert not list(places[1].all())


def test_two_pulls_at_once_unpack_once(places, built):
    asked = []
    with serving(built, asked) as server:
        workers = [threading.Thread(target=pulled, args=(places, server.address)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert places[2].has(chain(built)[-1])
    assert len([path for path in asked if digest(built.layers[0]) in path]) == 1


def test_an_artifact_is_refused_before_anything_of_it_comes(places, built):
    built.document["config"]["mediaType"] = media.EMPTY
    built.manifest = json.dumps(built.document).encode()
    asked = []
    with serving(built, asked) as server, pytest.raises(NoImage, match="it is no image but an artifact"):
        pulled(places, server.address)
    assert not [path for path in asked if "/blobs/" in path]
    assert not os.path.exists(f"{places[2].root}/layers")

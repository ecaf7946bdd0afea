"""Blobs appear whole and right, or not at all, whatever ends the writer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from veloci.content.collect import sweep
from veloci.content.files import temporary
from veloci.content.store import Store
from veloci.errors import Corrupt, HostError, InvalidInput, NotFound
from veloci.spec import media
from veloci.spec.digest import of
from veloci.spec.image import Descriptor

DATA = os.urandom(3 << 20)


def blob(data=DATA):
    return Descriptor(media_type="text/plain", digest=of(data), size=len(data))


def files(root):
    return sorted(
        os.path.relpath(os.path.join(top, name), root)
        for top, _, names in os.walk(root)
        for name in names
        if "leases" not in top
    )


def cut(data, size=1 << 20):
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "content"))


def child(store, code):
    """Run `code` in a process of its own, with the store and the test's data at hand."""
    head = f"import os, sys, time\nfrom veloci.content.store import Store\nfrom veloci.spec.image import Descriptor\nstore = Store({store.root!r})\n"
    return subprocess.Popen([sys.executable, "-c", head + code], stdout=subprocess.PIPE, stdin=subprocess.PIPE)


def test_what_is_ingested_is_an_oci_layout(store):
    store.ingest(blob(), cut(DATA))
    assert files(store.root) == [f"blobs/sha256/{of(DATA)[7:]}", "index.json", "oci-layout"]
    assert store.has(blob())
    assert store.read(blob()) == DATA
    assert list(store.digests()) == [of(DATA)]
    with store.open(blob(), 5) as chunks:
        assert b"".join(chunks) == DATA[5:]


def test_the_consumer_gets_every_byte_that_is_kept(store):
    with store.keeping(blob(), cut(DATA)) as passing:
        assert b"".join(passing) == DATA
        assert not store.has(blob())
    assert store.has(blob())


def test_what_the_consumer_leaves_unread_is_stored_all_the_same(store):
    with store.keeping(blob(), cut(DATA)) as passing:
        next(passing)
    assert store.has(blob())


@pytest.mark.parametrize(
    "sent", [DATA[:-1], DATA + b"x", bytes([DATA[0] ^ 1]) + DATA[1:]], ids=["short", "long", "wrong"]
)
def test_a_bad_blob_leaves_nothing(store, sent):
    with pytest.raises(Corrupt):
        store.ingest(blob(), cut(sent))
    assert files(store.root) == ["index.json", "oci-layout"]
    assert store.partial(of(DATA)) == 0


def test_an_interrupted_blob_is_resumed_where_it_stopped(store):
    def broken():
        yield from cut(DATA)[:2]
        raise ConnectionResetError("reset")

    with pytest.raises(ConnectionResetError):
        store.ingest(blob(), broken())
    assert store.partial(of(DATA)) == 2 << 20
    with store.claim(blob()) as claim:
        assert (claim.whole, claim.start) == (False, 2 << 20)
        with claim.keeping([DATA[claim.start :]]) as passing:
            assert b"".join(passing) == DATA
    assert store.read(blob()) == DATA
    with store.claim(blob()) as claim:
        assert claim.whole


def test_a_kept_part_that_was_wrong_is_thrown_away(store):
    def broken():
        yield bytes(2 << 20)
        raise ConnectionResetError("reset")

    with pytest.raises(ConnectionResetError):
        store.ingest(blob(), broken())
    with pytest.raises(Corrupt), store.claim(blob()) as claim, claim.keeping([DATA[claim.start :]]):
        pass
    assert store.partial(of(DATA)) == 0


def test_a_kept_part_that_is_longer_than_the_blob_is_forgotten(store):
    Path(store.partial_path(of(DATA))).parent.mkdir(parents=True)
    Path(store.partial_path(of(DATA))).write_bytes(DATA + b"x")
    with store.claim(blob()) as claim:
        assert claim.start == 0
        with claim.keeping(cut(DATA)):
            pass
    assert store.read(blob()) == DATA


def test_a_writer_that_is_killed_leaves_its_bytes_to_the_next(store):
    killed = child(
        store,
        f"data = sys.stdin.buffer.read()\nd = Descriptor(media_type='', digest={of(DATA)!r}, size={len(DATA)})\n"
        "with store.claim(d) as claim, claim.keeping([data[:1 << 20], data[1 << 20:]]) as passing:\n"
        "    next(passing); os.kill(os.getpid(), 9)\n",
    )
    killed.communicate(DATA)
    assert killed.returncode == -signal.SIGKILL
    assert not store.has(blob())
    with store.claim(blob()) as claim:
        assert claim.start == 1 << 20
        with claim.keeping([DATA[claim.start :]]):
            pass
    assert store.read(blob()) == DATA


def test_a_second_writer_waits_and_finds_the_blob_whole(store):
    slow = child(
        store,
        f"data = sys.stdin.buffer.read()\nd = Descriptor(media_type='', digest={of(DATA)!r}, size={len(DATA)})\n"
        "with store.keeping(d, [data]) as passing:\n    print('claimed', flush=True); time.sleep(0.5)\n",
    )
    slow.stdin.write(DATA)
    slow.stdin.close()
    assert slow.stdout.readline() == b"claimed\n"
    began = time.monotonic()
    with store.claim(blob()) as claim:
        assert claim.whole
    assert time.monotonic() - began > 0.3
    assert slow.wait() == 0
    slow.stdout.close()


def test_content_of_an_unknown_digest_is_adopted(store):
    found = store.adopt(cut(DATA), media.LAYER)
    assert found == Descriptor(media_type=media.LAYER, digest=of(DATA), size=len(DATA))
    assert store.adopt(cut(DATA), media.LAYER) == found
    assert files(store.root) == [f"blobs/sha256/{of(DATA)[7:]}", "index.json", "oci-layout"]


def test_a_document_is_put_and_removed(store):
    found = store.put(b"{}", media.EMPTY, {"a": "b"})
    assert (found.digest, found.size, found.annotations) == (of(b"{}"), 2, {"a": "b"})
    assert store.remove(found.digest) == 2
    assert store.remove(found.digest) == 0
    with pytest.raises(NotFound, match="is not in"):
        store.read(found)


def test_a_document_is_verified_when_it_is_read(store):
    found = store.put(b"{}", media.EMPTY)
    Path(store.path(found.digest)).write_bytes(b"[]")
    with pytest.raises(Corrupt):
        store.read(found)


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "other size"])
def test_a_blob_that_is_no_plain_file_of_its_size_is_refused(store, tmp_path, kind):
    found = store.put(b"{}", media.EMPTY)
    path = store.path(found.digest)
    os.unlink(path)
    (tmp_path / "outside").write_bytes(b"{}")
    {
        "link": lambda: os.symlink(tmp_path / "outside", path),
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: os.symlink("/dev/zero", path),
        "other size": lambda: Path(path).write_bytes(b"{} "),
    }[kind]()
    assert not store.has(found)
    with pytest.raises((Corrupt, HostError)):
        store.read(found)


def test_what_is_no_digest_never_becomes_a_path(store):
    for text in ("sha256:../../etc/passwd", "sha256:", "../x:aa", "sha256:" + "A" * 64):
        with pytest.raises(InvalidInput, match="is not a digest"):
            store.path(text)


def test_a_document_has_a_largest_size(store):
    with pytest.raises(InvalidInput, match="too many for a document"):
        store.read(Descriptor(media_type="", digest=of(b""), size=5 << 20))


@pytest.mark.needs("root")
def test_a_full_disk_is_said_clearly_and_frees_what_was_written(tmp_path):
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path / "small"], check=True)
    try:
        store = Store(str(tmp_path / "small/content"))
        with store.leased():
            with pytest.raises(HostError, match=r"^store sha256:[0-9a-f]{64}: No space left on device$") as caught:
                store.ingest(blob(), cut(DATA))
            assert caught.value.hint == "make room: veloci system prune"
            assert store.partial(of(DATA)) == 0
            with pytest.raises(HostError, match=r"^store a blob: No space left on device$"):
                store.adopt(cut(DATA), media.LAYER)
            store.put(b"{}", media.EMPTY)
            with pytest.raises(HostError, match=r"^store a blob: No space left on device$"):
                store.put(bytes(3 << 20), media.LAYER)  # the one write of which begins well
            assert list(store.digests()) == [of(b"{}")]
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


def test_a_blob_whose_writer_died_before_the_last_step_is_kept_whole(store):
    """The next one finds all its bytes, gives it its name, and must not take them for a beginning to be written anew."""
    descriptor = Descriptor(media_type=media.LAYER, digest=of(DATA), size=len(DATA))
    partial = Path(store.partial_path(descriptor.digest))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)
    with store.keeping(descriptor, [DATA]) as chunks:
        assert b"".join(chunks) == DATA
    assert Path(store.path(descriptor.digest)).read_bytes() == DATA
    assert not partial.exists()


def test_a_blob_that_a_collection_takes_while_it_is_looked_for_is_not_here(store):
    class Slow(Store):
        """The collection comes before the note."""

        def note(self, digest):
            self.remove(digest)
            super().note(digest)

    assert not Slow(store.root).has(store.put(b"{}", media.CONFIG))


def test_a_blob_that_comes_between_a_look_and_the_lock_is_not_written_again(store):
    class Slow(Store):
        """Somebody stores the blob right after it was first looked for."""

        def has(self, descriptor):
            found = super().has(descriptor)
            store.put(b"{}", media.CONFIG)
            return found

    descriptor = Descriptor(media_type=media.CONFIG, digest=of(b"{}"), size=2)
    with Slow(store.root).claim(descriptor) as claim:
        assert claim.whole
    assert os.listdir(f"{store.root}/ingest") == []


def test_a_collection_takes_what_nobody_writes_and_spares_what_may_be_resumed(store):
    place = Path(store.root, "ingest")
    with temporary(store.root) as (_file, live):
        for name in ("new-dead", "sha256-part"):
            (place / name).write_bytes(bytes(5))
        assert sweep(store.root) == 5
        assert sorted(os.listdir(place)) == [os.path.basename(live), "sha256-part"]
    assert sweep(store.root, 0) == 5
    assert os.listdir(place) == []

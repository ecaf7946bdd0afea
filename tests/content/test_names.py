"""Names: files that always tell the truth, and an index that other tools read."""

import contextlib
import json
import os
import subprocess
import sys
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import waits

from veloci.content import index
from veloci.content.files import create
from veloci.content.names import Names
from veloci.content.store import Store
from veloci.errors import InvalidInput, NotFound
from veloci.image.assemble import assemble
from veloci.spec import media
from veloci.spec.digest import of
from veloci.spec.image import Descriptor

ONE = Descriptor(media_type=media.MANIFEST, digest=of(b"1"), size=1)
TWO = Descriptor(media_type=media.MANIFEST, digest=of(b"2"), size=1, annotations={"a": "b"})


@pytest.fixture
def names(tmp_path):
    return Names(str(tmp_path / "content"))


def indexed(names):
    index = json.loads(Path(names.root, "index.json").read_bytes())
    return sorted((e["annotations"]["org.opencontainers.image.ref.name"], e["digest"]) for e in index["manifests"])


def test_a_name_is_set_moved_and_removed(names):
    name = "docker.io/library/debian:12"
    names.set(name, ONE)
    assert names.get(name) == ONE
    names.set(name, TWO)
    assert names.get(name) == TWO
    assert indexed(names) == [(name, TWO.digest)]
    names.remove(name)
    assert list(names.all()) == []
    assert indexed(names) == []
    assert os.listdir(f"{names.root}/refs") == []
    with pytest.raises(NotFound, match=r"no image is named docker\.io/library/debian:12") as caught:
        names.get(name)
    assert caught.value.hint == f"veloci pull {name}"
    with pytest.raises(NotFound):
        names.remove(name)


def test_names_that_begin_alike_live_side_by_side(names):
    digest = f"h:5000/a@{of(b'x')}"
    every = ["h:5000/a/b:1", "h:5000/a:1", "h:5000/a:2", digest, "h:5000/a/b/c:1"]
    for name in every:
        names.set(name, ONE)
    assert [name for name, _ in names.all()] == sorted(every)
    assert [name for name, _ in indexed(names)] == sorted(every)
    names.remove("h:5000/a:1")
    assert names.get("h:5000/a/b:1") == ONE


@pytest.mark.parametrize("name", ["../x:1", "/etc/passwd", "a/../../b:1", "a//b:1", "", ":1", "a\0b:1", "a/./b"])
def test_what_could_lead_out_of_the_store_is_no_name(names, name):
    with pytest.raises(InvalidInput, match="cannot be a name"):
        names.set(name, ONE)


def test_twenty_at_once_are_twenty(names):
    code = f"import sys; from veloci.content.names import Names; from veloci.spec.image import Descriptor; Names({names.root!r}).set('h.io/a:' + sys.argv[1], Descriptor(media_type='text/plain', digest={of(b'1')!r}, size=1))"
    running = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(20)]
    assert [process.wait() for process in running] == [0] * 20
    assert len(list(names.all())) == len(indexed(names)) == 20


def test_a_layout_that_two_lay_out_keeps_what_the_first_has_put_in(names):
    names.set("h.io/a:1", ONE)
    file = Path(names.root, "index.json")
    held = file.read_bytes()
    create(names.root, str(file), b"{}")  # the other saw none when it looked
    assert file.read_bytes() == held
    assert list(Path(names.root, "ingest").iterdir()) == []


def test_an_index_left_behind_by_a_kill_is_made_true_again(names):
    names.set("h.io/a:1", ONE)
    Path(names.root, "index.json").write_bytes(b"")
    Path(names.root, "index.stale").touch()
    names.set("h.io/a:2", TWO)
    assert indexed(names) == [("h.io/a:1", ONE.digest), ("h.io/a:2", TWO.digest)]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("call", ["rename", "fdatasync", "unlink", "mkdir", "pwrite64"])
def test_a_kill_at_any_step_leaves_the_old_name_or_the_new(names, call):
    names.set("h.io/a:1", ONE)
    code = f"from veloci.content.names import Names; from veloci.spec.image import Descriptor; Names({names.root!r}).set('h.io/a:1', Descriptor(media_type='text/plain', digest={of(b'2')!r}, size=1)); Names({names.root!r}).set('h.io/b:1', Descriptor(media_type='text/plain', digest={of(b'2')!r}, size=1))"
    for step in range(1, 5):
        killed = subprocess.run(
            [
                "strace",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                f"inject={call}:signal=KILL:when={step}",
                sys.executable,
                "-c",
                code,
            ],
            check=False,
        )
        assert killed.returncode in (0, -9, 137)
        assert names.get("h.io/a:1").digest in (of(b"1"), of(b"2"))
        json.loads(Path(names.root, "index.json").read_bytes())
    names.set("h.io/c:1", ONE)
    assert indexed(names) == [(name, found.digest) for name, found in names.all()]


@pytest.mark.needs("skopeo")
def test_skopeo_reads_the_store_by_its_names(names):
    store = Store(names.root)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    found = assemble(store, config, [])
    names.set("docker.io/library/empty:latest", found)
    seen = subprocess.run(
        ["skopeo", "inspect", f"oci:{names.root}:docker.io/library/empty:latest"], capture_output=True, check=True
    )
    assert json.loads(seen.stdout)["Digest"] == found.digest


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([ONE, TWO, None])), max_size=12))
def test_the_index_is_changed_as_it_would_be_written_anew(changes):
    now = {}
    raw = index.index([])
    for name, descriptor in changes:
        now.pop(name, None)
        if descriptor:
            now[name] = descriptor
        raw = index.changed(raw, name, descriptor)
        assert index.is_ours(raw)
        assert json.loads(raw) == json.loads(index.index(now.items()))
        assert sorted(index.names(raw, ONE.digest)) == sorted(name for name in now if now[name] == ONE)


def test_the_names_of_an_image_are_found(names):
    for name, descriptor in (("docker.io/library/b:1", ONE), ("docker.io/library/a:1", ONE), ("h:5000/c:1", TWO)):
        names.set(name, descriptor)
    assert names.standing(ONE.digest) == ["docker.io/library/a:1", "docker.io/library/b:1"]
    Path(names.root, "index.stale").touch()
    assert names.standing(TWO.digest) == ["h:5000/c:1"]
    assert [name for name, _ in names.all("h:5000/c")] == ["h:5000/c:1"]
    assert list(names.all("h:5000")) == []


def test_what_other_tools_read_is_written_anew_while_no_name_changes(names):
    names.set("h.io/a:1", ONE)
    code = f"from veloci.content.names import Names; print(flush=True); Names({names.root!r}).refresh()"
    lock = open(f"{names.root}/index.lock", "rb")  # noqa: SIM115 -- closed when it has been waited for
    flock(lock, LOCK_EX)
    assert waits(lock, code)


@pytest.fixture
def full(tmp_path):
    """Names in a file system of 256 KiB and 60 inodes, and what fills it: with bytes, or with files."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=60", "tmpfs", place], check=True)

    def fill(how):
        with contextlib.suppress(OSError):
            if how == "bytes":
                with (place / "filler").open("wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
            for number in range(60):
                (place / f"filler{number}").touch()

    yield Names(f"{place}/content"), fill, place
    subprocess.run(["umount", place], check=True)


@pytest.mark.needs("root")
@pytest.mark.parametrize("how", ["bytes", "files"])
def test_a_name_is_removed_on_a_full_disk_and_the_index_follows(full, how):
    names, fill, place = full
    every = [f"h.io/a:{number}" for number in range(40)]  # whose index takes more room than one name gives back
    for name in every:
        names.set(name, ONE)
    fill(how)
    names.remove(every.pop())
    assert sorted(name for name, _ in names.all()) == sorted(every)
    for path in place.glob("filler*"):
        path.unlink()
    if names.is_stale():
        names.refresh()
    assert [name for name, _ in indexed(names)] == sorted(every)

"""Layers go when nothing needs them, and never before."""

import os
import subprocess
import sys
from fcntl import LOCK_EX, LOCK_SH
from threading import Thread

import pytest
from peers import waits

from veloci.content.lease import Locked
from veloci.content.store import Store
from veloci.layer.diff import tree
from veloci.snapshot import Snapshots
from veloci.snapshot.snapshots import Lock
from veloci.snapshot.unpack import Claim, Unpacking
from veloci.spec import media
from veloci.spec.digest import chain, of

pytestmark = pytest.mark.needs("root", "overlay")


@pytest.fixture
def snapshots(tmp_path):
    """Four layers: a, b upon a, c upon b, and d alone."""
    found = Snapshots(str(tmp_path / "snapshots"))
    tars = {}
    for name in "abcd":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(bytes(9000))
        root = os.open(tmp_path / name, os.O_DIRECTORY)
        tars[name] = b"".join(tree(root))
        os.close(root)
    found.tars = tars
    found.names = {"a": of(tars["a"]), "d": of(tars["d"])}
    found.names["b"] = chain(found.names["a"], of(tars["b"]))
    found.names["c"] = chain(found.names["b"], of(tars["c"]))
    for name, parent in (("a", ""), ("b", "a"), ("c", "b"), ("d", "")):
        found.apply(found.names[parent] if parent else "", of(tars[name]), [tars[name]])
    return found


def there(snapshots):
    return "".join(sorted(name for name, chain_id in snapshots.names.items() if snapshots.has(chain_id)))


def test_what_is_below_a_needed_layer_stays(snapshots):
    assert snapshots.collect([snapshots.names["b"]]) >= 2 * 9000
    assert there(snapshots) == "ab"
    assert snapshots.collect([]) >= 2 * 9000
    assert there(snapshots) == ""
    assert os.listdir(f"{snapshots.root}/ingest") == []


@pytest.mark.needs("strace")
@pytest.mark.parametrize(("step", "left"), [(1, "abcd"), (2, "abd"), (3, "ad")])
def test_a_collection_that_is_killed_leaves_no_layer_without_those_below_it(snapshots, step, left):
    code = f"from veloci.snapshot import Snapshots; Snapshots({snapshots.root!r}).collect([])"
    inject = f"inject=rename:signal=KILL:when={step}"
    subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", inject, sys.executable, "-c", code], check=False)
    assert there(snapshots) == left
    snapshots.collect([])
    assert there(snapshots) == ""


def test_what_a_container_stands_on_stays(snapshots):
    snapshots.prepare("box", snapshots.names["c"])
    snapshots.prepare("scratch", "")
    snapshots.collect([])
    assert there(snapshots) == "abc"
    os.close(snapshots.mount("box"))
    os.close(snapshots.mount("scratch"))


def test_what_a_killed_command_left_goes_and_what_a_running_one_makes_stays(snapshots):
    code = (
        "import os, sys, time\nfrom veloci.snapshot import Snapshots\nfrom veloci.snapshot.unpack import Claim\n"
        f"claim = Claim(Snapshots({snapshots.root!r}), 'sha256:' + sys.argv[1] * 64, '')\n"
        "os.mkdir(claim.fs)\nprint('made', flush=True)\ntime.sleep(60)\n"
    )
    dead, live = (subprocess.Popen([sys.executable, "-c", code, digit], stdout=subprocess.PIPE) for digit in "12")
    for process in (dead, live):
        assert process.stdout.readline() == b"made\n"
        process.stdout.close()
    dead.kill()
    dead.wait()
    snapshots.collect([])
    assert os.listdir(f"{snapshots.root}/ingest") == ["sha256-" + "2" * 64]
    live.kill()
    live.wait()


@pytest.mark.parametrize(
    ("lock", "how", "what"),
    [
        (Lock, LOCK_SH, "collect([])"),
        (Locked, LOCK_SH, "collect([])"),
        (Lock, LOCK_EX, "prepare('box', '')"),
        (Locked, LOCK_EX, "lease().note('sha256:' + '1' * 64)"),
    ],
)
def test_who_collects_and_who_counts_on_layers_wait_for_each_other(snapshots, lock, how, what):
    code = f"from veloci.snapshot import Snapshots; print(flush=True); Snapshots({snapshots.root!r}).{what}"
    assert waits(lock(snapshots.root, how), code)


def test_what_is_below_a_layer_that_comes_stays(snapshots, tmp_path):
    store, tars = Store(str(tmp_path / "content")), snapshots.tars
    layers = [(store.adopt([tars[name]], media.LAYER), of(tars[name])) for name in "ad"]
    with Unpacking(snapshots, layers) as work:
        snapshots.collect([])
        assert there(snapshots) == "a"
        assert snapshots.has(work.finish(store))


def test_who_waits_for_a_layer_that_fails_makes_it(snapshots):
    """It waited for the lock of a directory that is gone by then."""
    name, got = "sha256:" + "1" * 64, []
    first = Claim(snapshots, name, "")
    second = Thread(target=lambda: got.append(Claim(snapshots, name, "")))
    second.start()
    second.join(0.3)
    assert got == []
    first.close()
    second.join()
    assert os.path.isdir(got[0].path)
    got[0].close()


def test_a_layer_that_comes_between_a_look_and_the_lock_is_not_made_again(snapshots):
    class Slow(Snapshots):
        """Somebody makes the layer right after it was first looked for."""

        def has(self, chain_id):
            found = super().has(chain_id)
            snapshots.apply("", of(snapshots.tars["d"]), [snapshots.tars["d"]])
            return found

    snapshots.collect([])
    assert Claim(Slow(snapshots.root), snapshots.names["d"], "").whole

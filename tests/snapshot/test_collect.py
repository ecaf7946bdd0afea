"""Layers go when nothing needs them, and never before."""

import os
import subprocess
import sys

import pytest

from veloci.layer.diff import tree
from veloci.snapshot import Snapshots
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

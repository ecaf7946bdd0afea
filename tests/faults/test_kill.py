"""kill -9 at random moments of what changes the store: it is whole, the same command then works, nothing stays behind.

VELOCI_SOAK is how many moments of each command are tried (`make soak`), VELOCI_SEED which.
"""

import os
import random
import subprocess
import time

import pytest
from box import VELOCI
from peers import run, veloci  # not inside: a process keeps what it has written until it ends

pytestmark = pytest.mark.needs("root", "overlay")
MOMENTS = int(os.environ.get("VELOCI_SOAK", "2"))
SEED = os.environ.get("VELOCI_SEED", "1")


def whole(root):
    """Assert that the store is whole, also after a collection, which leaves nothing half-written."""
    assert veloci("system", "check").endswith(": whole\n")
    veloci("image", "prune", "-f")
    for place in (root / "content/ingest", root / "snapshots/ingest"):
        assert not place.exists() or os.listdir(place) == []
    assert [name for name in os.listdir(root / "content/leases") if name != "lock"] == []
    assert not (root / "content/index.stale").exists()
    assert veloci("system", "check").endswith(": whole\n")


def layers(root):
    return [name for name in os.listdir(root / "snapshots/layers") if not name.startswith("scratch")]


@pytest.fixture
def commands(pushed, tmp_path):
    """The words of each command that is killed, and those of what comes before it."""
    veloci("copy", "-q", f"oci:{pushed.path}:v0", f"docker-archive:{tmp_path}/a.tar:loaded:v0")
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_bytes(os.urandom(1 << 20))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /a\nCOPY file /b\n")
    pull = ["pull", "-q", pushed.name]
    return {
        "pull": (pull, []),
        "load": (["load", "-q", "-i", tmp_path / "a.tar"], []),
        "build": (["build", "-q", "-t", "built", context], []),
        "rmi": (["rmi", pushed.name], pull),
        "prune": (["system", "prune", "-af"], pull),
        "copy": (["copy", "-q", f"oci:{pushed.path}:v0", "copied:v0"], []),
    }


def killed(words, moment):
    """Run a command and kill it after so many seconds. Returns how long it took, None if it was killed."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    return time.monotonic() - began


@pytest.mark.parametrize("verb", ["pull", "load", "build", "rmi", "prune", "copy"])
def test_a_command_that_is_killed_leaves_a_whole_store(commands, roots, verb):
    words, before = commands[verb]
    words = [VELOCI, *map(str, words)]
    pick, length = random.Random(f"{SEED} {verb}"), 0.5
    for _ in range(MOMENTS):
        veloci("system", "prune", "-af")
        if before:
            veloci(*before)
        length = max(killed(words, length * pick.uniform(0.15, 1.0)) or length, 0.1)
        assert veloci("system", "check").endswith(": whole\n")
        done = run(*words, check=False)
        gone = verb == "rmi" and done.returncode == 1 and "no such image" in done.stderr  # it was faster than we
        assert done.returncode == 0 or gone, done.stderr
        whole(roots / "data")
        if verb in ("rmi", "prune"):
            assert os.listdir(roots / "data/content/blobs/sha256") == layers(roots / "data") == []


def test_everything_at_once_on_one_store(pushed, roots, tmp_path):
    """Pulls, a build, removals, collections, a check and a push: each does its work, and nothing that is needed goes."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /a\n")
    other = f"{pushed.name.rpartition(':')[0]}:v1"
    veloci("pull", "-q", pushed.name)
    veloci("tag", pushed.name, other)
    scripts = [
        f"for n in 1 2; do {VELOCI} pull -q {pushed.name}; {VELOCI} rmi {pushed.name}; done",
        f"{VELOCI} pull -q {pushed.name}; {VELOCI} pull -q {pushed.name}",
        f"for n in 1 2; do {VELOCI} build -q -t built {tmp_path}; {VELOCI} rmi built; done",
        f"{VELOCI} push -q {other}",
        f"for n in 1 2 3; do {VELOCI} image prune -f; done",
        f"{VELOCI} system check --repair",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(["sh", "-ec", text], **pipes) for text in scripts]
    for text, process in zip(scripts, running, strict=True):
        out, error = process.communicate(timeout=100)
        assert process.returncode == 0, (text, out, error)
    whole(roots / "data")
    assert veloci("image", "validate", other).endswith(": valid\n")


def fill(path):
    """Write a file until not a byte more fits on its disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def refused(problem, *words):
    """The command fails, and says so in one line, with perhaps one more of what to do."""
    done = veloci(*words, check=False)
    assert done.returncode == 1, words
    assert done.stderr.splitlines()[0].endswith(problem), done.stderr
    assert len(done.stderr.splitlines()) <= 2, done.stderr


@pytest.mark.needs("mkfs.ext4")
def test_a_full_disk_is_one_line_and_room_comes_back(pushed, small, tmp_path):
    veloci("pull", "-q", pushed.name)
    fill(small / "filler")
    (tmp_path / "root.tar").write_bytes(pushed.tars[2])
    for words in (["import", tmp_path / "root.tar", "more"], ["tag", pushed.name, "other:v0"]):
        refused("No space left on device", *words)
        assert veloci("system", "check").endswith(": whole\n")
    before = os.statvfs(small).f_bavail
    assert veloci("rmi", pushed.name).startswith("Untagged")
    assert os.statvfs(small).f_bavail > before
    os.unlink(small / "filler")
    veloci("pull", "-q", pushed.name)
    whole(small / "data")


@pytest.mark.needs("mkfs.ext4")
def test_a_read_only_disk_is_one_line_and_what_is_there_is_read(pushed, small):
    veloci("pull", "-q", pushed.name)
    run("mount", "-o", "remount,ro", small)
    try:
        for words in (["tag", pushed.name, "other:v0"], ["rmi", pushed.name]):
            refused("Read-only file system", *words)
        assert pushed.name.rpartition(":")[0] in veloci("images", "--format", "{{.Repository}}")
    finally:
        run("mount", "-o", "remount,rw", small)
    whole(small / "data")

"""kill -9 at any moment of a copy, and a full disk: old or new, nothing torn, and the next copy works."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import Built, run, tar
from peers import inside as veloci

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def built(roots, tmp_path):
    return Built(tmp_path / "layout", [tar({f"f{n}": os.urandom(1 << 20)}) for n in range(4)])


def killed(seconds, *words):
    """A command that is killed after so many seconds, if it has not ended by then. Whether it was."""
    process = subprocess.Popen(
        [sys.executable, "-m", "veloci", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def moments(command, seed):
    """Six times within the length of a command, early and late."""
    start = time.monotonic()
    assert not killed(60, *command)
    length = time.monotonic() - start
    return [length * random.Random(seed + n).uniform(0.3, 1.0) for n in range(6)]


def test_a_layout_is_whole_whenever_a_copy_into_it_dies(built, tmp_path):
    there = f"oci:{tmp_path}/to"
    veloci("copy", "-q", f"oci:{built.path}:v0", f"{there}:kept")
    command = ["copy", "-q", "--compress", "zstd:3", f"oci:{built.path}:v0"]
    for number, moment in enumerate(moments([*command, f"{there}:first"], 1)):
        killed(moment, *command, f"{there}:n{number}")
        names = veloci("layout", "ls", tmp_path / "to").split()
        assert names[:2] == ["kept", "first"]
        for name in names:
            assert veloci("image", "validate", "--fast", f"{there}:{name}").endswith(": valid\n")
    veloci("copy", "-q", "--compress", "gzip:1", f"oci:{built.path}:v0", f"{there}:last")
    veloci("layout", "gc", tmp_path / "to")
    assert not [path for path in (tmp_path / "to").iterdir() if path.name.startswith(".")]
    for name in veloci("layout", "ls", tmp_path / "to").split():
        assert veloci("image", "validate", f"{there}:{name}").endswith(": valid\n")


@pytest.mark.parametrize("place", ["docker-archive:{}/a.tar:app:v0", "oci-archive:{}/a.tar:v0"])
def test_an_archive_is_the_old_one_or_the_new(built, tmp_path, place):
    place = place.format(tmp_path)
    other = Built(tmp_path / "other", built.tars[:1])
    command = ["copy", "-q", f"oci:{built.path}:v0", place]
    for moment in moments(command, 2)[:3]:
        veloci("copy", "-q", f"oci:{other.path}:v0", place)
        old = (tmp_path / "a.tar").read_bytes()
        killed(moment, *command)
        assert veloci("image", "validate", place).endswith(": valid\n")
        now = (tmp_path / "a.tar").read_bytes()
        assert now == old or len(now) > len(old)


def test_the_store_is_whole_whenever_a_change_dies(built, tmp_path):
    veloci("copy", "-q", f"oci:{built.path}:v0", "app:v0")
    command = ["image", "config", "-q", "--label", "a=b", "app:v0"]
    for moment in moments(command, 3):
        killed(moment, *command)
        assert veloci("image", "validate", "app:v0").endswith(": valid\n")
    veloci(*command)
    assert json.loads(veloci("inspect", "--raw", "--config", "veloci:app:v0"))["config"]["Labels"] == {"a": "b"}


@pytest.fixture
def small(tmp_path):
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", place)
    yield place
    run("umount", place)


@pytest.mark.parametrize("kind", ["oci:{}/l:v0", "dir:{}/d", "oci-archive:{}/a.tar:v0", "docker-archive:{}/a.tar:a:v0"])
def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path, small, roots, kind):
    first = Built(tmp_path / "first", [tar({"a": os.urandom(3 << 20)})])
    second = Built(tmp_path / "second", [tar({"a": os.urandom(3 << 20)}), tar({"b": os.urandom(4 << 20)})])
    place = kind.format(small)
    veloci("copy", "-q", f"oci:{first.path}:v0", place)
    done = veloci(
        "copy",
        "-q",
        f"oci:{second.path}:v0",
        place.replace(":v0", ":v1") if kind[0:4] == "oci:" else place,
        check=False,
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert veloci("image", "validate", place).endswith(": valid\n")
    assert not [path for path in Path(small).rglob(".*") if path.is_file()]

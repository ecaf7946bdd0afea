"""Power that fails after a command said it was done; a disk without inodes, or that fails; no more descriptors."""

import fcntl
import os
import resource
import struct
import subprocess

import pytest
from box import VELOCI
from peers import run, veloci

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.timeout(120)]
SHUTDOWN, WITHOUT_JOURNAL = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH: linux/ext4.h


def cut(place, image):
    """Let the power of an ext4 file system fail, and come back: what was not on the disk is lost.

    It comes back from a copy: other namespaces may hold the one that failed.
    """
    directory = os.open(place, os.O_RDONLY)
    fcntl.ioctl(directory, SHUTDOWN, struct.pack("I", WITHOUT_JOURNAL))
    os.close(directory)
    run("umount", place)
    run("cp", "--sparse=always", image, f"{image}+")
    os.rename(f"{image}+", image)
    run("mount", "-o", "loop", image, place)


@pytest.mark.needs("mkfs.ext4")
def test_what_was_reported_done_outlives_a_power_cut(pushed, small, tmp_path):
    """skopeo lost its index.json so, umoci the bundle; podman listed an image of empty files."""
    image = tmp_path / "image"
    veloci("pull", "-q", pushed.name)
    cut(small, image)
    assert veloci("system", "check").endswith(": whole\n")
    assert veloci("images", "--format", "{{.Repository}}:{{.Tag}}") == f"{pushed.name}\n"
    assert veloci("run", "--rm", "--network", "none", pushed.name, "sh", "-c", "echo there") == "there\n"
    veloci("tag", pushed.name, "other:v0")
    cut(small, image)
    assert veloci("images", "-q", "other").count("\n") == 1
    assert veloci("system", "check").endswith(": whole\n")
    place = f"oci:{small}/layout:a"
    veloci("copy", "-q", pushed.name, place)
    cut(small, image)
    assert veloci("image", "validate", place).endswith(": valid\n")
    veloci("rmi", "-f", pushed.name, "other:v0")
    cut(small, image)
    assert veloci("system", "check").endswith(": whole\n")
    assert veloci("images", "-q") == ""


@pytest.mark.needs("mkfs.ext4")
def test_a_container_that_was_reported_made_outlives_a_power_cut(pushed, small, tmp_path):
    """With its name, what it writes to and its volume; what is to be removed at its end is not waited for."""
    image, make = tmp_path / "image", ("create", "-q", "--network", "none")
    veloci("volume", "create", "kept")
    cut(small, image)
    assert veloci("volume", "ls", "-q") == "kept\n"
    veloci(*make, "--name", "one", "-v", "kept:/a", "-v", "other:/b", pushed.name, "sh", "-c", "echo there")
    cut(small, image)
    assert veloci("start", "-a", "one") == "there\n"
    assert veloci("volume", "ls", "-q") == "kept\nother\n"
    veloci("rename", "one", "two")
    cut(small, image)
    assert veloci("ps", "-a", "--format", "{{.Names}}") == "two\n"
    veloci("update", "--restart", "on-failure", "two")
    cut(small, image)
    assert veloci("inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "two") == "on-failure\n"
    veloci("run", "-d", "--name", "three", "--network", "none", pushed.name, "sh", "-c", "echo went")
    veloci("wait", "three")
    cut(small, image)
    assert veloci("start", "-a", "three").endswith("went\n")
    assert veloci("system", "check").endswith(": whole\n")


def failed(words, **options):
    """The one line that a command ends with, which fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 1, done
    first, *rest = done.stderr.splitlines()
    assert len(rest) <= 1, done.stderr
    return first


def test_no_inodes_left_is_one_line_and_nothing_stays(pushed, tmp_path, monkeypatch):
    place = tmp_path / "few"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "nr_inodes=20", "tmpfs", place)
    try:
        monkeypatch.setenv("VELOCI_ROOT", f"{place}/data")
        monkeypatch.setenv("VELOCI_RUN", str(tmp_path / "run"))
        assert failed([VELOCI, "pull", "-q", pushed.name]).endswith("No space left on device")
        run("mount", "-o", "remount,nr_inodes=2000", place)
        veloci("pull", "-q", pushed.name)
        assert veloci("system", "check").endswith(": whole\n")
    finally:
        run("umount", place)


@pytest.mark.needs("strace")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_disk_that_fails_is_one_line_and_the_store_is_whole(pushed, roots, tmp_path, call):
    """At one call in the middle of a pull; what writes less than it was asked to is gone on with."""
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    line = failed([*trace, "-e", f"inject={call}:error=EIO:when=2", VELOCI, "pull", "-q", pushed.name])
    assert line.endswith("Input/output error")
    assert veloci("system", "check").splitlines()[-1].endswith((": whole", "is empty"))
    veloci("pull", "-q", pushed.name)
    assert veloci("system", "check").endswith(": whole\n")


def test_too_many_open_files_is_one_line_and_the_store_is_whole(pushed, roots):
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14))  # noqa: E731
    assert failed([VELOCI, "pull", "-q", pushed.name], preexec_fn=few).endswith("Too many open files")
    veloci("pull", "-q", pushed.name)
    assert veloci("system", "check").endswith(": whole\n")

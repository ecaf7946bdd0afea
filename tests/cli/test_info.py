"""Where and how images and containers are kept, and how that is chosen."""

import json
import os
import subprocess
import sys

import pytest


def veloci(*words, status=0):
    done = subprocess.run([sys.executable, "-m", "veloci", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout if not status else done.stderr


def test_it_says_how_layers_are_kept_and_where(roots):
    lines = dict(line.strip().split(": ", 1) for line in veloci("info").splitlines())
    assert lines["Root Dir"] == str(roots / "data")
    assert lines["Kernel Version"] == os.uname().release
    assert lines["Containers"] == lines["Images"] == "0"
    assert (roots / "data/snapshots/driver").read_text() == lines["Storage Driver"] + "\n"


def test_the_fields_are_dockers_and_numbers_are_numbers(roots):
    found = json.loads(veloci("info", "--format", "json"))
    assert (found["DockerRootDir"], found["OSType"], found["NCPU"]) == (str(roots / "data"), "linux", os.cpu_count())
    assert veloci("system", "info", "-f", "{{.Images}} {{.ContainersRunning}}") == "0 0\n"


@pytest.mark.needs("root", "erofs", "overlay")
def test_a_kernel_that_can_read_a_layer_as_it_is_is_let(roots):
    assert veloci("info", "-f", "{{.Driver}}") == "erofs\n"


@pytest.mark.needs("root", "overlay")
def test_a_way_that_does_not_work_here_is_refused_and_nothing_is_kept(roots):
    """On overlayfs, which takes no other overlay upon it."""
    for name in ("lower", "upper", "work", "data", "tree"):
        (roots / name).mkdir()
    subprocess.run(["tar", "-cf", roots / "layer.tar", "-C", roots / "tree", "."], check=True)
    options = f"lowerdir={roots}/lower,upperdir={roots}/upper,workdir={roots}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", roots / "data"], check=True)
    try:
        why = "mount 2 layers: Invalid argument"
        for words, used in (((), "copy"), (("--snapshotter=overlay",), "overlay")):
            lines = veloci(*words, "info").partition("Storage Driver: ")[2].splitlines()
            assert (lines[0], lines[2]) == (used, f"  overlay: not here: {why}")
            assert lines[1].startswith("  erofs: not here: mount ")  # why depends on the kernel
        veloci("import", str(roots / "layer.tar"), "one")
        said = veloci("--snapshotter=overlay", "create", "--network=none", "one", "true", status=1)
        assert said == f"veloci: --snapshotter: overlay: {why}\n  try: copy works here\n"
        assert os.listdir(roots / "data/snapshots/ingest") == veloci("ps", "-aq").split() == []
        assert not (roots / "data/snapshots/layers").exists()
    finally:
        subprocess.run(["umount", roots / "data"], check=True)


@pytest.mark.needs("root", "overlay", "unshare")
def test_where_no_layer_can_be_mounted_from_its_tar_it_is_unpacked_and_why_is_said(roots):
    """In memory EROFS has loop devices, and here there are none."""
    for name in ("data", "tree"):
        (roots / name).mkdir()
    steps = [
        'mount -t tmpfs tmpfs "$0/data" && mount --bind /dev/null /dev/loop-control && "$@" info',
        'tar -cC "$0/tree" . | "$@" import - one',
        '"$@" --snapshotter=erofs create --network=none one true',
    ]
    words = ["unshare", "--mount", "sh", "-c", "\n".join(steps), str(roots), sys.executable, "-m", "veloci"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    why = "mount a layer that is kept as its tar, which takes root and EROFS as of Linux 6.4: "
    driver, line = done.stdout.partition("Storage Driver: ")[2].splitlines()[:2]
    assert (driver, line.partition(why)[0]) == ("overlay", "  erofs: not here: ")
    said = done.stderr.splitlines()
    assert said[0].startswith(f"veloci: --snapshotter: erofs: {why}")
    assert said[1:] == ["  try: overlay works here"]


def test_one_may_choose_for_one_command_and_the_store_keeps_its_own(roots):
    (roots / "data/snapshots").mkdir(parents=True)
    (roots / "data/snapshots/driver").write_text("overlay\n")
    assert veloci("--snapshotter", "erofs", "info", "-f", "{{.Driver}}") == "erofs\n"
    assert veloci("info", "-f", "{{.Driver}}") == "overlay\n"
    assert "Storage Driver: overlay\n  erofs: " in veloci("info")
    said = veloci("--snapshotter=zip", "info", status=1)
    assert said.splitlines()[0] == "veloci: --snapshotter: no snapshotter 'zip'"

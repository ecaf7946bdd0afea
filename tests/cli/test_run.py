"""`veloci run` and its kin on the real kernel: an image of busybox, output, exit statuses, nothing left."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

VELOCI = str(Path(sys.executable).with_name("veloci"))


def veloci(*words, **options):
    return subprocess.run([VELOCI, *words], capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.fixture
def image(roots):
    root = roots / "tree"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    for name in ("sh", "cat", "echo", "sleep", "true", "hostname"):
        os.symlink("busybox", root / "bin" / name)
    subprocess.run(["tar", "-C", root, "-cf", roots / "tree.tar", "."], check=True)
    assert veloci("import", str(roots / "tree.tar"), "bb").returncode == 0
    return "bb"


@pytest.mark.parametrize("runtime", ["veloci", "runc", "crun"])
def test_output_and_exit_status_pass_through_every_runtime(image, roots, runtime):
    if runtime != "veloci" and not shutil.which(runtime):
        pytest.skip(f"this host lacks {runtime}")
    done = veloci(
        "run", "--rm", "--network", "none", "--runtime", runtime, image, "sh", "-c", "echo o; echo e >&2; exit 7"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("o\n", "e\n", 7)
    assert [path.name for path in (roots / "data/containers").iterdir() if not path.name.startswith(".")] == []
    assert [path.name for path in (roots / "run/containers").iterdir() if path.name != ".making"] == []


def test_a_missing_command_is_127(image):
    done = veloci("run", "--rm", "--network", "none", image, "nope")
    assert (done.returncode, done.stderr) == (127, 'veloci: exec: "nope": executable file not found in $PATH\n')


def test_standard_input_ends_the_container(image):
    assert veloci("run", "-i", "--rm", "--network", "none", image, "cat", input="data\n").stdout == "data\n"


def test_a_container_lives_is_listed_logged_entered_and_removed(image):
    id = veloci(
        "run", "-d", "--name", "web", "--network", "none", image, "sh", "-c", "echo up; sleep 60"
    ).stdout.strip()
    try:
        assert len(id) == 64
        assert veloci("ps", "--format", "{{.Names}} {{.State}}").stdout == "web running\n"
        assert veloci("exec", "web", "hostname").stdout.strip() == id[:12]
        assert veloci("logs", "web").stdout == "up\n"
        refused = veloci("rm", "web")
        assert (refused.returncode, refused.stdout) == (1, "")
    finally:
        assert veloci("rm", "-f", "web").stdout == "web\n"
    assert veloci("ps", "-aq").stdout == ""


def test_an_unknown_container_is_named(image):
    done = veloci("stop", "nobody")
    assert (done.returncode, done.stderr) == (1, "veloci: no such container: nobody\n  try: veloci ps -a\n")

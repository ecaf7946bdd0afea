"""podman starts its containers with veloci-runtime."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "podman", "busybox")
OWN = str(Path(sys.executable).parent / "veloci-runtime")


@pytest.fixture
def podman(tmp_path):
    binaries = tmp_path / "rootfs/bin"
    binaries.mkdir(parents=True)
    shutil.copy("/bin/busybox", binaries)
    for name in "sh id grep sleep ls".split():
        (binaries / name).symlink_to("busybox")
    short = tempfile.mkdtemp(prefix="v")  # podman takes no run root longer than 50 characters
    base = [
        "podman",
        "--cgroup-manager",
        "cgroupfs",
        "--root",
        str(tmp_path / "data"),
        "--runroot",
        short,
    ]

    def run(*words):
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "none"]
        return subprocess.run(
            [*base, "--runtime", OWN, "run", "--rm", *limits, "--rootfs", str(tmp_path / "rootfs"), *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    yield run
    # conmon cleans up after podman has returned, and podman leaves its storage bound upon itself.
    for _ in range(100):
        if not any(str(tmp_path).encode() in line for line in _command_lines()):
            break
        time.sleep(0.05)
    subprocess.run(["umount", str(tmp_path / "data/overlay")], capture_output=True, check=False)
    shutil.rmtree(short, ignore_errors=True)


def _command_lines():
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield process.read_bytes()
        except OSError:  # it has ended
            continue


def test_it_runs_under_podmans_seccomp_profile(podman):
    done = podman("sh", "-c", "grep Seccomp: /proc/self/status; exit 7")
    assert (done.returncode, done.stdout) == (7, "Seccomp:\t2\n"), done.stderr


def test_a_missing_program_is_127(podman):
    assert podman("nope").returncode == 127

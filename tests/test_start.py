"""Start time, as the set of modules a command imports: the same on every machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLACE = Path(sys.executable).parent
# What an interpreter with a virtual environment has before any of ours.
BARE = subprocess.run(
    [sys.executable, "-I", "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True
).stderr
ALLOWED = {
    "_ctypes", "_json", "_sha2", "_sha256", "_signal", "_socket", "_struct", "ctypes", "ctypes._endian", "errno",
    "fcntl", "select", "struct", "time", "types",
}  # fmt: skip


def names(report):
    return {line.rpartition("|")[2].strip() for line in report.splitlines() if line.startswith("import time:")}


def imported(program, *words):
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", PLACE / program, *words],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    ours = {name for name in names(done.stderr) if name.partition(".")[0] in ("veloci", "__future__")}
    return done, names(done.stderr) - names(BARE) - ours


def test_the_version_is_told_by_next_to_nothing():
    done, found = imported("veloci", "--version")
    assert done.stdout.startswith("veloci version ")
    assert found <= {"_json"}


@pytest.mark.needs("root", "overlay", "busybox")
def test_a_container_starts_with_few_modules(roots):
    tree = roots / "tree/bin"
    tree.mkdir(parents=True)
    (tree / "true").write_bytes(Path("/bin/busybox").read_bytes())
    (tree / "true").chmod(0o755)
    archive = roots / "small.tar"
    subprocess.run(["tar", "-C", roots / "tree", "-cf", archive, "."], check=True)
    subprocess.run([PLACE / "veloci", "import", archive, "small"], check=True, capture_output=True)
    command = ("run", "--rm", "--network", "none", "small", "/bin/true")
    subprocess.run([PLACE / "veloci", *command], check=True)  # the layer is unpacked the first time
    done, found = imported("veloci", *command)
    assert done.returncode == 0, done.stderr
    assert found <= ALLOWED


@pytest.mark.needs("root", "busybox")
def test_the_runtime_starts_with_few_modules(tmp_path):
    programs = tmp_path / "rootfs/bin"
    programs.mkdir(parents=True)
    (programs / "true").write_bytes(Path("/bin/busybox").read_bytes())
    (programs / "true").chmod(0o755)
    subprocess.run([PLACE / "veloci-runtime", "spec"], cwd=tmp_path, check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    del config["process"]["rlimits"]  # this host may not allow them
    (tmp_path / "config.json").write_text(json.dumps(config))
    name = f"start-{os.getpid()}"
    done, found = imported("veloci-runtime", "--root", str(tmp_path / "r"), "run", "--bundle", str(tmp_path), name)
    assert done.returncode == 0, done.stderr
    assert found <= ALLOWED
    done, found = imported("veloci-runtime", "--root", str(tmp_path / "r"), "state", name)
    assert done.returncode == 1
    assert found <= ALLOWED

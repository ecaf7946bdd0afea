"""CRI-O's way to containers, without CRI-O, which Debian has not: conmon and the runtime called with its words.

What runc gives is what ours gives.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import run

pytestmark = pytest.mark.needs("root", "namespaces", "busybox", "conmon", "runc")
OWN = str(Path(sys.executable).parent / "veloci-runtime")
MISSING = 'exec: "nosuch": executable file not found in $PATH'
SCRIPT = "trap 'echo told; exit 6' TERM; echo out; echo err >&2; while :; do sleep 0.05; done"


class Crio:
    """One container of one runtime, with the files that CRI-O gives conmon."""

    def __init__(self, path, runtime):
        self.path, self.runtime, self.id = path, runtime, f"crio-{os.getpid()}"
        self.words = [runtime, "--root", str(path / "state")]
        for name in ("rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys", "exits", "persist", "sockets"):
            (path / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), path / "rootfs/bin/busybox")
        for name in ("sh", "sleep", "cat", "echo", "ps", "tty"):
            (path / "rootfs/bin" / name).symlink_to("busybox")
        run("runc", "spec", cwd=path)
        config = json.loads((path / "config.json").read_text())
        capabilities = {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")}
        config["process"] |= {
            "terminal": False,
            "args": ["sh", "-c", SCRIPT],
            "rlimits": [],
            "capabilities": capabilities,
        }
        config["linux"]["cgroupsPath"] = f"/{self.id}"
        (path / "config.json").write_text(json.dumps(config))
        self.process = config["process"]

    def create(self, *more):
        """As CRI-O's newContainer does: conmon waits on one pipe, and tells the process's ID on another."""
        words = ["conmon", "-b", self.path, "-c", self.id, "--exit-dir", self.path / "exits", "-l", self.path / "log"]
        words += ["--log-level", "info", "-n", "k8s_box", "-P", self.path / "conmon.pid", "-p", self.path / "pidfile"]
        words += [
            "--persist-dir",
            self.path / "persist",
            "-r",
            self.runtime,
            "--runtime-arg",
            f"--root={self.path}/state",
        ]
        words += ["--socket-dir-path", self.path / "sockets", "-u", self.id, *more]
        sync, told = os.pipe()
        wait, begin = os.pipe()
        environment = os.environ | {"_OCI_SYNCPIPE": str(told), "_OCI_STARTPIPE": str(wait)}
        with (self.path / "conmon.log").open("wb") as log:
            done = subprocess.Popen(words, env=environment, pass_fds=(told, wait), stdout=log, stderr=log)
        for end in (told, wait):
            os.close(end)
        os.write(begin, b"\0")
        os.close(begin)
        with os.fdopen(sync) as answer:
            text = answer.readline()
        done.wait(20)
        return json.loads(text)

    def call(self, *words, **options):
        """The runtime, with CRI-O's options before a command."""
        return run(*self.words, *words, check=False, **options)

    def state(self):
        return json.loads(self.call("state", self.id).stdout)

    def exited(self):
        """The status that conmon wrote down."""
        for _ in range(200):
            if (found := self.path / "exits" / self.id).exists() and found.read_text():
                return found.read_text()
            time.sleep(0.05)
        raise AssertionError((self.path / "conmon.log").read_text())

    def says(self, stream, text):
        for _ in range(200):
            if f" {stream} F {text}\n" in (self.path / "log").read_text():
                return
            time.sleep(0.05)
        raise AssertionError((self.path / "log").read_text())


@pytest.fixture(params=["/usr/sbin/runc", OWN], ids=["runc", "veloci"])
def crio(request, tmp_path):
    found = Crio(tmp_path, request.param)
    yield found
    found.call("delete", "--force", found.id)
    pid = Path(
        "/proc", "0" if not (tmp_path / "conmon.pid").exists() else (tmp_path / "conmon.pid").read_text(), "cmdline"
    )
    for _ in range(100):  # a zombie's is empty
        if not pid.exists() or not pid.read_bytes():
            break
        time.sleep(0.1)


def test_a_container_through_its_life(crio):
    told = crio.create()
    assert told["pid"] == int((crio.path / "pidfile").read_text())
    assert crio.state()["status"] == "created"
    assert crio.call("start", crio.id).returncode == 0
    crio.says("stdout", "out")
    crio.says("stderr", "err")
    assert (crio.state()["status"], crio.state()["pid"]) == ("running", told["pid"])

    resources = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 50000, "period": 100000}}
    assert crio.call("update", "--resources", "-", crio.id, input=json.dumps(resources)).returncode == 0
    v1, v2 = (
        Path(place)
        for place in (f"/sys/fs/cgroup/memory/{crio.id}/memory.limit_in_bytes", f"/sys/fs/cgroup/{crio.id}/memory.max")
    )
    assert (v1 if v1.exists() else v2).read_text() == f"{64 << 20}\n"
    assert crio.call("pause", crio.id).returncode == 0
    assert crio.state()["status"] == "paused"
    assert crio.call("resume", crio.id).returncode == 0

    assert crio.call("kill", crio.id, "TERM").returncode == 0
    assert crio.exited() == "6"
    assert crio.state()["status"] == "stopped"
    assert crio.call("kill", crio.id, "KILL").returncode != 0
    assert crio.call("delete", "--force", crio.id).returncode == 0
    assert "does not exist" in crio.call("state", crio.id).stderr
    crio.says("stdout", "told")


def test_a_program_in_it_in_the_foreground_and_by_conmon(crio):
    crio.create()
    assert crio.call("start", crio.id).returncode == 0
    process = crio.process | {"args": ["sh", "-c", "echo in; echo wrong >&2; exit 3"]}
    (crio.path / "process").write_text(json.dumps(process))
    done = crio.call("exec", "--process", crio.path / "process", "--pid-file", crio.path / "exec.pid", crio.id)
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "wrong\n", 3)
    assert int((crio.path / "exec.pid").read_text()) > 0
    (crio.path / "process").write_text(json.dumps(process | {"args": ["nosuch"]}))
    done = crio.call("exec", "--process", crio.path / "process", crio.id)
    assert done.returncode == 255
    assert MISSING in done.stderr.replace("\\", "")

    (crio.path / "process").write_text(json.dumps(process | {"args": ["sh", "-c", "tty; exit 4"], "terminal": True}))
    sync, told = os.pipe()
    words = ["conmon", "-c", crio.id, "-n", "k8s_box", "-r", crio.runtime, "--runtime-arg", f"--root={crio.path}/state"]
    words += ["--socket-dir-path", crio.path / "sockets", "-u", f"{crio.id}-1", "-b", crio.path, "-e", "-t"]
    words += [
        "-p",
        crio.path / "second.pid",
        "-l",
        crio.path / "exec.log",
        "--exec-process-spec",
        crio.path / "process",
    ]
    with (crio.path / "conmon.log").open("wb") as log:
        done = subprocess.Popen(
            [*words, "--sync"], env=os.environ | {"_OCI_SYNCPIPE": str(told)}, pass_fds=(told,), stdout=log, stderr=log
        )
    os.close(told)
    with os.fdopen(sync) as answer:
        lines = [json.loads(line) for line in answer]
    done.wait(20)
    assert lines == [{"exit_code": 4}]
    assert int((crio.path / "second.pid").read_text()) > 0
    assert " stdout F /dev/pts/0\r\n" in (crio.path / "exec.log").read_bytes().decode()


def test_all_that_is_in_it_is_killed(crio):
    crio.create()
    assert crio.call("start", crio.id).returncode == 0
    assert crio.call("kill", "-a", crio.id, "KILL").returncode == 0
    assert crio.exited() == "137"


def test_what_it_can_do_is_asked_for(crio):
    done = run(crio.runtime, "features", check=False)
    if "runc" in crio.runtime and done.returncode:
        pytest.skip("this runc does not know the command")
    found = json.loads(done.stdout)
    assert found["ociVersionMin"] <= "1.0.2" <= found["ociVersionMax"]
    assert {"bind", "ro", "rro"} <= set(found["mountOptions"])


def test_a_container_that_cannot_be_is_told_of(crio):
    config = json.loads((crio.path / "config.json").read_text())
    config["process"]["args"] = ["nosuch"]
    (crio.path / "config.json").write_text(json.dumps(config))
    told = crio.create("--log-level", "error")
    assert told["pid"] < 0
    assert MISSING in told["message"].replace("\\", "")

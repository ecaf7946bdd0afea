"""docker and containerd start their containers with veloci-runtime, through the runc.v2 shim."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from peers import Built, Dockerd, busybox, run, tar

pytestmark = pytest.mark.needs("root", "overlay", "busybox", "containerd", "ctr", "docker", "dockerd")
OWN = str(Path(sys.executable).parent / "veloci-runtime")
TOOLS = "cat echo grep hostname ls sh sleep true".split()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An image that runs, as docker's archive: the shell's other names are copies, as a tar of the tests has no links."""
    here = tmp_path_factory.mktemp("image")
    shell = Path("/bin/busybox").read_bytes()
    Built(here / "layout", [*busybox(), tar({f"bin/{name}": shell for name in TOOLS})])
    environment = os.environ | {"VELOCI_ROOT": str(here / "data"), "VELOCI_RUN": str(here / "run")}
    words = ["copy", "-q", f"oci:{here}/layout:v0", f"docker-archive:{here}/image.tar:docker.io/library/shell:v0"]
    run(sys.executable, "-m", "veloci", *words, env=environment)
    return here / "image.tar"


@pytest.fixture(scope="module")
def docker(tmp_path_factory, archive):
    with Dockerd(tmp_path_factory.mktemp("dockerd"), f"--add-runtime=veloci={OWN}") as command:
        run(*command, "load", "-i", archive)

        def docker(*words, **options):
            if words[0] == "run":
                words = ("run", "--network", "none", "--runtime", "veloci", *words[1:])
            return run(*command, *words, check=False, **options)

        yield docker


def test_docker_gets_output_and_exit_status(docker):
    done = docker("run", "--rm", "shell:v0", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_docker_gets_its_isolation(docker):
    words = ["--read-only", "--user", "1:2", "--hostname", "box", "--cap-drop", "ALL", "--memory", "64m", "shell:v0"]
    script = "hostname; grep -E '^(Uid|Gid|CapEff|Seccomp|NoNewPrivs):' /proc/self/status; echo x > /x"
    done = docker("run", "--rm", "--security-opt", "no-new-privileges", *words, "sh", "-c", script)
    assert done.stdout.splitlines() == [
        "box", "Uid:\t1\t1\t1\t1", "Gid:\t2\t2\t2\t2", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
    ]  # fmt: skip
    assert "Read-only file system" in done.stderr


def test_docker_hears_of_a_program_that_is_not_there(docker):
    done = docker("run", "--rm", "shell:v0", "nosuch")
    assert done.returncode == 127
    assert 'exec: "nosuch": executable file not found in $PATH' in done.stderr
    assert docker("run", "--rm", "shell:v0", "/bin").returncode == 126


def test_docker_drives_a_container_through_its_life(docker):
    assert docker("run", "-d", "--name", "life", "shell:v0", "sh", "-c", "echo up; sleep 100").returncode == 0
    try:
        assert docker("exec", "life", "sh", "-c", "echo in; exit 3").stdout == "in\n"
        assert docker("exec", "life", "sh", "-c", "exit 3").returncode == 3
        assert docker("pause", "life").returncode == 0
        assert docker("inspect", "--format", "{{.State.Status}}", "life").stdout == "paused\n"
        assert docker("unpause", "life").returncode == 0
        assert docker("update", "--memory", "64m", "--memory-swap", "-1", "life").returncode == 0
        assert "sleep 100" in docker("top", "life").stdout
        assert docker("logs", "life").stdout == "up\n"
        assert docker("restart", "-t", "0", "life").returncode == 0
        assert docker("kill", "life").returncode == 0
        assert docker("wait", "life").stdout == "137\n"
    finally:
        assert docker("rm", "-f", "life").returncode == 0


@pytest.fixture(scope="module")
def ctr(tmp_path_factory, archive):
    """ctr of a containerd with its own roots; its socket's name may not be long."""
    root, short = tmp_path_factory.mktemp("containerd"), Path(tempfile.mkdtemp(prefix="vctr"))
    (root / "config.toml").write_text(
        f'version = 2\nroot = "{root}/data"\nstate = "{short}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{short}/sock"\n[ttrpc]\naddress = "{short}/ttrpc"\n'
    )
    with (root / "log").open("wb") as log:
        daemon = subprocess.Popen(["containerd", "--config", root / "config.toml"], stdout=log, stderr=log)
    base = ["ctr", "--address", f"{short}/sock"]
    try:
        for _ in range(100):
            if run(*base, "version", check=False).returncode == 0:
                break
            time.sleep(0.1)
        run(*base, "image", "import", archive)

        def ctr(*words, check=False, **options):
            if words[0] == "run":
                own = ("--runc-binary", OWN, "--runc-root", f"{short}/runtime", "--cgroup", f"/vctr-{os.getpid()}")
                words = ("run", "--runtime", "io.containerd.runc.v2", *own, *words[1:])
            return run(*base, *words, check=check, **options)

        yield ctr
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)
        shutil.rmtree(short)


IMAGE = "docker.io/library/shell:v0"


def test_containerd_gets_output_and_exit_status(ctr):
    done = ctr("run", "--rm", IMAGE, "one", "sh", "-c", "echo out; exit 7")
    assert (done.stdout, done.returncode) == ("out\n", 7), done.stderr


def test_containerd_hears_of_a_program_that_is_not_there(ctr):
    done = ctr("run", "--rm", IMAGE, "none", "nosuch")
    assert done.returncode == 1
    assert 'exec: "nosuch": executable file not found in $PATH' in done.stderr


def test_containerd_drives_a_task_through_its_life(ctr):
    assert ctr("run", "-d", "--null-io", IMAGE, "life", "sleep", "100").returncode == 0
    try:
        assert ctr("task", "exec", "--exec-id", "e", "life", "sh", "-c", "echo in; exit 3").stdout == "in\n"
        assert ctr("task", "pause", "life").returncode == 0
        assert "PAUSED" in ctr("task", "ls").stdout
        assert ctr("task", "resume", "life").returncode == 0
        assert len(ctr("task", "ps", "life").stdout.splitlines()) == 2
        assert ctr("task", "kill", "-s", "KILL", "life").returncode == 0
        for _ in range(100):
            if "STOPPED" in ctr("task", "ls").stdout:
                break
            time.sleep(0.05)
        assert "non-zero exit code 137" in ctr("task", "rm", "life").stderr
    finally:
        ctr("task", "kill", "-s", "KILL", "life")
        ctr("task", "rm", "-f", "life")
        assert ctr("container", "rm", "life").returncode == 0

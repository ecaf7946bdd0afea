"""podman's options and commands on veloci-runtime: what each is for, seen in the container or told by podman."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "podman", "busybox", "tar")
OWN = str(Path(sys.executable).parent / "veloci-runtime")
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "none"]


class Podman:
    """podman with storage of its own, and an image of busybox."""

    def __init__(self, directory, short):
        rootfs = directory / "rootfs"
        (rootfs / "bin").mkdir(parents=True)
        (rootfs / "etc").mkdir()
        (rootfs / "var").mkdir()
        shutil.copy("/bin/busybox", rootfs / "bin")
        for name in "sh id grep sleep ls cat stat touch mount readlink stty hostname".split():
            (rootfs / "bin" / name).symlink_to("busybox")
        (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home:/bin/sh\n")
        (rootfs / "etc/group").write_text("root:x:0:\nbob:x:1000:\n")
        (rootfs / "var/run").symlink_to("/run")  # which the image has not
        self.base = ["podman", "--cgroup-manager", "cgroupfs", "--root", str(directory / "data"), "--runroot", short]
        self.base += ["--runtime", OWN]
        subprocess.run(["tar", "-C", str(rootfs), "-cf", str(directory / "small.tar"), "."], check=True)
        self("import", str(directory / "small.tar"), "small")

    def __call__(self, *words, **options):
        return subprocess.run([*self.base, *words], capture_output=True, text=True, timeout=60, check=False, **options)

    def run(self, *words, **options):
        return self("run", "--rm", *LIMITS, *words, **options)


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    directory = tmp_path_factory.mktemp("podman")
    short = tempfile.mkdtemp(prefix="v")  # podman takes no run root longer than 50 characters
    made = Podman(directory, short)
    yield made
    made("rm", "-af", "-t", "0")
    for place in ("data/overlay", "data"):
        subprocess.run(["umount", str(directory / place)], capture_output=True, check=False)
    shutil.rmtree(short, ignore_errors=True)


CGROUP = "/sys/fs/cgroup"
CASES = {
    "user": (["--user", "bob", "small", "id"], "uid=1000(bob) gid=1000(bob) groups=1000(bob)\n"),
    "groups": (["--user", "1000:50", "--group-add", "7", "small", "id", "-G"], "50 7\n"),
    "limits": (["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "small", "cat", f"{CGROUP}/memory/memory.limit_in_bytes", f"{CGROUP}/pids/pids.max", f"{CGROUP}/cpu/cpu.cfs_quota_us"], "67108864\n50\n50000\n"),
    "tmpfs": (["--tmpfs", "/t:size=1m,mode=1777", "small", "sh", "-c", "stat -c %a /t; touch /t/x && grep -c ' /t tmpfs .*size=1024k' /proc/mounts"], "1777\n1\n"),
    "tmpcopyup": (["--mount", "type=tmpfs,destination=/etc,tmpcopyup", "small", "grep", "-c", "bob", "/etc/passwd"], "1\n"),
    "read-only bind": (["-v", "/usr/share:/us:ro", "small", "sh", "-c", "touch /us/x 2>/dev/null || echo refused"], "refused\n"),
    "bind through a link to nowhere": (["-v", "/usr/share:/var/run/secrets:ro", "small", "sh", "-c", "readlink /var/run; ls -d /run/secrets"], "/run\n/run/secrets\n"),
    "read-only root": (["--read-only", "small", "sh", "-c", "touch /x 2>/dev/null; touch /tmp/y && echo fine"], "fine\n"),
    "terminal": (["-t", "small", "readlink", "/proc/self/fd/0"], "/dev/pts/0\n"),
    "privileged": (["--privileged", "small", "sh", "-c", "mount -t tmpfs tmpfs /etc && echo mounted"], "mounted\n"),
    "capabilities": (["--cap-drop", "all", "--cap-add", "net_raw", "small", "grep", "CapEff", "/proc/self/status"], "CapEff:\t0000000000002000\n"),
    "device": (["--device", "/dev/zero:/dev/mine:r", "small", "stat", "-c", "%t:%T", "/dev/mine"], "1:5\n"),
    "sysctl": (["--sysctl", "net.ipv4.ip_forward=1", "small", "cat", "/proc/sys/net/ipv4/ip_forward"], "1\n"),
    "hostname": (["--hostname", "box", "small", "hostname"], "box\n"),
    "users mapped": (["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000", "small", "grep", "-c", "100000", "/proc/self/uid_map"], "1\n"),
    "cgroup namespace": (["--cgroupns", "private", "small", "grep", "pids", "/proc/self/cgroup"], None),
    "no seccomp": (["--security-opt", "seccomp=unconfined", "small", "grep", "Seccomp:", "/proc/self/status"], "Seccomp:\t0\n"),
    "no new privileges": (["--security-opt", "no-new-privileges", "small", "grep", "NoNewPrivs", "/proc/self/status"], "NoNewPrivs:\t1\n"),
    "mask": (["--security-opt", "mask=/etc/passwd", "small", "cat", "/etc/passwd"], ""),
    "oom score": (["--oom-score-adj", "100", "small", "cat", "/proc/self/oom_score_adj"], "100\n"),
    "host namespaces": (["--ipc", "host", "--uts", "host", "--pid", "host", "small", "ls", "-d", "/proc/1"], "/proc/1\n"),
    "volume": (["-v", "named:/data", "small", "sh", "-c", "touch /data/x && ls /data"], "x\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_option_of_run(podman, name):
    words, wanted = CASES[name]
    done = podman.run(*words)
    assert done.returncode == 0, done.stderr
    if wanted is not None:
        assert done.stdout == wanted


def test_what_is_typed_is_read_and_statuses_are_told(podman):
    assert podman.run("-i", "small", "cat", input="typed").stdout == "typed"
    assert podman.run("small", "sh", "-c", "exit 9").returncode == 9
    assert podman.run("small", "/etc/passwd").returncode == 126
    assert podman.run("--timeout", "1", "small", "sleep", "20").returncode == 255


def test_the_life_of_a_container(podman):
    assert (
        podman("run", "-d", "--name", "life", *LIMITS, "--health-cmd", "true", "small", "sleep", "300").returncode == 0
    )
    assert podman("exec", "life", "id", "-u").stdout == "0\n"
    assert podman("exec", "-t", "life", "readlink", "/proc/self/fd/0").stdout == "/dev/pts/0\n"
    done = podman("exec", "-u", "bob", "-w", "/bin", "-e", "A=b", "life", "sh", "-c", "id -u; echo $A; pwd")
    assert done.stdout == "1000\nb\n/bin\n"
    assert podman("exec", "life", "nope").returncode == 127
    assert podman("exec", "-d", "life", "sleep", "200").returncode == 0
    assert podman("top", "life", "args").stdout.count("sleep") == 2
    assert podman("stats", "--no-stream", "--format", "{{.PIDs}}", "life").stdout == "2\n"
    assert podman("pause", "life").returncode == 0
    assert podman("inspect", "--format", "{{.State.Status}}", "life").stdout == "paused\n"
    assert podman("unpause", "life").returncode == 0
    assert podman("healthcheck", "run", "life").returncode == 0
    assert podman("update", "--memory", "32m", "life").returncode == 0
    assert podman("exec", "life", "cat", f"{CGROUP}/memory/memory.limit_in_bytes").stdout == "33554432\n"
    assert podman("restart", "-t", "0", "life").returncode == 0
    assert podman("kill", "-s", "KILL", "life").returncode == 0
    assert podman("wait", "life").stdout == "137\n"
    assert podman("rm", "life").returncode == 0


def test_a_second_container_joins_the_namespaces_of_the_first(podman):
    assert podman("run", "-d", "--name", "first", *LIMITS, "small", "sleep", "300").returncode == 0
    kinds = ("ipc", "net", "pid", "uts")
    look = [f"/proc/self/ns/{kind}" for kind in kinds]
    theirs = [podman("exec", "first", "readlink", file).stdout for file in look]
    joined = (
        "--ipc",
        "container:first",
        "--pid",
        "container:first",
        "--uts",
        "container:first",
        "--network",
        "container:first",
    )
    shown = "for f in $0 $@; do readlink $f; done"
    done = podman("run", "--rm", *LIMITS[:4], *joined, "small", "sh", "-c", shown, *look)
    assert done.stdout == "".join(theirs), done.stderr
    assert podman("rm", "-f", "-t", "0", "first").returncode == 0

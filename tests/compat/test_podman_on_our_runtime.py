"""podman's options and commands on veloci-runtime: what each is for, seen in the container or told by podman."""

import os
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
        (directory / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n'
            '[engine]\ninfra_image = "localhost/small"\n'
        )
        self.environment = os.environ | {"CONTAINERS_CONF": str(directory / "containers.conf")}
        subprocess.run(["tar", "-C", str(rootfs), "-cf", str(directory / "small.tar"), "."], check=True)
        self("import", "-c", 'CMD ["sleep", "300"]', str(directory / "small.tar"), "small")

    def __call__(self, *words, **options):
        done = subprocess.run(
            [*self.base, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment,
            **options,
        )
        print(words, done)  # shown if the test fails
        return done

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
NEW = Path(CGROUP, "cgroup.controllers").exists()
MEMORY = f"{CGROUP}/{'memory.max' if NEW else 'memory/memory.limit_in_bytes'}"
PIDS = f"{CGROUP}/{'pids.max' if NEW else 'pids/pids.max'}"
CPU = f"{CGROUP}/{'cpu.max' if NEW else 'cpu/cpu.cfs_quota_us'}"
CASES = {
    "user": (["--user", "bob", "small", "id"], "uid=1000(bob) gid=1000(bob) groups=1000(bob)\n"),
    "groups": (["--user", "1000:50", "--group-add", "7", "small", "id", "-G"], "50 7\n"),
    "limits": (["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "small", "cat", MEMORY, PIDS, CPU], f"67108864\n50\n50000{' 100000' if NEW else ''}\n"),
    "tmpfs": (["--tmpfs", "/t:size=1m,mode=1777", "small", "sh", "-c", "stat -c %a /t; touch /t/x && grep -c ' /t tmpfs .*size=1024k' /proc/mounts"], "1777\n1\n"),
    "tmpcopyup": (["--mount", "type=tmpfs,destination=/etc,tmpcopyup", "small", "grep", "-c", "bob", "/etc/passwd"], "1\n"),
    "binds and a volume": (["-v", "/usr/share:/us:ro", "-v", "/usr/share:/var/run/secrets:ro", "-v", "named:/data", "small", "sh", "-c", "touch /us/x 2>/dev/null || echo refused; readlink /var/run; ls -d /run/secrets; touch /data/x && ls /data"], "refused\n/run\n/run/secrets\nx\n"),
    "capabilities, sysctl, host name, privileges, mask, score": (["--cap-drop", "all", "--cap-add", "net_raw", "--sysctl", "net.ipv4.ip_forward=1", "--hostname", "box", "--security-opt", "no-new-privileges", "--security-opt", "mask=/etc/passwd", "--oom-score-adj", "100", "small", "sh", "-c", "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; cat /proc/sys/net/ipv4/ip_forward; hostname; cat /etc/passwd /proc/self/oom_score_adj"], "CapEff:\t0000000000002000\nNoNewPrivs:\t1\n1\nbox\n100\n"),
    "read-only root": (["--read-only", "small", "sh", "-c", "touch /x 2>/dev/null; touch /tmp/y && echo fine"], "fine\n"),
    "terminal": (["-t", "small", "readlink", "/proc/self/fd/0"], "/dev/pts/0\n"),
    "privileged": (["--privileged", "small", "sh", "-c", "mount -t tmpfs tmpfs /etc && echo mounted"], "mounted\n"),
    "device": (["--device", "/dev/zero:/dev/mine:r", "small", "stat", "-c", "%t:%T", "/dev/mine"], "1:5\n"),
    "users mapped": (["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000", "small", "grep", "-c", "100000", "/proc/self/uid_map"], "1\n"),
    "cgroup namespace": (["--cgroupns", "private", "small", "grep", "pids", "/proc/self/cgroup"], None),
    "no seccomp": (["--security-opt", "seccomp=unconfined", "small", "grep", "Seccomp:", "/proc/self/status"], "Seccomp:\t0\n"),
    "host namespaces": (["--ipc", "host", "--uts", "host", "--pid", "host", "small", "ls", "-d", "/proc/1"], "/proc/1\n"),
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
    assert podman("exec", "life", "cat", MEMORY).stdout == "33554432\n"
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


def test_files_go_in_and_out_and_a_container_is_kept_and_stopped(podman, tmp_path):
    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    assert podman("run", "-d", "--name", "cared", *LIMITS, "small", "sh", "-c", script).returncode == 0
    (tmp_path / "sent").write_text("sent")
    assert podman("cp", str(tmp_path / "sent"), "cared:/etc/").returncode == 0
    assert podman("exec", "cared", "cat", "/etc/sent").stdout == "sent"
    assert podman("cp", "cared:/etc/group", str(tmp_path)).returncode == 0
    assert (tmp_path / "group").read_text() == "root:x:0:\nbob:x:1000:\n"
    assert podman("commit", "-q", "cared", "kept").returncode == 0
    assert podman.run("kept", "cat", "/etc/sent").stdout == "sent"
    assert podman("logs", "cared").stdout == "up\n"
    assert podman("stop", "-t", "30", "cared").returncode == 0
    assert podman("wait", "cared").stdout == "5\n"
    assert podman("start", "cared").returncode == 0
    assert podman("rm", "-f", "-t", "0", "cared").returncode == 0


def test_a_pod_shares_its_namespaces_and_stops_and_starts(podman):
    assert podman("pod", "create", "--name", "pod", "--network", "none").returncode == 0
    assert podman("run", "-d", "--pod", "pod", "--name", "member", "small").returncode == 0
    shown = "for kind in ipc uts net; do readlink /proc/self/ns/$kind; done; hostname"
    first = podman("exec", "member", "sh", "-c", shown).stdout
    assert first.splitlines()[-1] == "pod"
    assert podman("run", "--rm", "--pod", "pod", "small", "sh", "-c", shown).stdout == first
    assert podman("pod", "pause", "pod").returncode == 0
    assert podman("pod", "unpause", "pod").returncode == 0
    assert podman("pod", "stop", "-t", "0", "pod").returncode == 0
    assert podman("pod", "start", "pod").returncode == 0
    assert podman("pod", "ps", "--format", "{{.Status}} {{.NumberOfContainers}}").stdout == "Running 2\n"
    assert podman("pod", "rm", "-f", "-t", "0", "pod").returncode == 0


KUBE = """apiVersion: v1
kind: Pod
metadata: {name: kube}
spec:
  hostNetwork: true
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: one
    image: localhost/small:latest
    command: [sh, -c, "echo from one > /shared/text; sleep 300"]
    resources: {limits: {memory: 64Mi}}
    securityContext: {runAsUser: 0, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: two
    image: localhost/small:latest
    env: [{name: A, value: b}]
    volumeMounts: [{name: shared, mountPath: /shared}]
"""


def test_a_pod_of_kubernetes_is_played(podman, tmp_path):
    (tmp_path / "pod.yaml").write_text(KUBE)
    assert podman("play", "kube", str(tmp_path / "pod.yaml")).returncode == 0
    shown = "cat $0; grep CapEff /proc/self/status; touch /x 2>/dev/null || echo refused"
    done = podman("exec", "kube-one", "sh", "-c", shown, MEMORY)
    assert done.stdout == "67108864\nCapEff:\t0000000000000000\nrefused\n"
    assert podman("exec", "kube-two", "sh", "-c", "cat /shared/text; echo $A").stdout == "from one\nb\n"
    assert podman("play", "kube", "--down", str(tmp_path / "pod.yaml")).returncode == 0


@pytest.mark.needs("buildah")
@pytest.mark.parametrize("builder", ["podman", "buildah"])
def test_a_builders_steps_run_on_it(podman, tmp_path, builder):
    (tmp_path / "Containerfile").write_text(
        "FROM small\nRUN grep Seccomp: /proc/self/status\nUSER bob\nRUN id -u; exit 4\n"
    )
    base = podman.base
    if builder == "buildah":
        base = ["buildah", *base[3:7]]
    words = [*base, "build", *(("--runtime", OWN) if builder == "buildah" else ()), *LIMITS, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=podman.environment)
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert "\nSeccomp:\t2\n" in said
    assert "\n1000\n" in said


@pytest.mark.needs("buildah")
def test_buildah_runs_commands_in_a_working_container(podman):
    base = ["buildah", *podman.base[3:7]]

    def buildah(*words):
        return subprocess.run([*base, *words], capture_output=True, text=True, timeout=60, check=False)

    name = buildah("from", *LIMITS[:4], "small").stdout.strip()
    run = "run", "--runtime", OWN, "--network", "none"
    done = buildah(*run, name, "sh", "-c", "echo made > /made; exit 3")
    assert done.returncode == 3, done.stderr
    assert buildah(*run, "-t", name, "sh", "-c", "cat /made; readlink /proc/self/fd/0").stdout == "made\n/dev/pts/0\n"
    assert buildah("rm", name).returncode == 0


@pytest.mark.needs("checkpoints")
def test_a_container_is_checkpointed_and_goes_on_here_or_as_another(podman, tmp_path):
    counting = "i=0; while :; do i=$((i+1)); echo line $i; echo $i > /tmp/count; sleep 0.05; done"
    podman("run", "-d", "--name", "counter", *LIMITS, "--tmpfs", "/tmp", "small", "sh", "-c", counting)
    before = _count(podman, "counter", 5)
    done = podman("container", "checkpoint", "counter")
    assert done.returncode == 0, done.stderr
    assert "Exited (0)" in podman("ps", "-a", "--filter", "name=counter", "--format", "{{.Status}}").stdout
    assert podman("container", "restore", "counter").returncode == 0
    before = _count(podman, "counter", before + 3)
    assert "line 1\n" in podman("logs", "counter").stdout
    assert podman("container", "checkpoint", "--export", str(tmp_path / "box.tar.gz"), "counter").returncode == 0
    podman("rm", "-f", "-t", "0", "counter")
    done = podman("container", "restore", "--import", str(tmp_path / "box.tar.gz"), "--name", "another")
    assert done.returncode == 0, done.stderr
    assert _count(podman, "another", before + 1) < before + 200
    podman("rm", "-f", "-t", "0", "another")


def _count(podman, name, least):
    for _ in range(100):
        count = int(podman("exec", name, "cat", "/tmp/count").stdout or 0)
        if count >= least:
            return count
    raise AssertionError(count)

"""docker and containerd start their containers with veloci-runtime, through the runc.v2 shim."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import Built, Containerd, Dockerd, busybox, run, tar

from veloci.spec.runtime import Config

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
    """docker of a daemon whose containers and builds all have our runtime: `docker.calls` is what buildkit asked it."""
    here = tmp_path_factory.mktemp("dockerd")
    calls = here / "calls"
    (here / "runc").write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexec {OWN} "$@"\n')
    (here / "runc").chmod(0o755)
    (here / "kept").write_text(f'#!/bin/sh\n[ -f config.json ] && cp config.json {here}/config.json\nexec {OWN} "$@"\n')
    (here / "kept").chmod(0o755)
    runtimes = f"--add-runtime=veloci={OWN}", f"--add-runtime=kept={here}/kept", "--default-runtime=veloci"
    options = *runtimes, "--experimental"  # for checkpoints
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{here}:{os.environ['PATH']}")  # buildkit takes the runc that it finds
        with Dockerd(here / "roots", *options) as command:
            run(*command, "load", "-i", archive)

            def docker(*words, **options):
                if words[0] == "run":
                    words = ("run", "--network", "none", *words[1:])
                return run(*command, *words, check=False, **options)

            docker.calls, docker.address, docker.config = calls, command[1:], here / "config.json"
            yield docker


def test_docker_gets_output_and_exit_status(docker):
    done = docker("run", "--rm", "shell:v0", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


RICH = (
    "-m 64m --memory-reservation 32m --memory-swap 128m --memory-swappiness 10 --cpus 0.5 --cpu-shares 100"
    " --cpuset-cpus 0 --pids-limit 50 --ulimit nofile=100:200 --oom-score-adj 300 --shm-size 1m --blkio-weight 100"
    " --user 3:4 --group-add 7 --hostname box --domainname there --workdir /made --read-only --tmpfs /t:size=1m,noexec"
    " --device /dev/fuse:/dev/mine:r --sysctl net.core.somaxconn=77 --sysctl kernel.msgmax=9999 --env A=b --init"
    " --cap-drop ALL --cap-add NET_ADMIN --security-opt no-new-privileges"
).split()
LOOK = """
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask|Cpus_allowed_list|SigIgn|SigBlk)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/sys/kernel/domainname /proc/sys/kernel/hostname
cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax
cd /sys/fs/cgroup && cat memory/memory.*limit_in_bytes memory/memory.swappiness cpu/cpu.shares cpu/cpu.cfs_* cpuset/cpuset.cpus
cat pids/pids.max blkio/blkio.bfq.weight
while read _ _ _ root place rest; do case $place in /proc/*|/sys*) ;; *) echo $place $rest;; esac; done </proc/self/mountinfo
"""


def given(document, known, at="$"):
    """The places of a document that `known` has not, or otherwise, but for what is its default."""
    if isinstance(document, dict):
        for key, value in document.items():
            if value not in (None, [], {}, 0, False, "") or key in known:
                yield from given(value, known[key], f"{at}.{key}") if key in known else [f"{at}.{key}"]
    elif isinstance(document, list) and len(document) == len(known):
        for index, (value, other) in enumerate(zip(document, known, strict=True)):
            yield from given(value, other, f"{at}[{index}]")
    elif document != known:
        yield at


def test_no_field_of_dockers_is_passed_over(docker):
    done = docker("run", "--rm", "--runtime", "kept", *RICH, "shell:v0", "true")
    assert done.returncode == 0, done.stderr
    raw = docker.config.read_bytes()
    assert list(given(json.loads(raw), Config.decode(raw, name="config.json").plain())) == []


@pytest.mark.needs("runc")
def test_docker_shows_in_our_container_what_it_shows_in_runcs(docker):
    seen = []
    for runtime in ("veloci", "runc"):
        done = docker("run", "--rm", "--runtime", runtime, *RICH, "shell:v0", "sh", "-c", LOOK)
        assert done.stdout, done.stderr
        text = re.sub(r"[0-9a-f]{64}|(master|shared):\d+|(lower|upper|work)dir=[^, ]*", "", done.stdout)
        seen.append(text.splitlines())
    assert seen[0] == seen[1]


def test_docker_gets_its_isolation(docker):
    words = ["--read-only", "--user", "1:2", "--hostname", "box", "--cap-drop", "ALL", "--memory", "64m", "shell:v0"]
    script = "hostname; grep -E '^(Uid|Gid|CapEff|Seccomp|NoNewPrivs):' /proc/self/status; echo x > /x"
    done = docker("run", "--rm", "--security-opt", "no-new-privileges", *words, "sh", "-c", script)
    assert done.stdout.splitlines() == [
        "box", "Uid:\t1\t1\t1\t1", "Gid:\t2\t2\t2\t2", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
    ]  # fmt: skip
    assert "Read-only file system" in done.stderr


@pytest.mark.needs("checkpoints")
def test_docker_starts_a_container_from_a_checkpoint(docker):
    counting = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done"
    docker("run", "-d", "--name", "counter", "--tmpfs", "/tmp", "shell:v0", "sh", "-c", counting)

    def count(least):
        for _ in range(100):
            found = int(docker("exec", "counter", "cat", "/tmp/count").stdout or 0)
            if found >= least:
                return found
        raise AssertionError(found)

    before = count(5)
    assert docker("checkpoint", "create", "counter", "one").stderr == ""
    assert docker("ps", "-q").stdout == ""
    assert docker("start", "--checkpoint", "one", "counter").stderr == ""
    assert count(before + 1) < before + 200
    docker("rm", "-f", "counter")


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


GROUP = "/sys/fs/cgroup"
if Path(GROUP, "cgroup.controllers").exists():
    LIMITS = [f"{GROUP}/{name}" for name in ("memory.max", "pids.max", "cpu.max", "cpuset.cpus")]
else:
    names = "memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.cfs_quota_us", "cpuset/cpuset.cpus"
    LIMITS = [f"{GROUP}/{name}" for name in names]

OPTIONS = {  # options, command, what it says
    "limits": ("--memory 64m --pids-limit 50 --cpus 0.5 --cpuset-cpus 0", ["cat", *LIMITS], "67108864\n50\n50000{}\n0\n"),
    "ulimits, score, shm": (
        "--ulimit nofile=100:200 --ulimit core=0 --oom-score-adj 300 --shm-size 1m",
        ["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; grep -c ' /dev/shm .*size=1024k' /proc/mounts"],
        "100\n200\n0\n300\n1\n",
    ),
    "device, tmpfs, groups": (
        "--device /dev/kmsg:/dev/mine:r --tmpfs /t:size=1m,mode=1770 --group-add 55 -w /new",
        ["sh", "-c", "busybox stat -c %t:%T /dev/mine; busybox stat -c %a /t; busybox id -G; busybox pwd; (exec 3>/dev/mine) 2>/dev/null || echo refused"],
        "1:b\n1770\n0 55\n/new\nrefused\n",
    ),
    "capabilities, sysctl, no seccomp": (
        "--cap-drop ALL --cap-add net_raw --sysctl net.ipv4.ip_forward=1 --security-opt seccomp=unconfined",
        ["sh", "-c", "grep -E '^(CapEff|Seccomp):' /proc/self/status; cat /proc/sys/net/ipv4/ip_forward"],
        "CapEff:\t0000000000002000\nSeccomp:\t0\n1\n",
    ),
    "init and terminal": ("--init -t", ["sh", "-c", "busybox readlink /proc/self/fd/0; grep Name /proc/1/status"], "/dev/pts/0\nName:\tdocker-init\n"),
    "privileged, host's namespaces": (
        "--privileged --pid host --ipc host --uts host",
        ["sh", "-c", "busybox mount -t tmpfs t /etc && [ $$ != 1 ] && echo fine"],
        "fine\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_dockers_run(docker, name):
    options, command, wanted = OPTIONS[name]
    done = docker("run", "--rm", *options.split(), "shell:v0", *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == wanted.format("" if "memory.limit" in LIMITS[0] else " 100000")


def test_docker_checks_the_health_copies_commits_and_stops(docker, tmp_path):
    script = "trap 'exit 5' TERM; echo up; while :; do busybox sleep 0.05; done"
    health = ("--health-cmd", "test -e /etc/text", "--health-interval", "300ms")
    assert docker("run", "-d", "--name", "cared", *health, "shell:v0", "sh", "-c", script).returncode == 0
    try:
        for _ in range(20):  # a check of its health may be a third
            found = docker("stats", "--no-stream", "--format", "{{.PIDs}}", "cared").stdout
            if found == "2\n":
                break
        assert found == "2\n"
        (tmp_path / "sent").write_text("sent\n")
        assert docker("cp", str(tmp_path / "sent"), "cared:/etc/").returncode == 0
        done = docker("exec", "-t", "cared", "sh", "-c", "cat /etc/sent; busybox readlink /proc/self/fd/1; exit 3")
        assert (done.stdout, done.returncode) == ("sent\n/dev/pts/0\n", 3)
        assert docker("cp", "cared:/etc/text", str(tmp_path)).returncode == 0
        assert (tmp_path / "text").read_text() == "hello\n"
        for _ in range(100):
            health = docker("inspect", "--format", "{{.State.Health.Status}}", "cared").stdout
            if health != "starting\n":
                break
            time.sleep(0.1)
        assert health == "healthy\n"
        assert docker("commit", "cared", "kept").returncode == 0
        assert docker("run", "--rm", "kept", "cat", "/etc/sent").stdout == "sent\n"
        assert docker("stop", "-t", "30", "cared").returncode == 0
        assert docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "cared").stdout == "exited 5\n"
        assert docker("start", "cared").returncode == 0
        assert docker("logs", "--tail", "1", "cared").stdout == "up\n"
    finally:
        assert docker("rm", "-f", "cared").returncode == 0


@pytest.mark.parametrize("kit", ["0", "1"], ids=["classic", "buildkit"])
def test_docker_builds_with_it(docker, tmp_path, kit):
    steps = "RUN echo built > /made; grep Seccomp: /proc/self/status\nRUN sh -c 'exit 4'\n"
    (tmp_path / "Dockerfile").write_text(f"FROM shell:v0\n{steps}")
    environment = os.environ | {"DOCKER_BUILDKIT": kit}
    words = ["build", "--network", "none", str(tmp_path)]
    done = run("/usr/bin/docker", *docker.address, *words, env=environment, check=False)  # Debian's has buildkit in it
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "Seccomp:\t2" in said
    assert "returned a non-zero code: 4" in said or "exit code: 4" in said
    if kit == "1":
        assert docker.calls.read_text().count(" run --bundle ") == 2


@pytest.fixture(scope="module")
def ctr(tmp_path_factory, archive):
    """ctr of a containerd with its own roots."""
    with Containerd(
        tmp_path_factory.mktemp("containerd"),
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n',
    ) as base:
        run(*base, "image", "import", archive)
        own = (
            "--runc-binary",
            OWN,
            "--runc-root",
            f"{Path(base[-1]).parent}/runtime",
            "--cgroup",
            f"/vctr-{os.getpid()}",
        )

        def ctr(*words, check=False, **options):
            if words[0] == "run":
                words = ("run", "--runtime", "io.containerd.runc.v2", *own, *words[1:])
            return run(*base, *words, check=check, **options)

        ctr.base = base
        yield ctr


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
        words = ("task", "exec", "-t", "--exec-id", "t", "life", "sh", "-c", "busybox readlink /proc/self/fd/0; exit 4")
        done = run(
            "script", "-qec", shlex.join([*ctr.base, *words]), "/dev/null", check=False, stdin=subprocess.DEVNULL
        )
        assert "/dev/pts/0\n" in done.stdout
        assert done.returncode == 4
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

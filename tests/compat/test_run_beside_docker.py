"""The same `run` by docker and by veloci: what a program in the container sees, what is refused, with which status."""

import subprocess

import pytest
from box import _stored, box  # noqa: F401
from peers import Dockerd

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox", "dockerd")

SEEN = [  # options, command
    ("--cap-drop ALL --cap-add chown --cap-add net_admin", "grep Cap /proc/self/status"),
    ("--security-opt no-new-privileges --security-opt seccomp=unconfined", "grep -E NoNew|Seccomp: /proc/self/status"),
    ("-u guest --group-add 55", "id"),
    ("-u 7:8 -w /new/dir", "sh -c 'id; pwd; busybox stat -c %a:%u /new/dir'"),
    ("-h ship --domainname sea", "cat /etc/hostname /proc/sys/kernel/domainname"),
    ("--add-host a:1.2.3.4 --add-host b:::1", "cat /etc/hosts"),
    ("--tmpfs /t:size=1m,mode=1770,exec", "grep ' /t ' /proc/mounts"),
    ("--mount type=tmpfs,dst=/t,tmpfs-size=1m", "grep -c ' /t ' /proc/mounts"),
    ("--shm-size 3m", "busybox df /dev/shm"),
    ("--ulimit nofile=100:200 --ulimit core=0", "sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c'"),
    (
        "--sysctl net.ipv4.ip_forward=1 --oom-score-adj 300",
        "cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj",
    ),
    ("--device /dev/net/tun:/dev/wire:rw", "busybox stat -c %F:%t:%T:%a /dev/wire"),
    ("--read-only", "sh -c 'touch /x; touch /dev/shm/x && echo shm'"),
    ("--ipc none", "sh -c 'grep -c shm /proc/mounts; exit 3'"),
    ("--entrypoint echo", "a b"),
    ("--entrypoint=", "echo c"),
    ("-e A=1 -e B= -e NOT_HERE", "sh -c 'env | grep -E ^[ABN]'"),
    ("--init", "sh -c 'kill -TERM $$; sleep 1'"),
    ("--stop-signal TERM", "sh -c 'exit 42'"),
    ("", "nope"),
    ("", "/etc"),
    ("--init", "nope"),
    ("-u nobody", "true"),
    ("-w relative", "true"),
    ("--memory 1k", "true"),
    ("--cpus 99", "true"),
    ("--uts host -h x", "true"),
    ("--security-opt foo", "true"),
    ("-v /a:/x -v /b:/x", "true"),
    ("-v a/b:/x", "true"),
    ("--mount type=bind,src=/no/such,dst=/x", "true"),
    ("--mount type=wrong,dst=/x", "true"),
    ("--restart always", "true"),
    ("--sysctl vm.swappiness=1", "true"),
    ("--pull sometimes", "true"),
    ("--add-host a", "true"),
    ("--ulimit speed=1", "true"),
]


def same(text):
    """Output without its order: of lines, and of a mount's options."""
    return sorted(",".join(sorted(line.split(","))) for line in text.splitlines())


def test_a_program_sees_the_same_and_the_same_is_refused(box, tmp_path):  # noqa: F811
    import shlex

    box.ok("create", "--name", "source", "bb", "true")
    box.ok("export", "-o", tmp_path / "bb.tar", "source")
    box.ok("rm", "source")
    with Dockerd("/tmp/veloci-test-beside") as docker:
        subprocess.run([*docker, "import", tmp_path / "bb.tar", "bb"], check=True, capture_output=True)
        different = {}
        for options, command in SEEN:
            words = ["run", "--rm", "--network", "none", *options.split(), "bb", *shlex.split(command)]
            theirs = subprocess.run([*docker, *words], capture_output=True, check=False, text=True, timeout=60)
            ours = box.veloci(*words)
            one, two = (ours.returncode, same(ours.stdout)), (theirs.returncode, same(theirs.stdout))
            if one != two:
                different[options, command] = (one, ours.stderr, two, theirs.stderr)
    assert different == {}

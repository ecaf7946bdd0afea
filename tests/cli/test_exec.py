"""exec: environment, user, directory, in the background, privileges; what cannot be, and nothing left behind."""

from pathlib import Path

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


def test_it_has_the_containers_environment_and_more(box, tmp_path):
    box.started("--name", "it", "-e", "A=1", "-e", "B=2", "-w", "/etc", "--hostname", "inside", "bb", "sleep", "60")
    (tmp_path / "env").write_text("# a comment\nC=3\nD=from file\n")
    words = ("exec", "--env-file", str(tmp_path / "env"), "-e", "B=new", "-e", "D=4", "it", "sh", "-c")
    assert box.ok(*words, "echo $A $B $C $D; pwd; hostname; echo $HOME").splitlines() == [
        "1 new 3 4",
        "/etc",
        "inside",
        "/root",
    ]


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("guest", "uid=1000(guest) gid=1000(guest) groups=1000(guest)\n/tmp\n"),
        ("1000", "uid=1000(guest) gid=1000(guest) groups=1000(guest)\n/tmp\n"),
        ("5:6", "uid=5 gid=6 groups=6\n/\n"),
    ],
)
def test_it_runs_as_whom_it_is_told(box, user, shown):
    box.started("--name", "it", "bb", "sleep", "60")
    assert box.ok("exec", "-u", user, "-w", "/bin", "it", "sh", "-c", "id; echo $HOME") == shown
    assert box.ok("exec", "-u", user, "-w", "/bin", "it", "pwd") == "/bin\n"


def test_an_unknown_user_is_refused(box):
    box.started("--name", "it", "bb", "sleep", "60")
    done = box.veloci("exec", "-u", "nobody", "it", "id")
    assert done.returncode in (1, 126)
    assert done.stderr.startswith("veloci: --user: unable to find user nobody: no matching entries in passwd file\n")


def test_it_has_the_containers_capabilities_or_with_privileged_all(box):
    box.started("--name", "it", "--cap-drop", "ALL", "bb", "sleep", "60")
    effective = ("it", "grep", "CapEff", "/proc/self/status")
    assert box.ok("exec", *effective).split()[1] == "0" * 16
    assert int(box.ok("exec", "--privileged", *effective).split()[1], 16).bit_count() > 35
    assert box.ok("exec", "--privileged", "-u", "guest", *effective).split()[1] != ""


def test_in_the_background_it_goes_on_alone(box):
    box.started("--name", "it", "bb", "sleep", "60")
    assert box.ok("exec", "-d", "it", "sh", "-c", "sleep 0.3; echo done >/done; exit 3") == ""
    assert box.veloci("exec", "it", "test", "-e", "/done").returncode == 1
    until(lambda: box.veloci("exec", "it", "test", "-e", "/done").returncode == 0)


def test_it_is_in_the_containers_cgroup_and_ends_with_it(box):
    id = box.started("--name", "it", "--memory", "64m", "bb", "sleep", "60")
    with box.background("exec", "it", "sleep", "50") as client:
        group = Path("/sys/fs/cgroup/pids") / f"veloci-{id}"
        until(lambda: len(group.joinpath("cgroup.procs").read_text().split()) == 2)
        box.ok("rm", "-f", "it")
        assert client.wait(20) == 137


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_another_runtime_does_it_too(box, runtime):
    box.started("--name", "it", "--runtime", runtime, "bb", "sleep", "60")
    done = box.veloci(
        "exec", "-i", "-e", "A=1", "-u", "guest", "it", "sh", "-c", "cat; echo $A; id -u >&2; exit 4", input="in\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("in\n1\n", "1000\n", 4)
    with box.terminal("exec", "-it", "it", "sh", "-c", "stty size; exit 5", rows=33, columns=99) as t:
        t.sees("33 99")
        assert t.ends()[0] == 5
    assert box.veloci("exec", "it", "nope").returncode == 127


def test_what_does_not_run_cannot_be_entered(box):
    box.ok("create", "--name", "it", "--network", "none", "bb", "sleep", "60")
    done = box.veloci("exec", "it", "true")
    assert (done.returncode, done.stderr) == (1, "veloci: container it is not running\n  try: veloci start it\n")
    box.ok("start", "it")
    box.ok("pause", "it")
    done = box.veloci("exec", "it", "true")
    assert (done.returncode, done.stderr) == (1, "veloci: container it is paused\n  try: veloci unpause it\n")
    box.ok("unpause", "it")
    assert box.veloci("exec", "nobody", "true").returncode == 1
    assert box.veloci("exec", "it").returncode == 1
